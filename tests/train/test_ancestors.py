"""Promises of GLIDE, ADM and NCSN as trained here: recipes end in bundles that draw what they were shown."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from support.tiny_bundles import parts_of
from support.tiny_recipe import HEAD
from unclip import cli, load, recipes
from unclip.bundle import Bundle, Part, save_bundle
from unclip.config import to_dict
from unclip.data.corpus import Corpus
from unclip.data.prepare.run import build_folder
from unclip.diffusion.defaults import LangevinUpdates, Sampling
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.drawing import Picture
from unclip.errors import InputError
from unclip.images import to_tensor
from unclip.manifest import read_sampling
from unclip.models.adm import Classifier
from unclip.models.noised_clip import NoisedCLIP
from unclip.models.upsampler import Upsampler, UpsamplerConfig
from unclip.native import kind_of
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.tasks.glide import GlideTask

SIDE = 16
COLOURS = {"red": (220, 30, 30), "green": (20, 160, 60), "blue": (40, 60, 220), "black": (10, 10, 10)}
SHAPES = {"disc": (4, 4, 28, 28), "square": (8, 8, 24, 24), "stripe": (2, 12, 30, 20)}

UNET = """
image_size = 16
channels = 32
widths = [48]
blocks = 1
attention = [1]
head_channels = 48
patch = 2
"""
TRAIN = """
batch = 16
learning_rate = 5e-3
optimiser = "muon"
warmup = 5
ema = [0.9]
log_steps = 5
preview_steps = 0
tensorboard = false
precision = "float32"
"""
GLIDE = f"""
{HEAD.format(family="glide", name="tiny")}
[tokenizer]
vocabulary = 300
[noised-clip.model]
embedding = 16
scale = 10.0
[noised-clip.model.image]
kind = "vit"
image_size = 16
patch = 8
width = 32
layers = 1
heads = 2
[noised-clip.model.text]
kind = "transformer"
context = 16
width = 32
layers = 1
heads = 2
[noised-clip.train]
steps = 40
evaluate_steps = 40
{TRAIN}
[glide.model]
{UNET}
dropout = 0.0
[glide.model.caption]
context = 16
width = 32
layers = 1
heads = 2
[glide.diffusion]
schedule = "cosine"
prediction = "x0"
[glide.sampling]
steps = 12
sampler = "dpm++"
guidance = 2.0
threshold = "static"
[glide.train]
steps = 90
evaluate_steps = 45
{TRAIN}
"""
ADM = f"""
{HEAD.format(family="adm", name="tiny")}
[classifier.model]
{UNET}
[classifier.task.pictures]
by = "style"
[classifier.train]
steps = 40
evaluate_steps = 40
{TRAIN}
[adm.model]
{UNET}
[adm.task.pictures]
by = "style"
[adm.diffusion]
schedule = "cosine"
prediction = "x0"
[adm.sampling]
steps = 12
sampler = "dpm++"
guidance = 1.0
threshold = "static"
[adm.train]
steps = 90
evaluate_steps = 45
{TRAIN}
"""
NCSN = f"""
{HEAD.format(family="adm", name="tiny")}
[adm.model]
{UNET}
[adm.diffusion]
schedule = "geometric"
prediction = "epsilon"
steps = 16
sigma_range = [0.1, 4.0]
[adm.sampling]
steps = 16
sampler = "langevin"
[adm.sampling.langevin]
steps = 8
step_size = 4e-3
[adm.train]
steps = 180
evaluate_steps = 90
{TRAIN}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shapes, each in three places; the style says the colour."""
    folder = tmp_path_factory.mktemp("corpus")
    source, rows = folder / "shapes", []
    source.mkdir()
    for colour, paint in COLOURS.items():
        for shape, (left, top, right, bottom) in SHAPES.items():
            for place in (-1, 0, 1):
                image = Image.new("RGB", (32, 32), "white")
                draw, box = ImageDraw.Draw(image), (left + place, top, right + place, bottom)
                (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=paint)
                name = f"{colour}-{shape}-{place}.png"
                image.save(source / name)
                row = {"file_name": name, "text": f"a {colour} {shape}", "concept": shape, "style": colour}
                rows.append(json.dumps(row))
    (source / "metadata.jsonl").write_text("\n".join(rows))
    for _ in build_folder(source, folder / "corpus", size=32):
        pass
    return folder / "corpus"


def run_of(folder: Path, corpus: Path, text: str, *settings: str) -> Run:
    path = folder / "tiny.toml"
    path.write_text(text)
    return Run(recipes.load(path, settings), corpus, folder / "run", torch.device("cpu"))


@pytest.fixture(scope="module")
def glide(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("glide"), corpus, GLIDE).go()


@pytest.fixture(scope="module")
def adm(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("adm"), corpus, ADM).go()


@pytest.fixture(scope="module")
def ncsn(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("ncsn"), corpus, NCSN).go()


def lines(run: Path, stage: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def drawn(run: Path, prompt: str, **settings: Any) -> np.ndarray:
    """Eight pictures, (8, S, S, 3)."""
    model = load(run / "bundle", precision="float32")
    pictures: list[Picture] = model.generate(prompt, n=8, seed=1, size=SIDE, **settings)
    return np.stack([np.asarray(picture.image) for picture in pictures])


def tensors(pictures: np.ndarray) -> Tensor:
    """(M, 3, S, S) of (M, S, S, 3)."""
    return torch.stack([to_tensor(Image.fromarray(picture)) for picture in pictures])


def nearest(corpus: Path, pictures: np.ndarray) -> tuple[list[str], float]:
    """The judge: the colours of the training pictures that are nearest by pixels, and how near they are."""
    train = Corpus(corpus)
    known = train.pixels(SIDE).reshape(len(train), -1).astype(float)
    asked = pictures.reshape(len(pictures), -1).astype(float)
    distance = np.sqrt(((asked[:, None] - known) ** 2).mean(-1))  # (M, N)
    styles = train.column("style")
    return [styles[position] for position in distance.argmin(1)], float(distance.min(1).mean())


def noise_distance(corpus: Path) -> float:
    return nearest(corpus, np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3)))[1]


@pytest.mark.parametrize(
    ("run", "stage", "share"),
    [
        ("glide", "noised-clip", 0.85),
        ("glide", "glide", 0.4),
        ("adm", "classifier", 0.6),
        ("adm", "adm", 0.4),
        ("ncsn", "adm", 0.5),
    ],
)
def test_losses_fall(run: str, stage: str, share: float, request: pytest.FixtureRequest) -> None:
    losses = [line["loss"] for line in lines(request.getfixturevalue(run), stage, "train")]
    assert losses[-1] < share * losses[0]


def test_held_out_pictures_are_judged_too(glide: Path, adm: Path, ncsn: Path) -> None:
    for run, stage in ((glide, "glide"), (adm, "adm"), (ncsn, "adm")):
        before, after = (line["held_out_loss"] for line in lines(run, stage, "evaluate"))
        assert after < before
    (figures,) = lines(adm, "classifier", "evaluate")
    assert figures["accuracy_at_0%"] > 0.7 > 1 / len(COLOURS)
    assert figures["accuracy_at_75%"] > 0.4
    (figures,) = lines(glide, "noised-clip", "evaluate")
    assert figures["recall_at_1_en_at_50%"] > 0.5


@pytest.mark.parametrize("settings", [{}, {"guidance": 1.0}, {"guidance": 1.0, "clip_guidance": 1.0}])
def test_glide_draws_what_the_caption_says(glide: Path, corpus: Path, settings: dict[str, float]) -> None:
    for colour in ("red", "blue"):
        colours, distance = nearest(corpus, drawn(glide, f"a {colour} disc", **settings))
        assert distance < 0.5 * noise_distance(corpus)
        assert colours.count(colour) >= 6


def test_a_noised_clip_guides(glide: Path) -> None:
    """It moves the pictures of a caption towards it, as it sees them itself."""
    plain, guided = (drawn(glide, "a disc", guidance=1.0, clip_guidance=scale) for scale in (0.0, 3.0))
    assert np.abs(plain.astype(float) - guided).mean() > 1
    bundle = Bundle.load(glide / "bundle")
    model, tokens = bundle.model("noised-clip", dtype=torch.float32), bundle.tokenizer().batch(["a disc"], 16)
    assert isinstance(model, NoisedCLIP)
    text, clean = model.encode_text(tokens.ids, tokens.mask), torch.zeros(8)
    before, after = (float(model.similarity(tensors(seen), clean, text).mean()) for seen in (plain, guided))
    assert after > before


def test_adm_draws_its_class(adm: Path, corpus: Path) -> None:
    for colour in ("green", "red"):
        colours, distance = nearest(corpus, drawn(adm, colour))
        assert distance < 0.6 * noise_distance(corpus)
        assert colours.count(colour) >= 6
    assert load(adm / "bundle").bundle.config("adm").labels == tuple(sorted(COLOURS))


def test_the_classifier_guides(adm: Path) -> None:
    model = Bundle.load(adm / "bundle").model("classifier", dtype=torch.float32)
    assert isinstance(model, Classifier)
    sure = []
    for scale in (0.0, 5.0):
        images = tensors(drawn(adm, "red", guidance=scale))
        classes = torch.full((len(images),), sorted(COLOURS).index("red"))
        sure.append(float(model.log_probability(images, torch.zeros(len(images)), classes).mean()))
    assert sure[1] > sure[0]


def test_ncsn_draws_by_langevin_dynamics_and_by_the_other_samplers(ncsn: Path, corpus: Path) -> None:
    for settings in ({}, {"sampler": "ancestral"}):
        _, distance = nearest(corpus, drawn(ncsn, "anything", **settings))
        assert distance < 0.8 * noise_distance(corpus)
    model = load(ncsn / "bundle", precision="float32")
    last = [event for event in model.stream("anything", seed=1, size=SIDE) if event.stage == "adm"][-1]
    assert last.step == last.total == 16 * 8 + 1


def test_the_command_line_draws(glide: Path, adm: Path, tmp_path: Path) -> None:
    common = ["--size", str(SIDE), "--seed", "1", "--out", str(tmp_path / "drawn")]
    clip = ["--clip-guidance", "2", "--guidance", "1.5"]
    assert cli.main(["generate", "a red disc", "--model", str(glide / "bundle"), *clip, *common]) == 0
    assert cli.main(["generate", "green", "--model", str(adm / "bundle"), "--guidance", "2", *common]) == 0
    assert len(list((tmp_path / "drawn").iterdir())) == 2


def test_the_sweep_knows_what_guides_a_bundle(
    glide: Path, adm: Path, ncsn: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    script = importlib.import_module("guidance")
    assert list(script.scales_of(load(glide / "bundle"))) == ["guidance", "clip_guidance"]
    model = load(adm / "bundle")
    assert script.scales_of(model)["guidance"][0] == 0
    assert script.column_of(model, Corpus(corpus)) == "style"
    with pytest.raises(InputError, match="no guidance to sweep"):
        script.scales_of(load(ncsn / "bundle"))


@pytest.mark.parametrize(("run", "prompt"), [("glide", "a red disc"), ("adm", "red")])
def test_unclips_upsamplers_enlarge(
    run: str, prompt: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = Bundle.load(request.getfixturevalue(run) / "bundle")
    parts = parts_of(bundle)
    upsampler = UpsamplerConfig(
        low_size=SIDE, high_size=4 * SIDE, patch=4, channels=8, multipliers=(1,), blocks=1
    )
    diffusion = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.X0)
    parts["upsampler-64"] = Part(Upsampler(upsampler), diffusion=diffusion, sampling=Sampling(2))
    save_bundle(tmp_path / "bundle", name="larger", parts=parts, card="", family=bundle.family)
    model = load(tmp_path / "bundle", precision="float32")
    assert model.sizes == (SIDE, 4 * SIDE)
    events = list(model.stream(prompt, seed=1, size=4 * SIDE))
    assert events[-1].pictures[0].image.size == (4 * SIDE, 4 * SIDE)
    assert {event.stage: event.step for event in events} == {event.stage: event.total for event in events}


def test_langevin_dynamics_wants_geometric_noise_levels(glide: Path) -> None:
    with pytest.raises(InputError, match="langevin walks down geometric noise levels, .* a cosine schedule"):
        drawn(glide, "a red disc", sampler="langevin")
    with pytest.raises(InputError, match="langevin updates belong to langevin"):
        Sampling(4, sampler="ddim", langevin=LangevinUpdates())


def test_some_captions_are_replaced_by_the_empty_one(corpus: Path, tmp_path: Path) -> None:
    task = run_of(tmp_path, corpus, GLIDE).task("glide")
    assert isinstance(task, GlideTask)
    images, tokens = task.batch(Places.whole(64))
    _, seen = task.dropped((images, tokens), Places.whole(64))
    lengths, before = seen.mask.sum(1), tokens.mask.sum(1)
    empty = lengths == int(task.empty.mask.sum())
    assert 0.05 < float(empty.float().mean()) < 0.4
    assert torch.equal(lengths[~empty], before[~empty])
    assert torch.equal(seen.ids[~empty][:, : tokens.ids.shape[1]], tokens.ids[~empty])


@pytest.mark.parametrize(
    ("text", "stage", "settings", "match"),
    [
        (GLIDE, "glide", ["glide.model.fills_in=true"], "fills_in True"),
        (GLIDE, "noised-clip", ["noised-clip.task={locked=true}"], r"locked: pictures are noised anew"),
        (ADM, "adm", ["adm.model.low_size=8"], "low_size: got 8, but what is trained here enlarges nothing"),
        (ADM, "adm", ["adm.task.pictures.by=subgroup"], "has a subgroup: build the corpus anew"),
        (ADM, "classifier", ["classifier.task.pictures.by=null"], "say what the classes are"),
        (ADM, "classifier", ["classifier.task.pictures.by=concept"], "drawn by style, .* by concept"),
    ],
)
def test_what_cannot_be_trained_is_said(
    text: str, stage: str, settings: list[str], match: str, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=match):
        run_of(tmp_path, corpus, text, *settings).task(stage)


@pytest.mark.parametrize(
    ("name", "stage", "setting"),
    [
        ("pictograms-glide", "noised-clip", "noised-clip.task.pictures.sources={}"),
        ("pictograms-glide", "glide", "glide.task.pictures.sources={}"),
        ("pictograms-adm", "classifier", "adm.task.pictures.by=style"),
        ("pictograms-adm", "adm", "adm.task.pictures.by=style"),
        ("ncsn", "adm", "adm.task.pictures.sources={}"),
    ],
)
def test_shipped_recipes_make_their_tasks(
    name: str, stage: str, setting: str, corpus: Path, tmp_path: Path
) -> None:
    """At their real size; only what the small corpus lacks is changed."""
    recipe = recipes.load(name, [setting])
    if stage == "classifier":
        recipe["classifier"]["task"]["pictures"]["by"] = "style"
    run = Run(recipe, corpus, tmp_path, torch.device("cpu"))
    task = run.task(stage)
    assert 3e6 < sum(parameter.numel() for parameter in task.model.parameters()) < 2e7
    if "sampling" in recipe[stage]:
        model = task.model
        sampling = read_sampling(kind_of(model), to_dict(model.config), recipe[stage]["sampling"], stage)
        assert sampling.sampler == ("langevin" if name == "ncsn" else "dpm++")
    assert recipe["bundle"]["shares"]


def test_a_guide_needs_the_noise_levels_of_what_it_guides(corpus: Path, tmp_path: Path) -> None:
    alone = run_of(tmp_path, corpus, ADM)
    recipe = {name: table for name, table in alone.recipe.items() if name != "adm"}
    with pytest.raises(InputError, match="no stage adm"):
        Run(recipe, corpus, tmp_path / "run", torch.device("cpu")).task("classifier")
