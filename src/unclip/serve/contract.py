"""The Images API: its fields, which of them are honoured and how, and which are refused.

https://platform.openai.com/docs/api-reference/images, as the packages `openai` 1.109, 2.54 and 3.57 speak it.
Every field is read here. What is honoured becomes an `Asked`; what is not is refused by name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unclip.drawing import Options
from unclip.errors import InputError, PolicyError, UnclipError, listed
from unclip.images import ImageFormat, header
from unclip.manipulate.editing import MOST_ROUNDS
from unclip.manipulate.variations import MOST_BLENDED
from unclip.serve.models import HOSTED, Models
from unclip.serve.scheduler import Cancelled, OutOfMemory

LONGEST_PROMPT = 32_000  # characters, as in the API
MOST_PICTURES = 10  # of one request
MOST_PARTIALS = 3
LONGEST_MARGIN = 4096  # pixels
LARGEST_FILE = 50 * 2**20  # bytes of a picture, as in the API
PICTURES = ("image", "mask", "init", "start")  # fields
BROKEN = re.compile(r"is broken: .*", re.DOTALL)
DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
INVALID = "invalid_request_error"


class ApiError(Exception):
    """An answer that is an error, in the API's form.

    Attributes:
        status: of HTTP.
        message: for a person.
        param: the field that is wrong.
        code: for a program.
        type: the API's kind of error.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.type = type or (INVALID if status < 500 else "server_error")
        self.headers, self.more = dict(headers or {}), dict(more or {})

    @property
    def document(self) -> dict[str, Any]:
        """The body, with all four keys, as clients expect it."""
        four = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": four | self.more}

    @classmethod
    def of(cls, error: Exception, params: Sequence[str] = ()) -> ApiError:
        """What is told of an error; of one that is not ours, nothing but that it happened."""
        match error:
            case ApiError():
                return error
            case PolicyError():
                return cls(400, str(error), param="prompt", code="content_policy_violation")
            case InputError():
                message = plain(str(error))
                return cls(400, message, param=_named_in(message, params), code="invalid_value")
            case Cancelled():
                return cls(499, "the job was cancelled", code="cancelled")
            case OutOfMemory():
                return cls(500, str(error), code="out_of_memory", headers={"x-should-retry": "false"})
            case UnclipError():
                return cls(500, "the model cannot be used: see the server's log", code="model_error")
            case _:
                return cls(500, "the server failed: see its log", code="internal_error")


def _named_in(message: str, params: Sequence[str]) -> str | None:
    """The field that a message of `unclip` is about: the first that it names."""
    words = re.findall(r"\w+", message)
    return next((word for word in words if word in params), None)


# --- the fields ---


class Quality(StrEnum):
    """How many steps are taken, in shares of what the bundle takes by itself."""

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


Picture = Annotated[
    str,
    Field(
        description="In JSON a data URI (`data:image/png;base64,...`), in a form a file.",
        examples=[
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPgP"
            "AAEDAQDZqt2ZAAAAAElFTkSuQmCC"
        ],
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
        list[float] | None, Field(description="One for each picture: a single mixture in place of frames.")
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
    Edit: ("seed", "steps", "guidance", "prior", "prior_guidance", "candidates", "rounds", "fit"),
    Variation: ("seed", "steps", "guidance", "strength", "fit"),
    Blend: ("seed", "steps", "guidance", "weights", "start", "fit"),
    Restyle: ("seed", "steps", "guidance", "origin", "amount", "fit"),
    Outpaint: (
        *("seed", "steps", "guidance", "prior", "prior_guidance", "candidates", "rounds"),
        *("left", "right", "top", "bottom"),
    ),
}
AnyFields = TypeVar("AnyFields", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """What a request to draw comes to.

    Attributes:
        verb: "generate", "edit", "vary", or another of the model's.
        bundle: draws.
        prompt: empty where there is none.
        n: pictures.
        size: width and height in pixels; None is the default, or of an edit the picture's own size.
        settings: keywords of the verb, all but pictures.
        pictures: the files that were handed in, by the keyword that they are for.
        quality, style: as asked for; they become settings when the model is at hand.
        response_format, output_format, compression: of the answer.
        stream, partials: whether events are wanted, and how many pictures on the way.
        user: who the client says it is for.
        echoed: what the answer repeats.
    """

    verb: str
    bundle: str
    prompt: str = ""
    n: int = 1
    size: tuple[int, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    quality: Quality = Quality.AUTO
    style: str | None = None
    response_format: ResponseFormat = ResponseFormat.B64_JSON
    output_format: ImageFormat = ImageFormat.PNG
    compression: int | None = None
    stream: bool = False
    partials: int = 0
    user: str | None = None
    echoed: Mapping[str, str] = field(default_factory=dict)


def checked(kind: type[AnyFields], document: Mapping[str, Any], *, form: bool = False) -> AnyFields:
    """The fields of a request.

    Args:
        kind: which they may be.
        document: as they came.
        form: out of a form, where numbers and booleans are text.

    Raises:
        ApiError: 400 that names the first field that is wrong.
    """
    for name, value in document.items():
        if name in REFUSED and value is not None:
            raise ApiError(400, f"{name}: {REFUSED[name]}", param=name, code="unsupported_parameter")
        if isinstance(value, str) and (reason := REFUSED_VALUES.get((name, value))):
            raise ApiError(400, f"{name} {value!r}: {reason}", param=name, code="unsupported_value")
    given = {name: value for name, value in document.items() if not (name in REFUSED and value is None)}
    try:
        return kind.model_validate(given, strict=not form)
    except ValidationError as error:
        raise _explained(error, kind) from None


def _explained(error: ValidationError, kind: type[BaseModel]) -> ApiError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else None
    match first["type"]:
        case "missing":
            return ApiError(400, f"{name} is missing: give it", param=name, code="missing_required_parameter")
        case "extra_forbidden":
            known = listed(kind.model_fields)
            message = f"unknown field {(name or '')[:64]!r}: there are {known}"
            return ApiError(400, message, param=(name or "")[:64], code="unknown_parameter")
        case _:
            said = str(first["msg"])
            said = said[0].lower() + said[1:]
            return ApiError(400, f"{name or 'the body'}: {said}", param=name, code="invalid_value")


def asked(verb: str, fields: Fields, models: Models, pictures: Mapping[str, tuple[bytes, ...]]) -> Asked:
    """What a request comes to.

    Args:
        verb: of the model.
        fields: checked.
        models: those that are served.
        pictures: files of a form; those of data URIs are added.

    Raises:
        ApiError: 400 or 404 that names the field that cannot be honoured.
    """
    bundle = models.named(fields.model)
    if bundle is None:
        known = listed((*models.bundles, *models.aliases))
        message = f"no model {fields.model!r}: choose {known}"
        raise ApiError(404, message, param="model", code="model_not_found")
    given = _pictures_of(fields, dict(pictures))
    own = header(single(given, "image"))[:2] if isinstance(fields, Edit) else None
    size = _size(fields.size, models.abilities[bundle].sizes, own)
    values = {name: getattr(fields, name) for name in SETTINGS[type(fields)]}
    settings = {name: value for name, value in values.items() if value is not None}
    quality = Quality(getattr(fields, "quality", None) or Quality.AUTO)
    style = getattr(fields, "style", None)
    if STEPS[quality] != 1 and "steps" in settings:
        raise ApiError(400, "quality chooses the steps: give one of the two", param="steps", code="conflict")
    if style in HOSTED_STYLES and "guidance" in settings:
        raise ApiError(400, "style chooses the guidance: give one of the two", param="style", code="conflict")
    stream = bool(getattr(fields, "stream", None))
    n = getattr(fields, "frames", None) or getattr(fields, "n", None) or 1
    partials = getattr(fields, "partial_images", None)
    if stream and n > 1:
        raise ApiError(
            400, "events do not say whose they are: stream one picture", param="n", code="conflict"
        )
    if partials and not stream:
        raise ApiError(
            400, "partial_images come in a stream: set stream", param="partial_images", code="conflict"
        )
    output = ImageFormat(fields.output_format or ImageFormat.PNG)
    compression = fields.output_compression
    if compression is not None and output is ImageFormat.PNG and compression < 100:
        message = "a PNG loses nothing: choose jpeg or webp, or leave output_compression out"
        raise ApiError(400, message, param="output_compression", code="conflict")
    hosted = fields.model is None or fields.model in HOSTED
    default = ResponseFormat.URL if hosted and not stream else ResponseFormat.B64_JSON
    answer = ResponseFormat(fields.response_format or default)
    if stream and answer is ResponseFormat.URL:
        message = "a stream holds its pictures: choose b64_json"
        raise ApiError(400, message, param="response_format", code="conflict")
    user = fields.safety_identifier or fields.user
    echoed = {"safety_identifier": fields.safety_identifier} if fields.safety_identifier else {}
    return Asked(
        verb=verb,
        bundle=bundle,
        prompt=getattr(fields, "prompt", ""),
        n=n,
        size=size,
        settings=settings,
        pictures=given,
        quality=quality,
        style=style,
        response_format=answer,
        output_format=output,
        compression=compression,
        stream=stream,
        partials=partials or 0,
        user=user,
        echoed=echoed,
    )


def _size(size: str | None, sizes: Sequence[int], own: tuple[int, int] | None) -> tuple[int, int] | None:
    """Width and height; None for the default. Raises ApiError for what is neither drawn nor `own`."""
    if size is None or size == "auto":
        return None
    width, height = map(int, size.split("x"))
    if (width, height) == own:
        return None
    if width != height or width not in sizes:
        known = listed(f"{side}x{side}" for side in sizes)
        raise ApiError(400, f"size {size} is not drawn: choose {known}", param="size", code="invalid_value")
    return width, height


def _pictures_of(fields: Fields, files: dict[str, tuple[bytes, ...]]) -> dict[str, tuple[bytes, ...]]:
    """The pictures of a request, files or data URIs, by field."""
    for name in PICTURES:
        value = None if name == "start" and isinstance(fields, Blend) else getattr(fields, name, None)
        if name == "image" and getattr(fields, "images", None):
            if value is not None:
                raise ApiError(400, "give one of image and images", param="images", code="conflict")
            value = [one.image_url for one in getattr(fields, "images", [])]
        if isinstance(value, Reference):
            value = value.image_url
        if value is None:
            continue
        uris = [value] if isinstance(value, str) else value
        files[name] = tuple(uri if isinstance(uri, bytes) else decoded(uri, name) for uri in uris)
    for name, several in files.items():
        for data in several:
            _check_picture(name, data)
    return files


def _check_picture(name: str, data: bytes) -> None:
    """Refuse what is no picture, or too large, by its header. Raises ApiError."""
    if len(data) > LARGEST_FILE:
        message = f"{name} has {len(data)} bytes: at most {LARGEST_FILE} are taken"
        raise ApiError(413, message, param=name, code="file_too_large")
    try:
        header(data)
    except InputError as error:
        raise ApiError(400, plain(str(error)), param=name, code="invalid_image") from None


def plain(message: str) -> str:
    """A message of `unclip` without what a decoder says, which may tell of the server's memory."""
    return BROKEN.sub("is broken", message)


def single(pictures: Mapping[str, tuple[bytes, ...]], name: str) -> bytes:
    """The one picture of a field. Raises ApiError where there are none or several."""
    found = pictures.get(name, ())
    if not found:
        raise ApiError(400, f"{name} is missing: give it", param=name, code="missing_required_parameter")
    if len(found) > 1:
        message = f"{len(found)} pictures: one at a time is changed, give one"
        raise ApiError(400, message, param=name, code="unsupported_value")
    return found[0]


def picture_of(uri: str, name: str) -> bytes:
    """The file of a data URI that is a picture. Raises ApiError where it is none."""
    data = decoded(uri, name)
    _check_picture(name, data)
    return data


def decoded(uri: str, param: str) -> bytes:
    """The bytes of a data URI. Raises ApiError for an address, which is never fetched, or broken text."""
    match = DATA_URI.match(uri)
    if match is None:
        message = f"{param}: no address is fetched, give a data URI (data:image/png;base64,...)"
        raise ApiError(400, message, param=param, code="invalid_value")
    try:
        return base64.b64decode(uri[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param}: this is no base64", param=param, code="invalid_value") from None
