"""Promises of the detectors, on the photographs of scikit-image's wheel: faces are seen, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from unclip.policy.detectors import Faces, Nudity, missing, picture_rules


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


def test_gore_is_not_claimed_where_nothing_knows_photographs() -> None:
    assert "photographs" in str(missing("gore"))
    rules = picture_rules(("nudity", "gore"))
    assert set(rules.detectors) == {"nudity"}
    assert set(rules.unapplied) == {"gore"}
