"""Requests: who asks, and their bodies, JSON or forms, as fields and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Request
from starlette.datastructures import UploadFile

from unclip.serve import schema
from unclip.serve.contract import Asked, asked, checked
from unclip.serve.errors import ApiError
from unclip.serve.fields import PICTURES, VERBS
from unclip.serve.models import Models

MOST_FIELDS = 100  # of a form
LONGEST_FIELD = 2**20  # bytes of a form's text
STREAM = "text/event-stream"
COMMENT_SECONDS = 10.0  # between two signs of life in a stream
MOST_LISTED = 100
MOST_FILES = 17  # 16 pictures and a mask
Id = Annotated[str, Path(pattern=r"^[a-z0-9_]{1,64}$")]


@dataclass(frozen=True)
class Waiter:
    """Who asks.

    Attributes:
        owner: the name of the key; "" without keys.
        who: whom admission counts it for: the key, or without keys the address.
        base: the address that the request came to.
        patience: seconds until the client gives up, where it says so.
        kept, idempotency: as its headers ask for.
    """

    owner: str
    who: str
    base: str
    patience: float | None
    kept: bool
    idempotency: str | None

    @classmethod
    def of(cls, request: Request) -> Waiter:
        owner = request.state.owner
        host = request.client.host if request.client is not None else ""
        said, key = (
            request.headers.get("x-stainless-read-timeout", ""),
            request.headers.get("idempotency-key"),
        )
        try:
            patience = float(said)
        except ValueError:
            patience = None
        if key is not None and not 1 <= len(key) <= 255:
            raise ApiError(400, "an idempotency key has 1 to 255 characters", code="invalid_value")
        kept = request.headers.get("x-unclip-keep") == "1"
        waits = patience if patience is not None and 0 < patience < float("inf") else None
        return cls(owner, owner or f"address {host}", str(request.base_url), waits, kept, key)


async def client_gone(request: Request) -> None:
    """Comes back when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def asked_of(request: Request, verb: str, models: Models) -> Asked:
    """The request of a body, checked. Raises ApiError that names the field that is wrong."""
    values, files, form = await document_of(request)
    return asked_by(values, files, form, verb, models)


def asked_by(
    values: Mapping[str, Any],
    files: Mapping[str, tuple[bytes, ...]],
    form: bool,
    verb: str,
    models: Models,
) -> Asked:
    kind = VERBS[verb]
    for name in files:
        if name in values:
            raise ApiError(400, f"{name} is given twice", param=name, code="invalid_value")
    # the bytes are told apart from text later; here it counts that they are there
    marks = {name: schema.stand_in(kind, name, len(found)) for name, found in files.items()}
    unknown = [name for name in files if name not in kind.model_fields]
    if unknown:
        raise ApiError(400, f"{unknown[0]} is not a field here", param=unknown[0], code="unknown_parameter")
    fields = checked(kind, {**values, **marks}, form=form)
    plain = fields.model_copy(update=dict.fromkeys(marks))
    return asked(verb, plain, models, files)


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
