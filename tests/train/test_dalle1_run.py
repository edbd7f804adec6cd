"""Promises of DALL-E 1's stages: captioned pictures become a bundle that draws, and the losses fall."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from support import tiny
from support.tiny_recipe import CLIP, DALLE1, HEAD, VQGAN
from unclip import cli, load, native, recipes
from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.data.prepare.run import build_folder
from unclip.errors import BundleError, InputError
from unclip.models.codec import CodecTrainingConfig
from unclip.models.quantiser import Codebook, GumbelConfig, NearestConfig
from unclip.models.vqvae import VQVAEConfig
from unclip.models.vqvae_loss import CriticConfig, Reconstruction
from unclip.train.loop import Task
from unclip.train.pictures import PicturesConfig
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.tasks.dalle1 import Dalle1TaskConfig
from unclip.train.tasks.vqvae import VQVAETask, VQVAETaskConfig

TINY = f"""
{HEAD.format(family="dalle1", name="tiny-dalle1")}
{CLIP}
[clip.train]
steps = 2
batch = 8
{VQGAN}
unit = true
[vqvae.task]
size = 32
perceptual = 0.1
[vqvae.train]
steps = 4
batch = 8
evaluate_steps = 4
preview_steps = 4
{DALLE1}
tied = true
[dalle1.sampling]
guidance = 2.0
[dalle1.train]
steps = 4
batch = 8
learning_rate = 1e-2
warmup = 0
evaluate_steps = 4
preview_steps = 4
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four shapes with captions."""
    folder = tmp_path_factory.mktemp("corpus")
    source = folder / "shapes"
    source.mkdir()
    for colour in ("red", "green", "blue", "orange", "purple", "black"):
        for k, shape in enumerate(("ellipse", "square", "stripe", "frame")):
            image = Image.new("RGB", (96, 96), "white")
            box = ((10, 10, 86, 86), (20, 20, 76, 76), (6, 36, 90, 60), (12, 6, 60, 90))[k]
            draw = ImageDraw.Draw(image)
            (draw.ellipse if k == 0 else draw.rectangle)(box, fill=None if k == 3 else colour, outline=colour)
            image.save(source / f"{colour}-{shape}.png")
            (source / f"{colour}-{shape}.txt").write_text(f"a {colour} {shape}")
    for _ in build_folder(source, folder / "corpus"):
        pass
    return folder / "corpus"


def recipe(folder: Path, text: str = TINY, settings: list[str] | None = None) -> dict[str, Any]:
    path = folder / "tiny.toml"
    path.write_text(text)
    return recipes.load(path, settings or [])


def with_parts_of(run: Path, folder: Path) -> dict[str, Any]:
    """The recipe with all stages before the transformer from the bundle of a run."""
    settings = recipe(folder)
    for stage in ("tokenizer", "clip", "vqvae"):
        settings[stage] = {"bundle": str(run / "bundle")}
    return settings


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run. Do not change it."""
    folder = tmp_path_factory.mktemp("run")
    return Run(recipe(folder), corpus, folder / "out", torch.device("cpu")).go()


def test_a_run_ends_in_a_bundle_that_draws(run: Path) -> None:
    model = load(run / "bundle")
    assert model.bundle.family == "dalle1"
    assert set(model.bundle.components) == {"tokenizer", "clip", "codec", "transformer"}
    (picture,) = model.generate("a red square", seed=1, size=32)
    assert picture.image.size == (32, 32)
    assert picture.score is not None


def test_the_command_line_draws_from_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.png"
    Image.new("RGB", (20, 20), "red").save(start)
    arguments = ["generate", "a red square", "--model", str(run / "bundle"), "--size", "32", "--seed", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path / "plain")]) == 0
    chosen = ["--rerank", "4", "--top-k", "5", "--top-p", "0.9", "--temperature", "0.8"]
    assert cli.main([*arguments, *chosen, "--out", str(tmp_path / "chosen")]) == 0
    given = ["--start", str(start), "--keep-rows", "2"]
    assert cli.main([*arguments, *given, "--out", str(tmp_path / "completed")]) == 0
    paths = capsys.readouterr().out.split()
    assert len(paths) == 3
    assert all(Path(path).is_file() for path in paths)


def test_the_codec_in_the_bundle_holds_nothing_of_its_training(run: Path) -> None:
    codec = Bundle.load(run / "bundle").model("codec")
    trained = native.load_model(run / "vqvae" / "final" / "ema-0.safetensors")
    assert set(codec.state_dict()) == {
        name.removeprefix("codec.") for name in trained.state_dict() if name.startswith("codec.")
    }
    assert int(trained.get_buffer("pictures")) == 4 * 8


def test_figures_and_pictures_are_left_behind(run: Path) -> None:
    for stage, figures in {
        "vqvae": {"psnr", "usage", "perplexity"},
        "dalle1": {"nats_a_code_en", "nats_a_code_ko", "nats_a_code_without_caption"},
    }.items():
        lines = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        evaluated = [line for line in lines if line["kind"] == "evaluate"]
        assert figures <= set(evaluated[-1])
        assert (run / stage / "previews" / "step-000004.png").is_file()


def test_parts_may_be_those_of_another_bundle(
    run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_parts_of(run, tmp_path)
    out = Run(settings, corpus, tmp_path / "out", torch.device("cpu")).go()
    ours, theirs = Bundle.load(out / "bundle"), Bundle.load(run / "bundle")
    for name in ("tokenizer", "clip", "codec"):
        assert ours.component(name).sha256 == theirs.component(name).sha256
    assert not (out / "vqvae").exists()
    (own,) = load(out / "bundle", precision="float32").generate("a red square", size=32, seed=1)
    settings["bundle"]["shares"] = True
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    place = tmp_path / "data" / "unclip" / "bundles" / "tiny-dalle1"
    shutil.copytree(run / "bundle", place)
    settings["bundle"]["name"] = "light"
    light = Run(settings, corpus, tmp_path / "out", torch.device("cpu")).bundle()
    assert {path.name for path in light.iterdir()} == {"bundle.json", "README.md", "transformer.safetensors"}
    (other,) = load(light, precision="float32").generate("a red square", size=32, seed=1)
    assert own.image.tobytes() == other.image.tobytes()
    (place / "codec.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"codec\.safetensors was altered"):
        load(light)
    settings["clip"]["train"] = {"steps": 3}
    with pytest.raises(InputError, match="clip: bundle = .* says all of it, so leave out train"):
        Run(settings, corpus, tmp_path / "other", torch.device("cpu")).weights("clip")


def test_a_run_goes_on_with_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    """Counts, codebook and dead codes are part of the state."""
    changed = ["vqvae.task.perceptual=0.0", "vqvae.train.steps=6", "vqvae.train.schedule=constant"]
    first = recipe(tmp_path, settings=changed)
    for steps in (3, 6):
        first["vqvae"]["train"]["steps"] = steps
        Run(first, corpus, tmp_path / "b", torch.device("cpu")).go("vqvae")
    Run(recipe(tmp_path, settings=changed), corpus, tmp_path / "c", torch.device("cpu")).go("vqvae")
    stopped, whole = (
        native.load_model(tmp_path / name / "vqvae" / "final" / "raw.safetensors").state_dict()
        for name in "bc"
    )
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def train(task: Task, part: str, rate: float = 3e-3) -> list[float]:
    """Forty plain steps; this part of their losses."""
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate)
    losses = []
    for step in range(40):
        places = Places.whole(8, step=step)
        loss, parts = task.loss(task.model.train(), task.batch(places), places)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(parts[part]))
    return losses


CODEC = replace(tiny.CODEC, vocabulary=32, patch=8, unit=True)


@pytest.mark.parametrize("codebook", Codebook)
def test_a_codec_learns(codebook: Codebook, corpus: Path) -> None:
    torch.manual_seed(0)
    config = VQVAETaskConfig(size=32, nearest=NearestConfig(codebook=codebook))
    task = VQVAETask(CodecTrainingConfig(vqgan=CODEC), config, Corpus(corpus), Corpus(corpus))
    before = task.evaluate(task.model.eval())
    losses = train(task, "reconstruction")
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert task.evaluate(task.model.eval())["psnr"] > before["psnr"] + 3


def test_a_discrete_vae_learns_with_the_papers_loss(corpus: Path) -> None:
    torch.manual_seed(0)
    dvae = VQVAEConfig(vocabulary=32, channels=16, multipliers=(1, 1), blocks=1, decoder_channels=16)
    gumbel = GumbelConfig(temperature_pictures=200, divergence=0.1, divergence_pictures=100)
    config = VQVAETaskConfig(size=32, reconstruction=Reconstruction.LOGIT_LAPLACE, gumbel=gumbel)
    task = VQVAETask(CodecTrainingConfig(dvae=dvae), config, Corpus(corpus), Corpus(corpus))
    losses = train(task, "reconstruction")
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    assert int(task.model.pictures) == 320
    assert task.preview(task.model.eval()) is not None


def test_a_critic_joins_when_its_time_has_come(corpus: Path) -> None:
    torch.manual_seed(0)
    config = VQVAETaskConfig(size=32, adversarial=0.1, adversarial_pictures=16)
    critic = CriticConfig(channels=8, layers=2)
    model = CodecTrainingConfig(vqgan=CODEC, critic=critic)
    task = VQVAETask(model, config, Corpus(corpus), Corpus(corpus))
    totals, parts = [], []
    for step in range(4):
        places = Places.whole(8, step=step)
        loss, found = task.loss(task.model.train(), task.batch(places), places)
        totals.append(float(loss.detach()))
        parts.append({name: float(value) for name, value in found.items()})
    for total, part in zip(totals, parts, strict=True):
        base = part["reconstruction"] + part["quantisation"] + part["critic"]
        heard = 0.1 * part["adversarial"] if total in totals[2:] else 0.0
        assert total == pytest.approx(base + heard, abs=1e-5)


def test_settings_that_do_not_fit_are_refused(corpus: Path) -> None:
    pictures = Corpus(corpus)
    vqgan = CodecTrainingConfig(vqgan=CODEC)
    for config, match in (
        (VQVAETaskConfig(size=32, adversarial=0.1), "a critic needs a weight"),
        (VQVAETaskConfig(size=32, perceptual=0.1), "needs a CLIP"),
        (VQVAETaskConfig(size=32, reconstruction=Reconstruction.LOGIT_LAPLACE), "train a dvae"),
        (VQVAETaskConfig(size=36), "multiple of 8"),
    ):
        with pytest.raises(InputError, match=match):
            VQVAETask(vqgan, config, pictures, pictures)
    with pytest.raises(InputError, match="give one codec"):
        CodecTrainingConfig()


def test_the_transformer_learns(run: Path, corpus: Path, tmp_path: Path) -> None:
    settings = with_parts_of(run, tmp_path)
    task = Run(settings, corpus, tmp_path / "out", torch.device("cpu")).task("dalle1")
    losses = train(task, "codes", rate=1e-2)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_pictures_are_encoded_in_several_places(
    run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a share of the codes is read as something else, which is not to be predicted."""
    settings = with_parts_of(run, tmp_path)
    settings["dalle1"]["task"] = {"copies": 3, "shift": 4, "code_keep": 0.75, "merge_dropout": 0.0}
    training = Run(settings, corpus, tmp_path / "out", torch.device("cpu"))
    task = training.task("dalle1")
    codes = task.coded.codes
    assert codes.shape == (len(Corpus(corpus)), 3, 16)
    plain = Run(
        {**settings, "dalle1": {**settings["dalle1"], "task": {}}},
        corpus,
        tmp_path / "out",
        torch.device("cpu"),
    ).task("dalle1")
    assert torch.equal(codes[:, :1], plain.coded.codes)
    assert not torch.equal(codes[:, 1], codes[:, 0])
    assert not torch.equal(codes[:, 1], codes[:, 2])
    _, drawn = task.batch(Places.whole(64))
    known = {tuple(row) for row in codes.flatten(0, 1).tolist()}
    assert {tuple(row) for row in drawn.tolist()} <= known
    assert not {tuple(row) for row in drawn.tolist()} <= {tuple(row) for row in codes[:, 0].tolist()}
    read = task._read_codes(drawn, Places.whole(64, 1))
    assert 0.15 < float((read != drawn).float().mean()) < 0.35
    seen: list[torch.Tensor] = []
    original = task.model.losses

    def losses(
        ids: torch.Tensor, mask: torch.Tensor, codes: torch.Tensor, told: Any, read: Any, terms: Any
    ) -> Any:
        seen.extend([codes, read])
        return original(ids, mask, codes, told, read, terms)

    monkeypatch.setattr(task.model, "losses", losses)
    batch = task.batch(Places.whole(8, 2))
    task.loss(task.model, batch, Places.whole(8, 3))
    assert torch.equal(seen[0], batch[1])
    assert not torch.equal(seen[1], batch[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 2}, "copies 2, shift 0: give both"),
        ({"shift": 2}, "copies 1, shift 2: give both"),
        ({"code_keep": 0.0}, r"code_keep 0\.0: choose more than 0"),
        ({"pictures": PicturesConfig(shift=1)}, r"pictures\.shift 1: .* give copies and shift"),
    ],
)
def test_ways_to_vary_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dalle1TaskConfig(**settings)


def test_the_papers_recipe_is_whole() -> None:
    """Its model counts 12 billion, and its tables are read as they would be."""
    from unclip.config import from_dict
    from unclip.models.dalle1 import Dalle1, Dalle1Config

    paper = recipes.load("dalle1")
    config = from_dict(Dalle1Config, paper["dalle1"]["model"])
    assert config == Dalle1Config()
    with torch.device("meta"):
        assert round(sum(parameter.numel() for parameter in Dalle1(config).parameters()) / 1e9) == 12
    assert from_dict(CodecTrainingConfig, paper["vqvae"]["model"]).codec == VQVAEConfig()
    assert from_dict(VQVAETaskConfig, paper["vqvae"]["task"]).gumbel == GumbelConfig()


def test_the_shipped_recipe_is_small_enough() -> None:
    """At most 32 MiB beside what it shares, in bfloat16."""
    from unclip.config import from_dict
    from unclip.models.codec import CodecTraining
    from unclip.models.dalle1 import Dalle1, Dalle1Config

    shipped = recipes.load("pictograms-dalle1")
    codec = from_dict(CodecTrainingConfig, shipped["vqvae"]["model"])
    sizes = {"text_vocabulary": 5120, "vocabulary": codec.codec.vocabulary}
    with torch.device("meta"):
        models = [CodecTraining(codec).codec, Dalle1(Dalle1Config(**shipped["dalle1"]["model"], **sizes))]
    parameters = sum(parameter.numel() for model in models for parameter in model.parameters())
    assert 2 * parameters < 32 * 2**20
