"""Promises of what travels with a job: any jobs of one size share a batch; what means nothing is refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unclip
from support.pictures import ROUNDING, difference, speckled
from support.tiny_bundles import filling_bundle
from unclip.drawing import Job, Options, Picture
from unclip.errors import InputError
from unclip.given import Given, Inversion, InvertedNoise, Kind, Known, NoisedPicture
from unclip.images import to_tensor
from unclip.manipulate.fitting import Fit
from unclip.model import Model

PROMPT = "a red apple"


def half_kept(size: int) -> Image.Image:
    keep = Image.new("L", (size, size), 0)
    keep.paste(255, (0, 0, size // 2, size))
    return keep


@pytest.fixture(scope="module", params=["resampling", "trained to fill in"])
def model(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    folder = tiny_bundle
    if request.param != "resampling":
        folder = filling_bundle(tiny_bundle, tmp_path_factory.mktemp("bundles") / "filling")
    return unclip.load(folder, device="cpu", precision="float32")


def jobs_of(model: Model, size: int) -> list[Job]:
    """One of each kind, in the order in which nobody would put them."""
    (embedding,) = model.embed([speckled(64)])
    latents = model.encode(speckled(64, seed=1), Inversion(4))
    picture = NoisedPicture(speckled(64, seed=2), 0.5, Fit.STRETCH, "pixels:")
    other = NoisedPicture(speckled(64, seed=3), 0.99, Fit.STRETCH, "pixels:")
    return [
        Job(PROMPT, 1, 0, Given(known=Known(speckled(size, seed=4), half_kept(size), rounds=2))),
        Job(PROMPT, 1, 0),
        Job("", 1, 3, Given(embedding=latents.z_i, start=InvertedNoise(latents.x_T, Inversion(4), 0.5))),
        Job("ein roter Apfel, a green apple", 9, 4, Given(start=picture)),
        Job(PROMPT, 2, 1, Given(known=Known(speckled(size, seed=5), half_kept(size)))),
        Job("", 5, 0, Given(embedding=embedding, shared=2)),
        Job(PROMPT, 1, 7, Given(start=other)),
        Job(PROMPT, 1, 7, Given(start=dataclasses.replace(other, strength=0.0))),
    ]


def drawn(model: Model, jobs: list[Job], size: int) -> list[Picture]:
    return [picture for event in model.draw(jobs, Options(size=size)) for picture in event.pictures]


@pytest.mark.parametrize("size", [64, 256])
def test_plain_draws_edits_and_variations_share_a_batch_and_change_nothing(model: Model, size: int) -> None:
    jobs = jobs_of(model, size)
    together = drawn(model, jobs, size)
    assert len(together) == len(jobs)
    # what gives its picture back goes through no stage, and comes on its own
    for job, picture in zip(jobs, together, strict=True):
        (alone,) = drawn(model, [job], size)
        assert (picture.prompt, picture.seed, picture.index) == (job.prompt, job.seed, job.index)
        assert difference(alone, picture) <= ROUNDING
        assert alone.settings.keys() == picture.settings.keys()
        assert dict(alone.settings) == {**picture.settings, **_seams(alone)}
    assert min(difference(a, b) for a, b in pairwise(together)) > ROUNDING


def _seams(picture: Picture) -> dict[str, str]:
    """A seam's figures go by the pixels, which may round."""
    return {name: value for name, value in picture.settings.items() if name.startswith("seam_")}


def test_one_batch_is_one_run_of_each_upsampler(model: Model) -> None:
    jobs = jobs_of(model, 256)[:-1]
    events = list(model.draw(jobs, Options(size=256)))
    assert next(event.total for event in events if event.stage == "upsampler-256") == 3  # its steps
    last = {event.stage: (event.step, event.total) for event in events}
    assert all(step == total for step, total in last.values()), last
    assert last["prompt"] == (1, 1)


def test_metadata_say_what_was_done_to_each(model: Model) -> None:
    edit, plain, varied, init, *_ = drawn(model, jobs_of(model, 64), 64)
    assert edit.settings["rounds"] == "2"
    assert (edit.settings["sampler"], plain.settings["sampler"]) == ("ancestral", "ddim")
    assert (varied.settings["steps"], varied.settings["sampler"]) == ("4", "ddim")
    assert "prior" not in varied.settings
    assert plain.settings["prior"] == "diffusion"
    assert (init.settings["operation"], init.settings["strength"]) == ("init", "0.5")
    assert "operation" not in plain.settings


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Kind.EMBEDDING, {"prior": "none"}, "prior: no prior draws"),
        (Kind.EMBEDDING, {"candidates": 2}, "candidates: no prior draws"),
        (Kind.EMBEDDING, {"rerank": 4}, "rerank: no prior draws"),
        (Kind.EMBEDDING, {"clip_guidance": 3.0}, "clip_guidance means nothing to"),
        (Kind.EMBEDDING, {"temperature": 0.5}, "temperature means nothing to"),
        (Kind.EMBEDDING, {"top_k": 5}, "top_k means nothing to"),
        (Kind.EMBEDDING, {"start": speckled(64), "keep_rows": 1}, "means nothing to"),
        (Kind.NOISE, {"sampler": "heun"}, "sampler: noise that was inverted"),
        (Kind.NOISE, {"steps": 5}, "steps: noise that was inverted"),
        (Kind.NOISE, {"guidance": 2.0}, "guidance: noise that was inverted"),
        (Kind.NOISE, {"init": speckled(64)}, "init: noise that was inverted"),
        (Kind.PICTURE, {"init": speckled(64)}, "init: the picture to start from is given already"),
        (Kind.KNOWN, {"init": speckled(64)}, "init: what is drawn meets known pixels"),
        (Kind.KNOWN, {"init": speckled(64), "strength": 0.3}, "what is drawn meets known pixels"),
        (Kind.KNOWN, {"sampler": "heun"}, "sampler 'heun': to fill in, each step is taken several times"),
        (Kind.KNOWN, {"size": 256}, "size 256: the picture to fill in has 64 pixels a side"),
    ],
)
def test_what_means_nothing_beside_what_is_given_is_refused(
    tiny_bundle: Path, kind: Kind, options: dict[str, Any], message: str
) -> None:
    model = unclip.load(tiny_bundle, device="cpu", precision="float32")
    given = {
        Kind.EMBEDDING: Given(embedding=torch.ones(16) / 4),
        Kind.NOISE: Given(
            embedding=torch.ones(16) / 4, start=InvertedNoise(torch.zeros(3, 64, 64), Inversion())
        ),
        Kind.PICTURE: Given(start=NoisedPicture(speckled(64), 0.5, Fit.CROP, "pixels:")),
        Kind.KNOWN: Given(known=Known(speckled(64), half_kept(64))),
    }[kind]
    with pytest.raises(InputError, match=message):
        model.draw([Job(PROMPT, 1, 0, given)], Options(**{"size": 64, **options}))


def test_a_decoder_that_sees_what_it_fills_in_takes_any_sampler(tiny_bundle: Path, tmp_path: Path) -> None:
    model = unclip.load(filling_bundle(tiny_bundle, tmp_path / "filling"), device="cpu", precision="float32")
    given = Given(known=Known(speckled(64), half_kept(64)))
    events = model.draw([Job(PROMPT, 1, 0, given)], Options(size=64, sampler="heun", steps=4))
    (picture,) = [picture for event in events for picture in event.pictures]
    assert picture.settings["sampler"] == "heun"
    kept = np.asarray(half_kept(64)) > 0
    assert np.array_equal(np.asarray(picture.image)[kept], np.asarray(speckled(64))[kept])


def test_a_start_and_known_pixels_exclude_each_other() -> None:
    with pytest.raises(InputError, match="known pixels are drawn into from noise"):
        Given(
            start=NoisedPicture(speckled(64), 0.5, Fit.CROP, "pixels:"),
            known=Known(speckled(64), half_kept(64)),
        )


def test_masks_and_shapes_of_tensors_are_checked() -> None:
    picture = to_tensor(speckled(8))
    known = Known.of(picture, torch.ones(1, 8, 8))
    assert torch.equal(known.at(8)[0], picture)
    with pytest.raises(InputError, match=r"give \(3, S, S\) and \(1, S, S\)"):
        Known.of(picture, torch.ones(1, 4, 8))
    with pytest.raises(InputError, match="never between"):
        Known.of(picture, torch.full((1, 8, 8), 0.5))


def test_a_model_can_be_copied_and_pickled_after_it_has_drawn(tiny_bundle: Path) -> None:
    model = unclip.load(tiny_bundle, device="cpu", precision="bfloat16")
    (first,) = model.generate(PROMPT, size=64, seed=1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        (again,) = other.generate(PROMPT, size=64, seed=1)
        assert again.image.tobytes() == first.image.tobytes()
        assert other.precision is model.precision


@pytest.mark.parametrize("bundle", ["pictograms", "pictograms-dalle1"])
def test_torchs_defaults_change_nothing(bundle: str) -> None:
    settings: dict[str, Any] = {"size": 64, "seed": 1}
    (usual,) = unclip.load(bundle, device="cpu", precision="float32").generate(PROMPT, **settings)
    try:
        torch.set_default_dtype(torch.bfloat16)
        torch.set_default_device("meta")
        (other,) = unclip.load(bundle, device="cpu", precision="float32").generate(PROMPT, **settings)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert other.image.tobytes() == usual.image.tobytes()
    assert other.score == usual.score
