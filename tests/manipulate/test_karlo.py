"""The promise that Karlo's architecture changes pictures, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.pictures import holed, speckled
from support.tiny_bundles import karlo_conversion
from unclip.bundle import save_bundle
from unclip.model import Model

LARGE = 64
SETTINGS: dict[str, Any] = {"seed": 1, "steps": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    made = karlo_conversion()
    folder = tmp_path_factory.mktemp("karlo") / "bundle"
    save_bundle(folder, name=made.name, parts=made.parts, card="", family=made.family, dtype=None)
    return Model.load(folder, device="cpu", precision="float32")


def test_pictures_are_varied_blended_and_restyled(model: Model) -> None:
    picture, other = speckled(LARGE), Image.new("RGB", (LARGE, LARGE), "red")
    varied = model.vary(picture, n=2, strength=1, **SETTINGS)
    frames = model.blend(picture, other, frames=3, **SETTINGS)
    # an untrained decoder's x_T is so large that the embedding does not show: this is the first frame again
    (styled,) = model.restyle(picture, "a cat", "a drawing of a cat", **SETTINGS)
    assert {one.image.size for one in (*varied, *frames, styled)} == {(LARGE, LARGE)}
    assert len({one.image.tobytes() for one in (*varied, *frames)}) == 5
    again = model.blend(picture, other, frames=3, **SETTINGS)
    assert [one.image.tobytes() for one in again] == [one.image.tobytes() for one in frames]


def test_an_edit_keeps_what_is_not_masked(model: Model) -> None:
    mask = holed(LARGE, LARGE, (0, 0, LARGE, LARGE // 2))
    (edited,) = model.edit(speckled(LARGE), mask, "a red apple", **SETTINGS)
    after, before = np.asarray(edited.image), np.asarray(speckled(LARGE))
    assert np.array_equal(after[LARGE // 2 :], before[LARGE // 2 :])
    assert (after[: LARGE // 2] != before[: LARGE // 2]).any(axis=2).mean() > 0.9


def test_it_extends_and_starts_from_pictures(model: Model) -> None:
    (whole,) = model.outpaint(speckled(LARGE), "a red apple", left=40, **SETTINGS)
    assert np.array_equal(np.asarray(whole.image)[:, 40:], np.asarray(speckled(LARGE)))
    (same,) = model.generate("a red apple", init=speckled(LARGE), strength=0, size=LARGE, **SETTINGS)
    assert same.image.tobytes() == speckled(LARGE).tobytes()
