"""Promises of the sequence: captioned pictures become a bundle that draws, one stage after another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from unclip import load, recipes
from unclip.bundle import Bundle
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.folder import build_folder
from unclip.data.records import Split
from unclip.errors import InputError, UnclipError
from unclip.families.unclip import UnCLIP
from unclip.images import from_uint8
from unclip.models.ar_prior import ArPrior
from unclip.models.code_sampling import CodeSampling
from unclip.models.decoder import FIRST_WEIGHT
from unclip.models.embedding_codes import PrincipalComponents
from unclip.train.sequence import Sequence
from unclip.train.tasks.decoder import DecoderTask

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("circle", "square", "stripe", "frame")
STYLES = ("thin", "thick")

TINY = """
description = "tiny"
family = "unclip"
[bundle]
name = "tiny"
licence = "CC0-1.0"
data = "shapes"
command = "unclip train tiny.toml"
limits = "It knows shapes."
[tokenizer]
vocabulary = 300
[clip.model]
embedding = 16
[clip.model.image]
kind = "vit"
image_size = 32
patch = 16
width = 16
layers = 1
heads = 2
[clip.model.text]
kind = "transformer"
context = 24
width = 16
layers = 1
heads = 2
[clip.train]
steps = 3
batch = 8
evaluate_steps = 2
[prior.model]
context = 24
width = 16
layers = 1
heads = 2
[prior.diffusion]
schedule = "cosine"
prediction = "x0"
[prior.sampling]
steps = 3
[prior.train]
steps = 3
batch = 8
evaluate_steps = 3
[ar-prior.model]
context = 24
buckets = 16
dot_buckets = 4
width = 16
layers = 1
heads = 2
[ar-prior.sampling]
guidance = 2.0
[ar-prior.task]
variance = 0.9
[ar-prior.train]
steps = 3
batch = 8
evaluate_steps = 3
[upsampler-256.model]
patch = 8
channels = 8
multipliers = [1, 2]
blocks = 1
dropout = 0.0
[upsampler-256.diffusion]
schedule = "cosine"
prediction = "v"
[upsampler-256.sampling]
steps = 2
[upsampler-256.train]
steps = 2
batch = 4
preview_steps = 2
[upsampler-1024.model]
low_size = 256
high_size = 1024
patch = 32
channels = 16 # with fewer, oneDNN 3.12 on AMX writes beyond the bias gradient
multipliers = [1]
blocks = 1
dropout = 0.0
[upsampler-1024.diffusion]
schedule = "linear"
prediction = "v"
[upsampler-1024.sampling]
steps = 2
[upsampler-1024.task]
crop = 256
degradation = "bsr"
[upsampler-1024.train]
steps = 2
batch = 2
[layout.model]
side = 8
width = 64
[layout.train]
steps = 60
batch = 32
learning_rate = 3e-3
warmup = 0
evaluate_steps = 60
preview_steps = 60
ema = []
[decoder.model]
image_size = 64
patch = 8
channels = 8
multipliers = [1, 2]
blocks = 1
attention = [2]
head_channels = 8
context = 8
noisy_embedding = true
[decoder.diffusion]
schedule = "cosine"
prediction = "v"
learned_range = true
[decoder.sampling]
steps = 3
noise_level = 0.1
[decoder.task]
embedding_noise = 0.5
weighting = "soft-min-snr"
[decoder.train]
steps = 3
batch = 4
preview_steps = 3
evaluate_steps = 3
"""


def draw(folder: Path) -> None:
    """Forty-eight shapes as SVG, with captions."""
    folder.mkdir()
    lines = []
    bodies = {
        "circle": '<circle cx="32" cy="32" r="20" {}/>',
        "square": '<rect x="12" y="12" width="40" height="40" {}/>',
        "stripe": '<path d="M4 40 L60 24" {}/>',
        "frame": '<rect x="6" y="16" width="52" height="30" rx="6" {}/>',
    }
    for colour in COLOURS:
        for shape in SHAPES:
            for style in STYLES:
                width = {"thin": 3, "thick": 9}[style]
                paint = f'fill="none" stroke="{colour}" stroke-width="{width}"'
                body = bodies[shape].format(paint)
                name = f"{colour}-{shape}-{style}.svg"
                svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{body}</svg>'
                (folder / name).write_text(svg)
                captions = {"en": [f"a {colour} {shape}"], "de": [f"{shape} ({colour})"]}
                concept = f"{colour} {shape}"
                line = {"file_name": name, "captions": captions, "concept": concept, "style": style}
                lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    draw(folder / "shapes")
    for _ in build_folder(folder / "shapes", folder / "corpus", large=3):
        pass
    return folder / "corpus"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def run(corpus: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run. Do not change it."""
    out = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)  # the same first weights whatever ran before
    return Sequence(recipes.load(recipe), corpus, out, torch.device("cpu")).run()


def test_a_run_ends_in_a_bundle_that_draws(run: Path) -> None:
    model = load(run / "bundle")
    (picture,) = model.generate("a red circle", seed=1, size=1024)
    assert picture.image.size == (1024, 1024)
    assert model.bundle.components["prior"].licence == "CC0-1.0"


def test_the_bundle_holds_both_priors(run: Path) -> None:
    """And with the weights of the autoregressive one all that turns its codes into embeddings."""
    bundle = Bundle.load(run / "bundle")
    component = bundle.component("ar-prior")
    assert component.codes == CodeSampling(guidance=2.0)
    prior = bundle.model("ar-prior", dtype=torch.float32)
    assert isinstance(prior, ArPrior)
    (file,) = run.glob("embeddings-*.npy")
    embeddings = torch.from_numpy(np.load(file))
    components = PrincipalComponents.of(embeddings)
    assert prior.config.components == components.count(0.9)
    torch.testing.assert_close(prior.codes.mean, components.mean)
    restored = prior.codes.decode(prior.codes.encode(embeddings))
    assert (restored - embeddings).pow(2).mean() < 0.15 * embeddings.var(0).mean()
    model = load(run / "bundle")
    (picture,) = model.generate("a red circle", seed=1, size=64, prior="ar")
    assert picture.settings["prior"] == "ar"


def test_the_decoder_begins_with_a_layout_that_knows_the_pictures(
    run: Path, corpus: Path, recipe: Path
) -> None:
    """Its loss falls below that of the mean picture; and in the bundle it is a part of the decoder."""
    lines = [json.loads(line) for line in (run / "layout" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    pixels = from_uint8(Corpus(corpus).pixels(64))
    cells = torch.nn.functional.avg_pool2d(pixels, 8)
    assert losses[-1] < 0.9 * float((cells - cells.mean(0)).square().mean())
    assert {"error", "error_of_the_mean_picture"} <= {name for line in lines for name in line}
    assert (run / "layout" / "previews" / "step-000060.png").is_file()
    task = Sequence(recipes.load(recipe), corpus, run, torch.device("cpu")).task("decoder")
    assert isinstance(task, DecoderTask)
    layout = task.model.layout
    assert layout is not None
    trained = load_file(run / "layout" / "final" / "raw.safetensors")
    assert all(torch.equal(weight, trained[name]) for name, weight in layout.state_dict().items())
    bundle = Bundle.load(run / "bundle")
    assert "layout" not in bundle.components
    assert bundle.model("decoder").config.layout == layout.config


def test_the_ar_prior_learns_and_says_how_well(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    again = Path(
        shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("ar-prior", "bundle"))
    )
    settings = recipes.load(
        recipe,
        [
            "ar-prior.train.steps=60",
            "ar-prior.train.learning_rate=1e-2",
            "ar-prior.train.warmup=0",
            "ar-prior.train.log_steps=10",
            "ar-prior.train.evaluate_steps=60",
        ],
    )
    torch.manual_seed(0)
    Sequence(settings, corpus, again, torch.device("cpu")).run("ar-prior")
    lines = [json.loads(line) for line in (again / "ar-prior" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0] - 0.2  # nats a code
    assert losses[-1] < np.log(16)  # what guessing costs
    (figures,) = [line for line in lines if line["kind"] == "evaluate"]
    assert figures["nats_a_code_en"] > 0  # of the one held-out picture, which so many steps need not help
    assert 0.9 < figures["cosine_of_codes"] <= 1
    assert {"nats_a_code_without_caption", "cosine_de", "recall_at_1_ko"} <= set(figures)


def test_a_stopped_ar_prior_ends_with_the_same_bits(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    settings = ["ar-prior.train.schedule=constant"]
    weights = []
    for name, steps in (("at-once", [4]), ("stopped", [2, 4])):
        again = tmp_path / name
        shutil.copytree(run, again, ignore=shutil.ignore_patterns("ar-prior", "bundle"))
        for count in steps:
            table = recipes.load(recipe, [*settings, f"ar-prior.train.steps={count}"])
            torch.manual_seed(0)  # both runs begin with the same weights
            Sequence(table, corpus, again, torch.device("cpu")).run("ar-prior")
        weights.append(load_file(again / "ar-prior" / "final" / "raw.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_card_tells_what_was_done(run: Path, corpus: Path) -> None:
    card = (run / "bundle" / "README.md").read_text()
    assert "It knows shapes." in card
    assert "unclip train tiny.toml" in card
    assert f"{len(Corpus(corpus)):,} captioned pictures" in card
    steps = {
        row.split("|")[1].strip(): row.split("|")[3].strip()
        for row in card.splitlines()
        if row.count("|") == 6
    }
    assert (steps["clip"], steps["layout"], steps["decoder"]) == ("3", "60", "3")
    assert "recall at 1 de" in card
    assert "| decoder | 3 | cosine |" in card


def test_every_stage_leaves_its_figures_and_pictures(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {"tokenizer.json", "clip", "prior", "decoder", "bundle"}
    assert (run / "decoder" / "previews" / "step-000003.png").is_file()
    evaluated = [
        line for line in (run / "prior" / "metrics.jsonl").read_text().splitlines() if "evaluate" in line
    ]
    assert "recall_at_1_text_embedding_ko" in evaluated[-1]


def test_a_finished_run_is_not_trained_again(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(run, tmp_path / "again"))
    before = (again / "decoder" / "final" / "ema-0.safetensors").stat().st_mtime_ns
    Sequence(recipes.load(recipe), corpus, again, torch.device("cpu")).run()
    assert (again / "decoder" / "final" / "ema-0.safetensors").stat().st_mtime_ns == before


def test_more_steps_go_on_where_it_stopped(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    longer = Path(shutil.copytree(run, tmp_path / "longer"))
    settings = recipes.load(recipe, ["upsampler-256.train.steps=4"])
    Sequence(settings, corpus, longer, torch.device("cpu")).run("upsampler-256")
    lines = (longer / "upsampler-256" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == [2, 4]


def test_one_stage_alone(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    Sequence(recipes.load(recipe), corpus, tmp_path, torch.device("cpu")).run("upsampler-256")
    assert {path.name for path in tmp_path.iterdir()} == {"upsampler-256"}


def test_an_unknown_stage_is_refused(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown stage 'upsampler': .*upsampler-256"):
        Sequence(recipes.load(recipe), corpus, tmp_path, torch.device("cpu")).run("upsampler")


@pytest.mark.parametrize("contrast", ["siglip", "supervised"])
def test_other_contrasts_train(contrast: str, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    settings = [
        f"clip.task.contrast={contrast}",
        f"clip.model.logit_bias={str(contrast == 'siglip').lower()}",
    ]
    text = recipe.read_text() + "\n[clip.task]\n"
    other = tmp_path / "other.toml"
    other.write_text(text)
    out = tmp_path / "run"
    Sequence(recipes.load(other, settings), corpus, out, torch.device("cpu")).run("clip")
    assert (out / "clip" / "final" / "ema-0.safetensors").is_file()


@pytest.mark.parametrize("splits", ["train", "all"])
def test_a_judge_learns_from_held_out_pictures_too(
    splits: str, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    settings = recipes.load(recipe)
    settings["clip"]["task"] = {"splits": splits}
    task = Sequence(settings, corpus, tmp_path, torch.device("cpu")).clip_task()
    assert len(task.pictures.corpus) == len(Corpus(corpus, EVERYTHING if splits == "all" else Split.TRAIN))


def test_no_other_stage_learns_from_held_out_pictures(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    settings = recipes.load(recipe)
    settings["prior"]["task"] = {"splits": "all"}
    with pytest.raises(InputError, match=r"unknown key 'prior\.task\.splits'"):
        Sequence(settings, corpus, tmp_path, torch.device("cpu")).run()


def test_a_decoder_can_be_fed_text_embeddings(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """Part (a) of the paper's ablation: it never sees the embedding of a picture."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("decoder")))
    fed = tmp_path / "fed.toml"
    fed.write_text(recipe.read_text().replace("[decoder.task]", '[decoder.task]\nfed = "text"'))
    sequence = Sequence(recipes.load(fed), corpus, again, torch.device("cpu"))
    assert sequence.weights("decoder").is_file()
    task = sequence.task("decoder")
    assert isinstance(task, DecoderTask)
    images, embedding, tokens = task.batch(4, torch.Generator().manual_seed(1))
    losses = [
        task.loss(task.model, (images, seen, tokens), torch.Generator().manual_seed(2))[0].item()
        for seen in (embedding, torch.randn(embedding.shape))
    ]
    assert losses[0] == losses[1]
    spread = task.model.whitening.whiten(task.encoded.text(tokens)[0]).std()
    assert 0.3 < float(spread) < 3  # of the scale of texts, not of pictures


def test_a_finished_decoder_learns_to_fill_in(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """It begins as the decoder of a bundle, its loss falls, and `edit` uses what it learned by itself."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("decoder", "bundle")))
    text = recipe.read_text().replace(
        "[decoder.model]", f'[decoder]\nstart = "{run / "bundle"}"\n[decoder.model]'
    )
    sizes = text[text.index("[decoder.model]") : text.index("[decoder.diffusion]")]
    other = tmp_path / "inpainting.toml"
    other.write_text(text.replace(sizes, "[decoder.model]\ninpainting = true\n"))  # the rest is the bundle's
    sequence = Sequence(recipes.load(other), corpus, again, torch.device("cpu"))
    task = sequence.task("decoder")
    assert isinstance(task, DecoderTask)
    plain = Bundle.load(run / "bundle").model("decoder", dtype=torch.float32)
    state = task.model.state_dict()
    for name, weight in plain.state_dict().items():
        own = name == FIRST_WEIGHT or name.startswith("layout.")  # the layout is that of the run
        assert own or torch.equal(state[name], weight)

    def loss() -> torch.Tensor:
        batch = task.batch(24, torch.Generator().manual_seed(1))
        return task.loss(task.model, batch, torch.Generator().manual_seed(2))[0]

    before, optimiser = loss().item(), torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for _ in range(12):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.9 * before
    seen = task.model.unet.conv_in.weight[:, 3 * task.model.config.patch**2 :]
    assert bool((seen != 0).any())  # they began as zeros
    sequence.run()
    model = load(again / "bundle")
    assert isinstance(model, UnCLIP)
    picture = Image.new("RGB", (64, 64), (200, 30, 40))
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 32))
    (edited,) = model.edit(picture, mask, "a red circle", seed=1)
    assert (edited.metadata["rounds"], edited.metadata["steps"]) == ("1", "3")  # the recipe's own
    assert np.array_equal(np.asarray(edited.image)[32:], np.asarray(picture)[32:])
    larger = recipes.load(other, ["decoder.model.channels=16"])
    with pytest.raises(InputError, match="channels = 8, the recipe says 16"):
        Sequence(larger, corpus, again, torch.device("cpu")).task("decoder")


def test_the_sigmoid_loss_wants_its_bias(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text() + '\n[clip.task]\ncontrast = "siglip"\n')
    with pytest.raises(InputError, match="logit_bias"):
        Sequence(recipes.load(other), corpus, tmp_path / "run", torch.device("cpu")).run("clip")


def test_plain_pictures_without_styles_train_too(recipe: Path, tmp_path: Path) -> None:
    """Somebody's own folder: every picture its own concept, so that no pair is held out."""
    source = tmp_path / "own"
    source.mkdir()
    for k in range(6):
        image = Image.new("RGB", (80, 80), "white")
        ImageDraw.Draw(image).ellipse((10, 10, 20 + 10 * k, 70), fill=(40 * k, 100, 50))
        image.save(source / f"{k}.png")
        (source / f"{k}.txt").write_text(f"ellipse number {k}")
    for _ in build_folder(source, tmp_path / "corpus"):
        pass
    Sequence(recipes.load(recipe), tmp_path / "corpus", tmp_path / "run", torch.device("cpu")).run("clip")
    weights = tmp_path / "run" / "clip" / "final" / "ema-0.safetensors"
    assert weights.is_file()
    assert np.isfinite(weights.stat().st_size)


def test_stages_begin_with_finished_weights(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """Those of a bundle or a file; the tokenizer must be theirs."""
    bundle = run / "bundle"
    settings = [
        f"clip.start={bundle}",
        "clip.model.image.patch_dropout=0.5",  # no matter of the weights
        f"prior.start={bundle / 'prior.safetensors'}",
    ]
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("bundle")))
    sequence = Sequence(recipes.load(recipe, settings), corpus, again, torch.device("cpu"))
    for stage in ("clip", "prior"):
        task, found = sequence.task(stage), Bundle.load(bundle).model(stage, dtype=torch.float32)
        for name, weight in found.state_dict().items():
            assert torch.equal(task.model.state_dict()[name], weight)


def test_the_card_says_what_a_run_began_with(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """And keeps what the card of that says of its training."""
    settings = [f"prior.start={run / 'bundle'}", "prior.train.steps=4", "bundle.name=again"]
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("bundle", "prior")))
    folder = Sequence(recipes.load(recipe, settings), corpus, again, torch.device("cpu")).run() / "bundle"
    card, first = (folder / "README.md").read_text(), Bundle.load(run / "bundle")
    assert f"prior began with the weights of the bundle `{first.name}`, {first.identity}." in card
    _, now, before = card.replace("## Trained before", "## Training").split("## Training\n")
    rows = [next(row for row in part.splitlines() if row.startswith("| prior |")) for part in (now, before)]
    assert [row.split(" | ")[2] for row in rows] == ["4", "3"]  # steps


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clip.model.embedding=12", r"clip\.start: .* has embedding = 16, the recipe says 12"),
        ("layout.start=pictograms", r"layout\.start: layout cannot begin with other weights"),
        ("prior.start=nowhere", r"nowhere"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    run: Path, corpus: Path, recipe: Path, setting: str, message: str
) -> None:
    settings = [f"clip.start={run / 'bundle'}", setting]
    sequence = Sequence(recipes.load(recipe, settings), corpus, run, torch.device("cpu"))
    with pytest.raises(UnclipError, match=message):
        sequence.task(setting.partition(".")[0])
