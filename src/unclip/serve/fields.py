"""The fields of requests to draw, and which of the hosted contract are refused.

https://platform.openai.com/docs/api-reference/images, as the packages `openai` 1.109, 2.54 and 3.57 speak it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unclip.drawing import Options
from unclip.manipulate.editing import MOST_ROUNDS
from unclip.manipulate.variations import MOST_BLENDED

LONGEST_PROMPT = 32_000  # characters, as in the API
MOST_PICTURES = 10  # of one request
MOST_PARTIALS = 3
LONGEST_MARGIN = 4096  # pixels
PICTURES = ("image", "mask", "init", "start")  # fields


class Quality(StrEnum):
    """The steps that are taken, as a share of the bundle's own."""

    AUTO = "auto"
    STANDARD = "standard"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    HD = "hd"
    XHIGH = "xhigh"
    MAX = "max"


STEPS: Mapping[Quality, float] = {
    Quality.AUTO: 1,
    Quality.STANDARD: 1,
    Quality.LOW: 0.5,
    Quality.MEDIUM: 1,
    Quality.HIGH: 2,
    Quality.HD: 2,
    Quality.XHIGH: 3,
    Quality.MAX: 4,
}
HOSTED_STYLES = ("natural", "vivid")
VIVID = 1.5  # times the bundle's own guidance


class ResponseFormat(StrEnum):
    URL = "url"
    B64_JSON = "b64_json"


EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPgP"
    "AAEDAQDZqt2ZAAAAAElFTkSuQmCC"
)
Picture = Annotated[
    str,
    Field(
        description="In JSON a data URI (`data:image/png;base64,...`), in a form a file.",
        examples=[EXAMPLE],
    ),
]
Guidance = Annotated[float | None, Field(ge=0, le=Options.MOST_GUIDANCE)]


class Reference(BaseModel):
    """A picture, as newer clients name it in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image_url: Picture


class Fields(BaseModel):
    """The fields that all endpoints have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[
        str | None,
        Field(
            description="A bundle; absent, null, `dall-e-2`, `dall-e-3` and `gpt-image-*` are the first one.",
            max_length=256,
        ),
    ] = None
    size: Annotated[
        str | None,
        Field(
            description="`auto` or WxH, what the bundle draws; of an edit the picture's own by default.",
            pattern=r"^(auto|[0-9]{1,5}x[0-9]{1,5})$",
            examples=["256x256"],
        ),
    ] = None
    response_format: Annotated[
        Literal["url", "b64_json"] | None,
        Field(description="By default `url` with the DALL-E names, else and in a stream `b64_json`."),
    ] = None
    output_format: Annotated[Literal["png", "jpeg", "webp"] | None, Field(description="png by default.")] = (
        None
    )
    output_compression: Annotated[
        int | None, Field(ge=0, le=100, description="Quality of JPEG and WebP, 100 the best.")
    ] = None
    user: Annotated[str | None, Field(max_length=512, description="Kept with the job.")] = None
    safety_identifier: Annotated[
        str | None, Field(max_length=512, description="The newer name of `user`; it wins, and is echoed.")
    ] = None
    seed: Annotated[
        int | None,
        Field(ge=0, le=2**64 - 1, description="The same draws the same again; random by default."),
    ] = None
    steps: Annotated[
        int | str | None, Field(description="Of the decoder: a count, or a spacing (`fast27`).")
    ] = None
    guidance: Guidance = None


Count = Annotated[int | None, Field(ge=1, le=MOST_PICTURES, description="Pictures; 1 with `stream`.")]
Fit = Annotated[
    Literal["letterbox", "crop", "stretch"] | None,
    Field(description="What is done with a picture that is not square."),
]


class Drawn(Fields):
    """The fields of what is drawn after a text."""

    n: Count = None

    prompt: Annotated[
        str,
        Field(min_length=1, max_length=LONGEST_PROMPT, description="What to draw.", examples=["a red apple"]),
    ]
    quality: Annotated[
        Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"] | None,
        Field(description="Steps in shares of the bundle's own: low a half, high and hd 2, xhigh 3, max 4."),
    ] = None
    background: Annotated[
        Literal["auto", "opaque"] | None,
        Field(description="Pictures are on white; `transparent` is refused."),
    ] = None
    moderation: Annotated[
        Literal["auto", "low"] | None, Field(description="Both are what the server's owner has set.")
    ] = None
    stream: Annotated[bool | None, Field(description="Answer with events; one picture only.")] = None
    partial_images: Annotated[
        int | None, Field(ge=0, le=MOST_PARTIALS, description="Pictures on the way, with `stream`.")
    ] = None
    prior: Annotated[Literal["diffusion", "ar", "none"] | None, Field(description="Draws the embedding.")] = (
        None
    )
    prior_guidance: Guidance = None
    candidates: Annotated[int | None, Field(ge=1, le=Options.MOST_CANDIDATES)] = None


class Generation(Drawn):
    """`POST /v1/images/generations`."""

    style: Annotated[
        str | None,
        Field(
            description="A style of the bundle; or natural, its own guidance, or vivid, 1.5 times that.",
            max_length=100,
        ),
    ] = None
    sampler: Annotated[str | None, Field(max_length=64)] = None
    rerank: Annotated[
        int | None, Field(ge=1, le=Options.MOST, description="Draw so many small ones, keep the best n.")
    ] = None
    temperature: Annotated[float | None, Field(ge=0.01, le=100)] = None
    top_k: Annotated[int | None, Field(ge=1, le=Options.MOST_CODES)] = None
    top_p: Annotated[float | None, Field(ge=0.01, le=1)] = None
    clip_guidance: Guidance = None
    init: Picture | None = None
    strength: Annotated[float | None, Field(ge=0, le=1)] = None
    fit: Fit = None
    start: Picture | None = None
    keep_rows: Annotated[int | None, Field(ge=1, le=Options.MOST_CODES)] = None


class Edit(Drawn):
    """`POST /v1/images/edits`: transparent pixels of the mask, or of the picture, are drawn anew."""

    prompt: Annotated[
        str,
        Field(
            max_length=LONGEST_PROMPT,
            description="What the whole picture shall show; empty, what is masked is removed.",
            examples=["a red apple"],
        ),
    ]
    image: Annotated[
        Picture | list[Picture] | None, Field(description="The picture; one of `image` and `images`.")
    ] = None
    images: Annotated[list[Reference] | None, Field(description="The same, as newer clients name it.")] = None
    mask: Annotated[Picture | Reference | None, Field(description="As large as the picture.")] = None
    input_fidelity: Annotated[
        Literal["high"] | None, Field(description="What is not masked stays bit for bit: `low` is refused.")
    ] = None
    rounds: Annotated[int | None, Field(ge=1, le=MOST_ROUNDS)] = None
    feather: Annotated[
        int | Literal["mask"] | None,
        Field(
            union_mode="left_to_right",
            description="Pixels of a soft edge around what is drawn, or `mask` for the mask's own.",
        ),
    ] = None
    fit: Fit = None


class Variation(Fields):
    """`POST /v1/images/variations`."""

    n: Count = None
    image: Annotated[Picture | list[Picture], Field(description="The picture.")]
    strength: Annotated[float | None, Field(ge=0, le=1, description="0 gives the picture back.")] = None
    fit: Fit = None


class Blend(Fields):
    """Pictures between pictures."""

    image: Annotated[list[Picture], Field(min_length=2, max_length=MOST_BLENDED)]
    frames: Annotated[int, Field(ge=2, le=Options.MOST, description="All that are drawn.")] = 8
    weights: Annotated[
        list[float] | list[list[float]] | None,
        Field(
            description="One for each picture: a mixture of all in place of frames; or several such lists.",
            examples=[[2, 1, 1], [[1, 0, 0], [0, 1, 0], [0.5, 0.25, 0.25]]],
        ),
    ] = None
    plane: Annotated[
        int | None,
        Field(ge=2, le=10, description="Side of a plane of mixtures of 3 or 4 pictures, in place of frames."),
    ] = None
    start: Annotated[Literal["slerp", "fixed"] | None, Field(description="The noise of the frames.")] = None
    fit: Fit = None


class Restyle(Fields):
    """A picture moved as one text differs from another."""

    image: Picture
    prompt: Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT, description="What it shall be.")]
    origin: Annotated[str, Field(max_length=LONGEST_PROMPT, description="What it is.")] = ""
    amount: Annotated[float | None, Field(ge=0, le=1)] = None
    frames: Annotated[int, Field(ge=1, le=Options.MOST)] = 1
    fit: Fit = None


class Outpaint(Drawn):
    """A picture extended by pixels on each side."""

    image: Picture
    left: Annotated[int, Field(ge=0, le=LONGEST_MARGIN)] = 0
    right: Annotated[int, Field(ge=0, le=LONGEST_MARGIN)] = 0
    top: Annotated[int, Field(ge=0, le=LONGEST_MARGIN)] = 0
    bottom: Annotated[int, Field(ge=0, le=LONGEST_MARGIN)] = 0
    rounds: Annotated[int | None, Field(ge=1, le=MOST_ROUNDS)] = None


VERBS: Mapping[str, type[Fields]] = {
    "generate": Generation,
    "edit": Edit,
    "vary": Variation,
    "blend": Blend,
    "restyle": Restyle,
    "outpaint": Outpaint,
}

# Fields of the hosted contract that are refused whatever they are, and why.
REFUSED: Mapping[str, str] = {
    "markup": "marks on pictures are not read: give a mask",
    "frame_count": "single pictures are drawn: leave it out",
    "frame_duration_ms": "single pictures are drawn: leave it out",
    "svg": "pixels are drawn: leave it out",
    "complexity": "pixels are drawn: leave it out",
}
# Values that are refused, and why.
REFUSED_VALUES: Mapping[tuple[str, str], str] = {
    ("background", "transparent"): "pictures are drawn on white: choose opaque or auto",
    ("output_format", "gif"): "single pictures are drawn: choose png, jpeg or webp",
    ("output_format", "svg"): "pixels are drawn: choose png, jpeg or webp",
    ("input_fidelity", "low"): "what is not masked stays bit for bit: choose high, or leave it out",
}
SETTINGS = {
    Generation: (
        *("seed", "steps", "guidance", "prior", "prior_guidance", "candidates", "sampler", "rerank"),
        *("temperature", "top_k", "top_p", "clip_guidance", "strength", "fit", "keep_rows"),
    ),
    Edit: ("seed", "steps", "guidance", "prior", "prior_guidance", "candidates", "rounds", "feather", "fit"),
    Variation: ("seed", "steps", "guidance", "strength", "fit"),
    Blend: ("seed", "steps", "guidance", "weights", "start", "fit"),
    Restyle: ("seed", "steps", "guidance", "origin", "amount", "fit"),
    Outpaint: (
        *("seed", "steps", "guidance", "prior", "prior_guidance", "candidates", "rounds"),
        *("left", "right", "top", "bottom"),
    ),
}
