"""Routes beside drawing: a bundle's card, a picture's origin, an extension's tiles, frames as one file."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from PIL import Image

from unclip.diffusion.samplers import SAMPLERS
from unclip.drawing import Options
from unclip.images import MAX_PIXELS, WHITE, open_image, read_source_type
from unclip.manipulate.frames import FRAME_MILLISECONDS, StripKind, moving
from unclip.manipulate.outpaint import Canvas, Margins, tile_for
from unclip.provenance import MOST_PARENTS, verify
from unclip.serve import schema
from unclip.serve.contract import check_picture, checked, decoded, single
from unclip.serve.errors import ApiError
from unclip.serve.fields import Generation
from unclip.serve.models import Abilities
from unclip.serve.requests import document_of
from unclip.serve.service import Service
from unclip.xmp import SourceType

MOST_STEPS = 1000  # of the schedules that bundles are trained with


def options_of(able: Abilities) -> list[dict[str, Any]]:
    """The settings that mean something to a bundle when it draws, with the contract's ranges."""
    found = []
    for name in able.settings:
        field = Generation.model_fields.get(name)
        if field is None or name in ("init", "start", "style"):
            continue
        text, lowest, highest = str(field.annotation), None, None
        bounds = [*field.metadata, *_inner(field.annotation)]
        for bound in bounds:
            lowest = bound.ge if isinstance(bound, Ge) else lowest
            highest = bound.le if isinstance(bound, Le) else highest
        choices: list[str] = (
            [str(one) for one in SAMPLERS] if name == "sampler" else _choices(field.annotation)
        )
        if name == "steps":
            lowest, highest = 1, MOST_STEPS
        found.append(
            {
                "name": name,
                "minimum": lowest,
                "maximum": highest,
                "whole": "int" in text and "float" not in text,
                "choices": choices,
                "default": {"steps": able.steps.get("generate") or None, "guidance": able.guidance}.get(name),
            }
        )
    return found


def _inner(annotation: Any) -> list[Any]:
    """The metadata of what an annotation is made of."""
    found = list(getattr(annotation, "__metadata__", ()))
    for part in getattr(annotation, "__args__", ()):
        found += _inner(part)
    return [one for item in found for one in (item.metadata if hasattr(item, "metadata") else [item])]


def _choices(annotation: Any) -> list[str]:
    """The texts of a `Literal` in an annotation."""
    parts = getattr(annotation, "__args__", ())
    if getattr(annotation, "__origin__", None) is Literal:
        return [str(part) for part in parts]
    return [choice for part in parts for choice in _choices(part)]


def add_aids(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    _cards(app, service)
    _origins(app)
    _tiles(app, service)
    _animations(app, service)


def _bundle(service: Service, name: str | None) -> str:
    found = service.models.named(name)
    if found is None:
        raise ApiError(404, f"no model {name!r}", param="model", code="model_not_found")
    return found


def _cards(app: FastAPI, service: Service) -> None:
    @app.get("/v1/unclip/models/{model}/card", responses={200: {"content": {"text/markdown": {}}}})
    async def card(model: Annotated[str, InPath(max_length=256)]) -> Response:
        """A bundle's model card, as Markdown."""
        path = service.models.bundles[_bundle(service, model)].folder / "README.md"
        if not path.is_file():
            raise ApiError(404, f"{model} has no card", param="model", code="not_found")
        text = await asyncio.to_thread(path.read_text, "utf-8")
        return Response(text, media_type="text/markdown; charset=utf-8")


def _origins(app: FastAPI) -> None:
    @app.post(
        "/v1/unclip/verify",
        openapi_extra=schema.file_or_plain_body(schema.Verify),
        response_model=schema.Origin,
    )
    async def origin(request: Request) -> Response:
        """The origin that a picture claims, and how far that is proved, as `unclip verify` says it.

        In a form the file is the part `image`, in JSON a data URI; its bytes as they are, for a program that
        saves a picture anew drops what is asked for.
        """
        values, files, form = await document_of(request)
        uri = "" if form else checked(schema.Verify, values).image
        data = single(files, "image") if form else decoded(uri, "image")
        check_picture("image", data)

        return JSONResponse(asdict(await asyncio.to_thread(verify, data)))


def _tiles(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/unclip/tiles", openapi_extra=schema.plain_body(schema.Extension), response_model=schema.Tiles
    )
    async def tiles(request: Request) -> Response:
        """The tiles that an extension takes, before it is drawn."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Extension, values)
        able = service.models.abilities[_bundle(service, wanted.model)]
        margins = Margins(wanted.left, wanted.right, wanted.top, wanted.bottom)
        if (wanted.width + wanted.left + wanted.right) * (wanted.height + wanted.top + wanted.bottom) > (
            MAX_PIXELS
        ):
            message = f"more than {MAX_PIXELS // 10**6} megapixels: extend it less"
            raise ApiError(400, message, param="width", code="invalid_value")

        def found() -> dict[str, Any]:
            picture = Image.new("RGB", (wanted.width, wanted.height), WHITE)
            side = tile_for(picture, able.sizes)
            canvas = Canvas.around(picture, margins, side)
            left, top = canvas.wanted[:2]
            return {"side": side, "corners": [(x - left, y - top) for x, y in canvas.tiles(side)]}

        return JSONResponse(await asyncio.to_thread(found))


def _animations(app: FastAPI, service: Service) -> None:
    kinds: dict[int | str, dict[str, Any]] = {200: {"content": {"image/gif": {}, "image/webp": {}}}}

    @app.get("/v1/unclip/animation", responses=kinds)
    async def animation(
        request: Request,
        ids: Annotated[str, Query(pattern=r"^[a-z0-9_,]+$", max_length=8000)],
        format: Literal["gif", "webp"] = "gif",
        milliseconds: Annotated[int, Query(ge=20, le=10_000)] = FRAME_MILLISECONDS,
        back: bool = False,
    ) -> Response:
        """Kept pictures of one size, their ids with commas between, as one moving picture.

        Each is shown for so many milliseconds; with `back` they run back again.
        """
        store, names = service.store, ids.split(",")
        if not 2 <= len(names) <= Options.MOST:
            message = f"{len(names)} pictures: give 2 to {Options.MOST}"
            raise ApiError(400, message, param="ids", code="invalid_value")

        def found() -> bytes:
            stored = [store.picture(name, request.state.owner) for name in names]
            rows = [one for one in stored if one is not None]
            if len(rows) != len(names):
                raise ApiError(404, "no such picture", param="ids", code="not_found")
            if len({(one.width, one.height) for one in rows}) > 1:
                raise ApiError(400, "pictures of several sizes: give those of one", param="ids")
            images = [open_image(store.pictures / one.file).convert("RGB") for one in rows]
            images += images[-2:0:-1] if back else []
            texts = {"prompt": rows[0].prompt, "model": rows[0].bundle, **rows[0].settings}
            marks = [read_source_type(store.pictures / one.file) for one in rows]
            made = next((SourceType(mark) for mark in marks if mark in list(SourceType)), None)
            data = moving(images, StripKind(format), texts, made, milliseconds=milliseconds)
            if (signer := service.marking.signer) is None or made is None:
                return data
            return signer.sign(data, made, [store.pictures / one.file for one in rows[:MOST_PARENTS]])

        headers = {"content-disposition": f'attachment; filename="frames.{format}"'}
        return Response(await asyncio.to_thread(found), media_type=f"image/{format}", headers=headers)
