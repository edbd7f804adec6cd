"""The Images API: what a request comes to. Every field is read: what is not honoured is refused by name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from unclip.errors import InputError, listed
from unclip.images import ImageFormat, header
from unclip.manipulate.variations import plane
from unclip.serve.errors import ApiError, plain
from unclip.serve.fields import (
    HOSTED_STYLES,
    PICTURES,
    REFUSED,
    REFUSED_VALUES,
    SETTINGS,
    STEPS,
    Blend,
    Edit,
    Fields,
    Quality,
    Reference,
    ResponseFormat,
)
from unclip.serve.models import HOSTED, Models

LARGEST_FILE = 50 * 2**20  # bytes of a picture, as in the API
DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)

AnyFields = TypeVar("AnyFields", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """A request to draw, read and checked.

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
    """A request, read and checked.

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
    if isinstance(fields, Blend):
        n, settings = _mixed(fields, len(given.get("image", ())), settings)
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


def _mixed(fields: Blend, count: int, settings: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The count of pictures that a blend draws, and its settings: frames, mixtures, a plane of mixtures."""
    if fields.plane is not None:
        if fields.weights is not None:
            message = "plane chooses the weights: give one of the two"
            raise ApiError(400, message, param="plane", code="conflict")
        settings = {**settings, "weights": plane(fields.plane, count)}
    weights = settings.get("weights")
    if weights is None:
        return fields.frames, settings
    return (len(weights) if weights and isinstance(weights[0], list) else 1), settings


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
            check_picture(name, data)
    return files


def check_picture(name: str, data: bytes) -> None:
    """Refuse what is no picture, or too large, by its header. Raises ApiError."""
    if len(data) > LARGEST_FILE:
        message = f"{name} has {len(data)} bytes: at most {LARGEST_FILE} are taken"
        raise ApiError(413, message, param=name, code="file_too_large")
    try:
        header(data)
    except InputError as error:
        raise ApiError(400, plain(str(error)), param=name, code="invalid_image") from None


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
    check_picture(name, data)
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
