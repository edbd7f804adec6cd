"""Promises of the run of a recipe: captioned pictures become a bundle that draws, one stage after another."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from unclip import load, recipes
from unclip.bundle import Bundle
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.prepare.run import build_folder
from unclip.data.records import Split
from unclip.errors import InputError, TrainingError
from unclip.images import from_uint8
from unclip.models.ar_prior import ArPrior
from unclip.models.code_sampling import CodeSampling
from unclip.models.embedding_codes import PrincipalComponents
from unclip.train import parallel
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.stages import TASKS
from unclip.train.state import checkpoint_paths, read_checkpoint, save_checkpoint
from unclip.train.tasks.decoder import DecoderTask


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
    task = Run(recipes.load(recipe), corpus, run, torch.device("cpu")).task("decoder")
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
    Run(settings, corpus, again, torch.device("cpu")).go("ar-prior")
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
            Run(table, corpus, again, torch.device("cpu")).go("ar-prior")
        weights.append(load_file(again / "ar-prior" / "final" / "raw.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_card_tells_what_was_done(run: Path, corpus: Path) -> None:
    text = (run / "bundle" / "README.md").read_text()
    assert "It knows shapes." in text
    assert f"{len(Corpus(corpus)):,} captioned pictures" in text
    steps = {
        row.split("|")[1].strip(): row.split("|")[3].strip()
        for row in text.splitlines()
        if row.count("|") == 6
    }
    assert (steps["clip"], steps["layout"], steps["decoder"]) == ("3", "60", "3")


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
    Run(recipes.load(recipe), corpus, again, torch.device("cpu")).go()
    assert (again / "decoder" / "final" / "ema-0.safetensors").stat().st_mtime_ns == before


def test_a_stage_that_was_finished_before_stays_finished(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """Checkpoints of an earlier format are not gone on from, final weights are as good as ever."""
    again = Path(shutil.copytree(run, tmp_path / "again"))
    (path,) = checkpoint_paths(again / "clip")
    found = read_checkpoint(path)
    path.unlink()
    save_checkpoint(again / "clip", 3, {**found, "format": 1}, keep=1)
    training = Run(recipes.load(recipe), corpus, again, torch.device("cpu"))
    assert training.weights("clip").read_bytes() == (run / "clip/final/ema-0.safetensors").read_bytes()
    longer = Run(recipes.load(recipe, ["clip.train.steps=4"]), corpus, again, torch.device("cpu"))
    with pytest.raises(TrainingError, match="format 1, .* or train in another folder"):
        longer.weights("clip")


def test_more_steps_go_on_where_it_stopped(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    longer = Path(shutil.copytree(run, tmp_path / "longer"))
    settings = recipes.load(recipe, ["upsampler-256.train.steps=4"])
    Run(settings, corpus, longer, torch.device("cpu")).go("upsampler-256")
    lines = (longer / "upsampler-256" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == [2, 4]


def test_one_stage_alone(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    Run(recipes.load(recipe), corpus, tmp_path, torch.device("cpu")).go("upsampler-256")
    assert {path.name for path in tmp_path.iterdir()} == {"upsampler-256"}


def test_one_of_several_processes_writes_the_bundle(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("bundle")))
    training = Run(recipes.load(recipe), corpus, again, torch.device("cpu"))
    waited = []
    monkeypatch.setattr(parallel.World, "barrier", lambda world: waited.append(world.rank))
    for rank, written in ((1, False), (0, True)):
        world = parallel.World(torch.device("cpu"), rank, 2)
        monkeypatch.setattr(parallel, "join", lambda _, world=world: world)
        assert training.bundle() == again / "bundle"
        assert (again / "bundle").exists() == written
    assert waited == [1, 0]


@pytest.mark.parametrize("stage", ["clip", "decoder"])
def test_a_run_that_was_begun_with_settings_by_their_old_names_goes_on(
    stage: str, run: Path, corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same bits as one with the new names, and without a word on names."""
    old = {new.rpartition(".")[2]: old.rpartition(".")[2] for old, new in recipes.RENAMED.items()}
    settings, weights = recipes.load(recipe, [f"{stage}.train.steps=4"]), []
    for name in ("now", "before"):
        again = Path(shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("bundle")))
        (path,) = checkpoint_paths(again / stage)
        if name == "before":
            found = read_checkpoint(path)
            path.unlink()
            save_checkpoint(again / stage, found["step"], with_names(found, old), keep=1)
            written = repr(read_checkpoint(*checkpoint_paths(again / stage)))
            assert all(
                name in written for name in ("'sharpness'", "'fed'" if stage == "decoder" else "'alike'")
            )
        weights.append(load_file(Run(settings, corpus, again, torch.device("cpu")).weights(stage)))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    said = capsys.readouterr().err
    assert said.count("goes on from step 3") == 2
    assert [line for line in said.splitlines() if "changed since" in line] == [
        f"{stage}: changed since: steps: was 3, is 4"
    ] * 2


def with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Tables within tables with other names of keys."""
    if not isinstance(value, Mapping):
        return value
    return {names.get(key, key): with_names(item, names) for key, item in value.items()}


@pytest.mark.parametrize("stage", TASKS)
def test_every_stage_has_a_file_that_makes_its_task(stage: str) -> None:
    assert callable(importlib.import_module(f"unclip.train.tasks.{TASKS[stage]}").task_of)


def test_an_unknown_stage_is_refused(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown stage 'upsampler': .*upsampler-256"):
        Run(recipes.load(recipe), corpus, tmp_path, torch.device("cpu")).go("upsampler")


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
    Run(recipes.load(other, settings), corpus, out, torch.device("cpu")).go("clip")
    assert (out / "clip" / "final" / "ema-0.safetensors").is_file()


@pytest.mark.parametrize("splits", ["train", "all"])
def test_a_judge_learns_from_held_out_pictures_too(
    splits: str, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    settings = recipes.load(recipe)
    settings["clip"]["task"] = {"splits": splits}
    task = Run(settings, corpus, tmp_path, torch.device("cpu")).task("clip")
    assert len(task.pictures.corpus) == len(Corpus(corpus, EVERYTHING if splits == "all" else Split.TRAIN))


def test_no_other_stage_learns_from_held_out_pictures(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    settings = recipes.load(recipe)
    settings["prior"]["task"] = {"splits": "all"}
    with pytest.raises(InputError, match=r"unknown key 'prior\.task\.splits'"):
        Run(settings, corpus, tmp_path, torch.device("cpu")).go()


def test_a_decoder_can_be_conditioned_on_texts(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """Part (a) of the paper's ablation: it never sees the embedding of a picture."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("decoder")))
    other = tmp_path / "other.toml"
    text = recipe.read_text().replace("[decoder.task]", '[decoder.task]\nconditioning = "text"')
    other.write_text(text)
    training = Run(recipes.load(other), corpus, again, torch.device("cpu"))
    assert training.weights("decoder").is_file()
    task = training.task("decoder")
    assert isinstance(task, DecoderTask)
    batch = task.batch(Places.whole(4, 1))
    losses = [
        task.loss(task.model, batch._replace(embeddings=seen), Places.whole(4, 2))[0].item()
        for seen in (batch.embeddings, torch.randn(batch.embeddings.shape))
    ]
    assert losses[0] == losses[1]
    spread = task.model.whitening.whiten(task.encoded.text(batch.tokens)[0]).std()
    assert 0.3 < float(spread) < 3  # of the scale of texts, not of pictures


def test_the_sigmoid_loss_wants_its_bias(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text() + '\n[clip.task]\ncontrast = "siglip"\n')
    with pytest.raises(InputError, match="logit_bias"):
        Run(recipes.load(other), corpus, tmp_path / "run", torch.device("cpu")).go("clip")


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
    settings = recipes.load(recipe, ["clip.train.batch=6"])
    Run(settings, tmp_path / "corpus", tmp_path / "run", torch.device("cpu")).go("clip")
    weights = tmp_path / "run" / "clip" / "final" / "ema-0.safetensors"
    assert weights.is_file()
    assert np.isfinite(weights.stat().st_size)


def test_a_mistake_in_a_late_stages_loop_is_said_before_the_first_trains(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    table = recipes.load(recipe)
    table["decoder"]["train"]["bacth"] = 3
    with pytest.raises(InputError, match="bacth"):
        Run(table, corpus, tmp_path / "run", torch.device("cpu")).go()
    assert not (tmp_path / "run" / "clip").exists()
