"""Bodies of requests: JSON or forms, as fields and files."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Path, Request
from starlette.datastructures import UploadFile

from unclip.serve.contract import PICTURES, ApiError

MOST_FIELDS = 100  # of a form
LONGEST_FIELD = 2**20  # bytes of a form's text
MOST_FILES = 17  # 16 pictures and a mask
Id = Annotated[str, Path(pattern=r"^[a-z0-9_]{1,64}$")]


async def document_of(request: Request) -> tuple[dict[str, Any], dict[str, tuple[bytes, ...]], bool]:
    """The fields of a request, its files by field, and whether it is a form.

    Raises:
        ApiError: a body that is neither JSON nor a form, or cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request)
    if kind not in ("application/json", ""):
        message = f"{kind[:64]} is not read: send application/json or multipart/form-data"
        raise ApiError(415, message, code="unsupported_media_type")
    body = await request.body()
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is no JSON that can be read", code="invalid_json") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body is no JSON object: send one", code="invalid_json")
    return found, {}, False


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


async def _form(request: Request) -> tuple[dict[str, Any], dict[str, tuple[bytes, ...]], bool]:
    values: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    async with request.form(
        max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD
    ) as form:
        for key, value in form.multi_items():
            name = key.removesuffix("[]")
            if isinstance(value, UploadFile):
                files.setdefault(name, []).append(await value.read())
            elif key.endswith("[]"):
                values.setdefault(name, []).append(value)
            elif name in values:
                raise ApiError(400, f"{name[:64]} is given twice", param=name[:64], code="invalid_value")
            else:
                values[name] = value
    unknown = [name for name in files if name not in PICTURES]
    if unknown:
        message = f"no picture goes by {unknown[0][:64]!r}: there are {', '.join(PICTURES)}"
        raise ApiError(400, message, param=unknown[0][:64], code="unknown_parameter")
    return values, {name: tuple(found) for name, found in files.items()}, True
