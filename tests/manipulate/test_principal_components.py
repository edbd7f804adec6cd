"""Promises of reconstructions: all components give the picture's own embedding, few give what is common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.drawing import Job, Options
from unclip.errors import InputError
from unclip.given import Inversion
from unclip.manipulate.latents import Latents
from unclip.manipulate.principal_components import Basis
from unclip.model import Model

STEPS = 4


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures of noise and colour."""
    path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for k in range(24):
        levels = random.integers(0, 256, (32, 32, 3)) * random.random(3)
        Image.fromarray(levels.astype(np.uint8)).save(path / f"{k}.png")
    return path


def test_components_keep_what_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(40, 6, generator=generator), dim=1)
    basis = Basis.of(rows, "noise")
    torch.testing.assert_close(basis.reduced(rows[0], 6), rows[0])
    near = [float((basis.reduced(rows[0], count) - rows[0]).norm()) for count in (1, 3, 6)]
    assert near[0] > near[1] > near[2]
    torch.testing.assert_close(basis.reduced(3 * rows[0], 2).norm(), torch.tensor(3.0))
    assert len(Basis.of(rows[:4], "few")) == 3


def test_all_components_draw_the_pictures_own_embedding(model: Model, folder: Path) -> None:
    image = Image.open(folder / "3.png")
    settings: dict[str, Any] = {"basis": folder, "size": 64, "seed": 2, "steps": STEPS}
    one, some, every = model.reconstruct(image, [1, 4, 16], **settings)
    job = Job("", 2, 0)
    latents = Latents(model.embed([image])[0], model.start_noise([job])[0], Inversion(STEPS))
    (whole,) = [
        picture
        for event in model.draw_latents({job: latents}, Options(size=64, seed=2))
        for picture in event.pictures
    ]
    far = [
        np.abs(np.asarray(picture.image, dtype=int) - np.asarray(whole.image)).mean()
        for picture in (one, some, every)
    ]
    assert far[2] <= 1  # in a batch of three kernels round differently
    assert far[0] > far[2]
    assert [picture.metadata["components"] for picture in (one, some, every)] == ["1", "4", "16"]
    assert one.metadata["basis"] == f"24 pictures of {folder}"
    again = model.reconstruct(image, [1, 4, 16], **settings)
    assert [picture.image.tobytes() for picture in again] == [
        picture.image.tobytes() for picture in (one, some, every)
    ]


def test_without_counts_as_many_are_kept_as_there_are(model: Model, folder: Path) -> None:
    pictures = model.reconstruct(folder / "3.png", basis=folder, size=64, seed=2, steps=STEPS)
    assert [picture.metadata["components"] for picture in pictures] == ["1", "8"]


def test_a_bundle_with_an_autoregressive_prior_brings_its_own(two_priors_bundle: Path) -> None:
    own = Model.load(two_priors_bundle, device="cpu", precision="float32")
    basis = own.own_basis()
    assert basis is not None
    square = basis.directions @ basis.directions.T
    torch.testing.assert_close(square, torch.eye(len(basis)), atol=1e-4, rtol=0)
    (one,) = own.reconstruct(Image.new("RGB", (32, 32), "red"), [1], size=64, seed=2, steps=STEPS)
    assert one.metadata["basis"] == f"the ar-prior of {own.bundle.name}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "brings no principal components"),
        ({"basis": "nowhere"}, "nowhere: no such folder"),
        ({"basis": "."}, "give a folder with two or more"),
        ({"components": [0]}, "components is 0"),
        ({"components": []}, "n is 0"),
        ({"components": [17]}, "components 17: this basis has 16"),
        ({"fit": "tile"}, "unknown fit"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused(
    model: Model,
    folder: Path,
    settings: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = {"basis": folder, "size": 64, "steps": STEPS, **settings}
    if not settings:
        chosen["basis"] = None
    with pytest.raises(InputError, match=message):
        model.reconstruct(Image.new("RGB", (8, 8)), **chosen)
