"""Promises of starting from a picture: given back at strength 0, ignored at 1, refused where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.pictures import speckled
from unclip.errors import InputError
from unclip.model import Model
from unclip.runtime import sha256


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, device="cpu", precision="float32")


def drawn(model: Model, **settings: Any) -> list[bytes]:
    chosen = {"size": 64, "seed": 1, "steps": 8, **settings}
    return [picture.image.tobytes() for picture in model.generate("a red apple", **chosen)]


@pytest.mark.parametrize("size", [64, 256])
def test_at_zero_strength_the_picture_comes_back_bit_for_bit(model: Model, size: int) -> None:
    picture = speckled(size)
    assert drawn(model, init=picture, strength=0, size=size, n=2) == [picture.tobytes()] * 2
    assert drawn(model, init=picture, strength=0.01, size=size) == [picture.tobytes()]  # less than a step


def test_at_full_strength_it_is_ignored(model: Model) -> None:
    assert drawn(model, init=speckled(64), strength=1) == drawn(model)


def test_between_them_it_is_changed_more_and_more(model: Model) -> None:
    picture = speckled(64)

    def far(strength: float) -> float:
        (found,) = drawn(model, init=picture, strength=strength)
        return float(np.abs(np.frombuffer(found, np.uint8).astype(int) - np.asarray(picture).ravel()).mean())

    assert 0 < far(0.25) < far(0.9)
    assert drawn(model, init=picture, strength=0.5) == drawn(model, init=picture, strength=0.5)
    assert drawn(model, init=picture) == drawn(model, init=picture, strength=0.7)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm++", "heun", "analytic-dpm"])
def test_every_sampler_starts_from_it(model: Model, sampler: str) -> None:
    events = list(
        model.stream(
            "a red apple", size=64, seed=1, steps=8, sampler=sampler, init=speckled(64), strength=0.5
        )
    )
    assert {event.stage: event.step for event in events} == {event.stage: event.total for event in events}
    assert next(event.total for event in events if event.stage == "decoder") == 4


def test_it_is_fitted_and_metadata_say_what_it_was(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    speckled(128, 64).save(path)
    (cropped,) = model.generate("a red apple", init=path, strength=0, fit="crop", size=64)
    assert np.array_equal(np.asarray(cropped.image), np.asarray(speckled(128, 64))[:, 32:96])
    found = cropped.metadata
    assert (found["operation"], found["strength"], found["fit"]) == ("init", "0", "crop")
    assert found["source"] == f"sha256:{sha256(path)}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.5}, "give init, too"),
        ({"init": Image.new("RGB", (8, 8)), "strength": 1.5}, "strength is 1.5"),
        ({"init": Image.new("RGB", (8, 8)), "strength": float("nan")}, "strength is nan"),
        ({"init": Image.new("RGB", (8, 8)), "fit": "tile"}, "unknown fit 'tile'"),
        ({"init": "none.png"}, "no such file"),
    ],
)
def test_what_cannot_be_started_from_is_refused(model: Model, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.stream("a red apple", **settings)
