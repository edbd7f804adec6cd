"""The promise of `exact`: the same bits alone and in any batch, and nearly the same on other processors.

Environment variables that keep torch and oneDNN from the newer instructions of this processor stand for other
kinds of processor.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import unclip
from support.pictures import holed
from unclip.drawing import Event
from unclip.errors import InputError
from unclip.runtime import machine_of_bits, own_defaults

X86 = platform.machine() in ("x86_64", "AMD64")
KINDS = {  # of processors, by what torch and oneDNN may use of this one
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "sse4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
MOST_LEVELS = 2  # of 255, between kinds


@pytest.fixture(scope="module")
def models() -> dict[str, unclip.Model]:
    return {name: unclip.load(name, device="cpu", exact=True) for name in ("pictograms", "pictograms-dalle1")}


def apple() -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=(210, 40, 40))
    return image


APPLE, MASK = apple(), holed(64, 64, (32, 0, 64, 64))
MANY = ["a dog", "a cat", "a very long caption of a house beside a tree"]
DRAWN: dict[str, tuple[str, Callable[[Any, int], list[unclip.Picture]]]] = {  # the last of `n` pictures
    "64 px": ("pictograms", lambda model, n: model.generate("a cat", n=n, size=64, seed=5)),
    "256 px": ("pictograms", lambda model, n: model.generate("a cat", n=n, size=256, seed=5)),
    "by codes": ("pictograms-dalle1", lambda model, n: model.generate("a cat", n=n, size=256, seed=5)),
    "the other prior": (
        "pictograms",
        lambda model, n: model.generate("a cat", prior="ar", n=n, size=64, seed=5),
    ),
    "filled in": (
        "pictograms",
        lambda model, n: model.edit(APPLE, MASK, "an apple", n=n, size=64, seed=5, steps=4),
    ),
    "varied": ("pictograms", lambda model, n: model.vary(APPLE, n=n, size=64, seed=5, steps=4)),
}


def pixels(picture: unclip.Picture) -> np.ndarray:
    return np.asarray(picture.image)


@pytest.mark.parametrize("how", DRAWN)
def test_an_exact_picture_is_the_same_to_the_bit_alone_and_among_others_of_its_seed(
    how: str, models: dict[str, unclip.Model]
) -> None:
    name, draw = DRAWN[how]
    alone, together = draw(models[name], 1), draw(models[name], 2)
    assert np.array_equal(pixels(alone[0]), pixels(together[0]))
    assert alone[0].score == together[0].score


@pytest.mark.parametrize("name", ["pictograms", "pictograms-dalle1"])
def test_an_exact_picture_is_the_same_to_the_bit_among_other_prompts(
    name: str, models: dict[str, unclip.Model]
) -> None:
    alone = models[name].generate("a cat", size=64, seed=5)
    among = models[name].generate(MANY, size=64, seed=5)
    assert np.array_equal(pixels(alone[0]), pixels(among[1]))


def test_the_best_of_many_is_the_picture_that_is_drawn_alone(models: dict[str, unclip.Model]) -> None:
    (best,) = models["pictograms"].generate("a cat", rerank=4, size=256, seed=5)
    among = models["pictograms"].generate("a cat", n=best.index + 1, size=256, seed=5)
    assert np.array_equal(pixels(best), pixels(among[best.index]))


def test_exact_captions_are_the_same_alone_and_together(models: dict[str, unclip.Model]) -> None:
    model = models["pictograms-dalle1"]
    assert model.complete_caption("a red", 3, seed=1)[:1] == model.complete_caption("a red", 1, seed=1)


def test_exact_embeddings_are_the_same_alone_and_together(models: dict[str, unclip.Model]) -> None:
    clip = models["pictograms"].clip
    other = Image.new("RGB", (70, 40), "blue")
    assert torch.equal(clip.embed_images([other, APPLE])[1:], clip.embed_images(APPLE))
    assert torch.equal(clip.embed_texts(["a much longer text", "a cat"])[1:], clip.embed_texts("a cat"))


@pytest.mark.parametrize("setting", ["threads", "shorter products"])
def test_no_setting_of_torch_changes_an_exact_picture(setting: str, models: dict[str, unclip.Model]) -> None:
    model = models["pictograms"]
    expected = pixels(model.generate("a cat", size=64, seed=5)[0])
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        if setting == "threads":
            torch.set_num_threads(threads + 1)
        else:
            torch.set_float32_matmul_precision("medium")
        assert np.array_equal(pixels(model.generate("a cat", size=64, seed=5)[0]), expected)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)


def test_torch_is_left_as_it_was_between_the_steps_of_an_exact_picture(
    models: dict[str, unclip.Model],
) -> None:
    def now() -> tuple[Any, ...]:
        backends = torch.backends
        return (
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            backends.mkldnn.conv.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.deterministic,
            backends.cudnn.benchmark,
        )

    before = now()
    with own_defaults(exact=True):
        assert torch.get_num_threads() == 1
    for _ in models["pictograms"].stream("a cat", size=64, seed=5):
        assert now() == before


def test_exact_with_another_precision_is_refused() -> None:
    with pytest.raises(InputError, match="'bfloat16': exact pictures are computed in float32"):
        unclip.load(precision="bfloat16", exact=True)
    assert unclip.load(precision="float32", exact=True).precision is torch.float32


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"precision": "float32"}, "float32"),
        ({"exact": True}, "float32"),
    ],
)
def test_a_picture_says_its_precision_and_an_exact_one_its_machine(
    options: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    (picture,) = unclip.load(device="cpu", **options).generate("a cat", size=64, seed=1, steps=1)
    path = picture.save(tmp_path / "cat.png")
    texts = Image.open(path).text  # type: ignore[attr-defined]  # of PNG
    assert texts["precision"] == precision
    machine = machine_of_bits(torch.device("cpu")) if "exact" in options else None
    assert texts.get("exact") == machine
    assert machine is None or f"torch {torch.__version__}" in machine


def test_weights_in_eight_bits_are_said() -> None:
    model = unclip.load("pictograms-dalle1", device="cpu", precision="int8")
    (picture,) = model.generate("a cat", size=64, seed=1)
    assert picture.settings["precision"] == "int8"


def test_a_copy_of_an_exact_model_is_exact(models: dict[str, unclip.Model]) -> None:
    function, arguments = models["pictograms"].__reduce__()
    assert function(*arguments).networks.exact


def command(*arguments: str, kind: str = "") -> Any:
    """The document of `unclip generate --json`, in a process of its own of a kind of processor."""
    called = [sys.executable, "-m", "unclip", "generate", *arguments, "--exact", "--json", "--seed", "5"]
    environment = {**os.environ, **KINDS.get(kind, {})}
    done = subprocess.run(called, env=environment, capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pictograms", "pictograms-dalle1"])
@pytest.mark.skipif(not X86, reason="the instruction sets of x86")
def test_exact_pictures_of_other_kinds_of_processor_are_within_two_of_255(
    model: str, tmp_path: Path, models: dict[str, unclip.Model]
) -> None:
    prompts = ["a red apple", "a cat"]
    here = [pixels(picture) for picture in models[model].generate(prompts, size=256, seed=5)]
    machines = {machine_of_bits(torch.device("cpu"))}
    for kind in KINDS:
        asked = ("--model", model, "--size", "256", "--out", f"{tmp_path}/{kind}-{{n}}.png")
        document = command(*prompts, *asked, kind=kind)
        machines |= {picture["settings"]["exact"] for picture in document["pictures"]}
        drawn = [np.asarray(Image.open(picture["path"])) for picture in document["pictures"]]
        differences = np.abs(np.stack(drawn).astype(int) - np.stack(here))
        assert differences.max() <= MOST_LEVELS
    assert len(machines) == 1 + len(KINDS), "a picture says of which kind it is"


def test_the_command_draws_the_bits_that_python_draws(
    tmp_path: Path, models: dict[str, unclip.Model]
) -> None:
    document = command("a cat", "--size", "64", "--out", f"{tmp_path}/cat.png")
    (picture,) = models["pictograms"].generate("a cat", size=64, seed=5)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "cat.png")), pixels(picture))
    assert document["pictures"][0]["settings"]["precision"] == "float32"
    assert document["pictures"][0]["settings"]["exact"] == picture.settings["exact"]


def test_a_picture_drawn_again_is_computed_as_it_was(tmp_path: Path) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    command("a cat", "--size", "64", "--out", str(first))
    called = [sys.executable, "-m", "unclip", "generate", "--like", str(first), "--out", str(again)]
    subprocess.run(called, capture_output=True, check=True)
    assert first.read_bytes() == again.read_bytes()


def test_steps_of_an_exact_drawing_are_counted(models: dict[str, unclip.Model]) -> None:
    last: dict[str, Event] = {}
    for event in models["pictograms"].stream(MANY, n=2, size=256, seed=5, steps=2):
        last[event.stage] = event
    assert all(event.step == event.total for event in last.values())
