"""Promises of the detectors, on the photographs of scikit-image's wheel: faces are seen, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reference import clip as reference
from unclip.checkpoints.formats import convert
from unclip.errors import BundleError
from unclip.images import Source
from unclip.manifest import Photographic
from unclip.policy import Policy
from unclip.policy.detectors import Faces, Nudity, picture_rules
from unclip.policy.gore import Gore, unfit
from unclip.policy.guard import Guard
from unclip.policy.pictures import PictureRules
from unclip.tokenizer import CLIP_VOCABULARY


def photographs() -> tuple[list[Image.Image], list[Image.Image]]:
    from skimage.data import lfw_subset

    pixels = (lfw_subset() * 255).astype(np.uint8)  # (200, 25, 25), faces first
    images = [Image.fromarray(one).convert("RGB") for one in pixels]
    return images[:100], images[100:]


@pytest.mark.slow
def test_faces_are_found_and_other_photographs_are_not_taken_for_some() -> None:
    faces, others = photographs()
    detector = Faces()
    assert sum(map(detector.found, faces)) >= 95
    assert sum(map(detector.found, others)) <= 2


def test_a_face_is_found_and_a_drawing_is_none() -> None:
    faces, others = photographs()
    detector = Faces()
    assert detector.found(faces[0])
    assert not detector.found(others[0])
    assert not detector.found(Image.new("RGB", (64, 48), "white"))


def test_faces_are_not_taken_for_nudity() -> None:
    faces, _ = photographs()
    assert not any(map(Nudity().found, faces[:4]))


def test_gore_is_not_claimed_where_no_clip_is_named() -> None:
    rules = picture_rules(("nudity", "gore"))
    assert set(rules.detectors) == {"nudity"}
    assert "names none" in rules.unapplied["gore"]


def test_gore_is_not_claimed_by_the_clip_that_ships() -> None:
    rules = picture_rules(("gore",), "pictograms")
    assert not rules.detectors
    assert "knows no photographs" in rules.unapplied["gore"]
    said = Guard(Policy(pictures=("gore",), clip="pictograms", name="ours")).said()
    assert said.startswith("policy ours; its picture rule 'gore' cannot be applied")


def test_gore_is_looked_for_by_a_clip_in_a_published_format(tmp_path: Path) -> None:
    text = reference.text_shapes(embedding=48, width=64, layers=1, vocabulary=CLIP_VOCABULARY, context=77)
    state = reference.random_state(
        text | reference.vit_shapes(embedding=48, size=32, patch=8, width=64, layers=1)
    )
    torch.save(state, tmp_path / "model.pt")
    list(convert(tmp_path / "model.pt", tmp_path / "bundle"))
    file = tmp_path / "ours.toml"
    file.write_text(f'pictures = ["gore"]\nclip = "{tmp_path / "bundle"}"\n')
    guard = Guard(Policy.named(file))
    assert guard.said() == "policy ours"
    detector = guard.pictures.detectors["gore"]
    assert isinstance(detector, Gore)
    assert 0 <= detector.score(Image.new("RGB", (64, 48), "red")) <= 1
    assert guard.refuses(Image.new("RGB", (64, 48), "red")) in (None, "gore or a weapon")  # weights by chance


def test_an_unknown_clip_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        picture_rules(("gore",), str(tmp_path / "nowhere"))


class Scored:
    """A CLIP of which a red picture is a pistol, and every other a flower."""

    scale = 100.0
    photographic: Photographic | None = None
    name = "stub"
    sees = True

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._axis("pistol" in one, "flower" in one) for one in texts])

    def embed_images(self, images: Sequence[Source]) -> Tensor:
        return torch.stack([self._axis(one.getpixel((0, 0)) == (255, 0, 0), True) for one in images])

    def _axis(self, pistol: bool, flower: bool) -> Tensor:
        return torch.eye(3)[0 if pistol else 1 if flower else 2]


def test_a_weapon_is_found_by_scores_and_what_looks_like_one_is_not() -> None:
    encoder = Scored()
    assert unfit(encoder) is None
    detector = Gore(encoder)  # type: ignore[arg-type]
    guard = Guard(Policy(pictures=("gore",), name="ours"), lambda policy: PictureRules({"gore": detector}))
    assert guard.refuses(Image.new("RGB", (8, 8), "red")) == "gore or a weapon"
    assert guard.refuses(Image.new("RGB", (8, 8), "blue")) is None


def test_a_clip_that_reads_texts_alone_cannot_look() -> None:
    encoder = Scored()
    encoder.sees = False
    assert "texts alone" in str(unfit(encoder))
