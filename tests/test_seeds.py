"""The promise that a seed draws what it drew: the same noise, and with the same weights the same picture.

The pictures of `tests/fixtures/seeds` are of the shipped weights, in float32. When new weights ship they are
made anew with `python tests/test_seeds.py`, and nothing else may change them but what is done to a picture
after it was drawn (the shade of an edit).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import unclip
from support.pictures import holed
from unclip.runtime import noise_generator
from unclip.stages import networks

FIXTURES = Path(__file__).parent / "fixtures" / "seeds"
STREAMS = FIXTURES / "streams.json"  # of each drawing, and the first numbers of each stream
NUMBERS = 3
MOST_LEVELS, MOST_SHARE = 2, 0.001  # of 255, and of the values that may be farther off


def disc(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=colour)
    return image


RED, BLUE = disc((210, 40, 40)), disc((30, 90, 200))
MASK = holed(64, 64, (32, 0, 64, 64))
SMALL: dict[str, Any] = {"size": 64, "seed": 11}
PLAIN: dict[str, Any] = {"style": "any", **SMALL}  # as it was typed, as before a style was added
DRAWINGS: dict[str, tuple[str, Callable[[Any], list[unclip.Picture]]]] = {
    "plain": ("pictograms", lambda model: model.generate("a red apple", n=2, **PLAIN)),
    "korean": ("pictograms", lambda model: model.generate("노란 별", **PLAIN)),
    "ar-prior": ("pictograms", lambda model: model.generate("a cat", prior="ar", n=2, **PLAIN)),
    "ancestral": ("pictograms", lambda model: model.generate("a cat", sampler="ancestral", **PLAIN)),
    "larger": ("pictograms", lambda model: model.generate("a rocket", **PLAIN | {"size": 256})),
    "init": ("pictograms", lambda model: model.generate("a green apple", init=RED, strength=0.6, **SMALL)),
    "edit": ("pictograms", lambda model: model.edit(RED, MASK, "a red apple", steps=6, rounds=2, **SMALL)),
    "outpaint": ("pictograms", lambda model: model.outpaint(RED, "a red apple", right=32, steps=4, **SMALL)),
    "vary": ("pictograms", lambda model: model.vary(RED, strength=0.7, steps=6, **SMALL)),
    "blend": ("pictograms", lambda model: model.blend(RED, BLUE, frames=3, steps=6, **SMALL)[1:2]),
    "codes": ("pictograms-dalle1", lambda model: model.generate("a red apple", n=2, **SMALL)),
}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    names = {name for name, _ in DRAWINGS.values()}
    return {name: unclip.load(name, device="cpu", precision="float32") for name in names}


def numbers(seed: int, index: int, stream: str) -> list[float]:
    return torch.randn(NUMBERS, generator=noise_generator(seed, index, stream)).tolist()


def recorded(patch: Callable[[Callable[..., Any]], None], draw: Callable[[], list[unclip.Picture]]) -> Any:
    """The pictures, and the streams that were drawn from, in order."""
    seen: list[tuple[int, int, str]] = []

    def recording(seed: int, index: int, stream: str) -> torch.Generator:
        seen.append((seed, index, stream))
        return noise_generator(seed, index, stream)

    patch(recording)
    return draw(), [list(stream) for stream in dict.fromkeys(seen)]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_seed_draws_what_it_drew(
    name: str, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, draw = DRAWINGS[name]
    frozen = json.loads(STREAMS.read_text())
    patch = partial(monkeypatch.setattr, networks, "noise_generator")
    pictures, streams = recorded(patch, lambda: draw(models[bundle]))
    assert streams == frozen["drawings"][name]
    for index, picture in enumerate(pictures):
        with Image.open(FIXTURES / f"{name}-{index}.png") as image:
            before = np.asarray(image.convert("RGB"), dtype=int)
        assert picture.image.size == image.size
        far = np.abs(np.asarray(picture.image, dtype=int) - before) > MOST_LEVELS
        assert far.mean() <= MOST_SHARE, f"{far.mean():.2%} of the values are more than {MOST_LEVELS} off"


def test_the_noise_of_each_stream_is_what_it_was() -> None:
    frozen = json.loads(STREAMS.read_text())["noise"]
    assert frozen
    for key, values in frozen.items():
        seed, index, stream = json.loads(key)
        assert numbers(seed, index, stream) == pytest.approx(values, abs=1e-6), key


def main() -> None:
    """Make the fixtures anew."""
    out: dict[str, Any] = {"drawings": {}, "noise": {}}
    models = {name: unclip.load(name, device="cpu", precision="float32") for name, _ in DRAWINGS.values()}
    for name, (bundle, draw) in DRAWINGS.items():
        patch = partial(setattr, networks, "noise_generator")
        pictures, streams = recorded(patch, partial(draw, models[bundle]))
        out["drawings"][name] = streams
        out["noise"] |= {json.dumps(stream): numbers(*stream) for stream in streams}
        for index, picture in enumerate(pictures):
            picture.save(FIXTURES / f"{name}-{index}.png", metadata=False, provenance=False)
    STREAMS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
