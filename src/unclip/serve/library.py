"""Routes for what is kept and for CLIP at work: thumbnails, archives, search, labels, canvases, models."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder
from unclip.images import ImageFormat, encode, on_white, open_image
from unclip.model import Model
from unclip.serve import schema
from unclip.serve.contract import ApiError, checked, picture_of
from unclip.serve.documents import picture_document
from unclip.serve.jobs import Stored
from unclip.serve.requests import Id, document_of
from unclip.serve.service import Service, example

MOST_ZIPPED = 100  # pictures
MOST_SEARCHED = 2000  # the newest
EMBEDDED_AT_ONCE = 16  # between two steps of what is drawn
LARGEST_CANVAS = 4 * 2**20  # characters
MOST_CANVASES = 1000


def add_library(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    _files(app, service)
    _clip(app, service)
    _canvases(app, service)
    _models(app, service)


async def _own(service: Service, id: str, owner: str) -> Stored:
    stored = await asyncio.to_thread(service.store.picture, id, owner)
    if stored is None:
        raise ApiError(404, "no such picture", param="id", code="not_found")
    return stored


def _files(app: FastAPI, service: Service) -> None:
    store = service.store

    @app.get("/v1/unclip/pictures/{id}/thumbnail", responses={200: {"content": {"image/webp": {}}}})
    async def thumbnail(
        request: Request, id: Id, side: Annotated[int, Query(ge=16, le=512)] = 256
    ) -> Response:
        """A kept picture as a small WebP, its longer side of so many pixels at most."""
        stored = await _own(service, id, request.state.owner)

        def made() -> bytes:
            image = on_white(open_image(store.pictures / stored.file, at_least=side))
            image.thumbnail((side, side))
            return encode(image, ImageFormat.WEBP)

        headers = {"cache-control": "private, max-age=86400"}
        return Response(await asyncio.to_thread(made), media_type="image/webp", headers=headers)

    @app.get("/v1/unclip/zip", responses={200: {"content": {"application/zip": {}}}})
    async def archive(
        request: Request, ids: Annotated[str, Query(pattern=r"^[a-z0-9_,]+$", max_length=8000)]
    ) -> Response:
        """Kept pictures, their ids with commas between, as one archive."""
        names = list(dict.fromkeys(ids.split(",")))
        if len(names) > MOST_ZIPPED:
            raise ApiError(400, f"{len(names)} pictures: at most {MOST_ZIPPED} at once", param="ids")
        found = [await _own(service, name, request.state.owner) for name in names]

        def made() -> bytes:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:  # pictures are compressed
                for one in found:
                    file.write(store.pictures / one.file, one.file)
            return buffer.getvalue()

        headers = {"content-disposition": 'attachment; filename="pictures.zip"'}
        return Response(await asyncio.to_thread(made), media_type="application/zip", headers=headers)


def _clip(app: FastAPI, service: Service) -> None:
    def chosen(name: str | None) -> str:
        bundle = service.models.named(name)
        if bundle is None:
            raise ApiError(404, f"no model {name!r}", param="model", code="model_not_found")
        return bundle

    def sees(model: Model) -> ClipEmbedder:
        clip = model.clip
        _ = clip.preprocessing  # refuses one that reads texts alone
        return clip

    @app.post(
        "/v1/unclip/classify",
        openapi_extra=schema.plain_body(schema.Classify),
        response_model=schema.Probabilities,
    )
    async def classify(request: Request) -> Response:
        """How likely each label is for a picture, as CLIP sees it."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Classify, values)
        picture = picture_of(wanted.image, "image")
        (found,) = await service.with_model(
            chosen(wanted.model), lambda model: sees(model).classify([picture], wanted.labels)
        )
        labels = [{"label": label, "probability": round(value, 6)} for label, value in found.items()]
        return JSONResponse({"labels": labels})

    @app.post(
        "/v1/unclip/search", openapi_extra=schema.plain_body(schema.Search), response_model=schema.Found
    )
    async def search(request: Request) -> Response:
        """Kept pictures that are nearest to a text or a picture, as CLIP sees them."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Search, values)
        if (wanted.text is None) == (wanted.image is None):
            raise ApiError(400, "give one of text and image", param="text", code="conflict")
        bundle, owner = chosen(wanted.model), request.state.owner
        rows = await asyncio.to_thread(service.store.library, owner, MOST_SEARCHED)
        vectors = await _embedded(service, bundle, rows)
        picture = None if wanted.image is None else picture_of(wanted.image, "image")

        def query(model: Model) -> np.ndarray:
            clip = sees(model)
            found = clip.embed_texts([wanted.text or ""]) if picture is None else clip.embed_images([picture])
            return found[0].numpy()

        asked = await service.with_model(bundle, query)
        scores = vectors @ asked if rows else np.zeros(0)
        order = np.argsort(-scores)[: wanted.limit]
        base = str(request.base_url)
        data = [
            {
                "similarity": round(float(scores[row]), 4),
                "picture": picture_document(service, rows[row], base),
            }
            for row in order
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _embedded(service: Service, bundle: str, rows: Sequence[Stored]) -> np.ndarray:
        """Embeddings (N, E) of kept pictures: those that are known, and the rest now, some at a time."""
        store = service.store
        identity = await service.with_model(bundle, lambda model: sees(model).identity)
        known = await asyncio.to_thread(store.embeddings, identity)
        missing = [row for row in rows if row.id not in known]
        for start in range(0, len(missing), EMBEDDED_AT_ONCE):
            some = missing[start : start + EMBEDDED_AT_ONCE]
            paths = [store.pictures / one.file for one in some]

            def embed(model: Model, paths: Sequence[Path] = paths) -> np.ndarray:
                return sees(model).embed_images(paths).numpy()

            found = await service.with_model(bundle, embed)
            fresh = dict(zip([one.id for one in some], found, strict=True))
            await asyncio.to_thread(store.embed, identity, fresh)
            known |= fresh
        return np.stack([known[row.id] for row in rows]) if rows else np.zeros((0, 0))


def _canvases(app: FastAPI, service: Service) -> None:
    store = service.store

    @app.get("/v1/unclip/canvases", response_model=schema.Canvases)
    async def canvases(request: Request) -> Response:
        """The canvases that were saved, the latest first, without what is on them."""
        found = await asyncio.to_thread(store.canvases, request.state.owner, MOST_CANVASES)
        return JSONResponse({"object": "list", "data": found})

    @app.get("/v1/unclip/canvases/{id}", response_model=schema.Canvas)
    async def canvas(request: Request, id: Id) -> Response:
        """A canvas as it was saved last."""
        found = await asyncio.to_thread(store.canvas, id, request.state.owner)
        if found is None:
            raise ApiError(404, "no such canvas", param="id", code="not_found")
        return JSONResponse(found)

    @app.put(
        "/v1/unclip/canvases/{id}",
        openapi_extra=schema.plain_body(schema.CanvasBody),
        response_model=schema.Canvas,
    )
    async def save(request: Request, id: Id) -> Response:
        """Save a canvas; what was saved under its name before is replaced."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.CanvasBody, values)
        if len(wanted.document) > LARGEST_CANVAS:
            message = f"more than {LARGEST_CANVAS} characters: keep pictures in the library"
            raise ApiError(413, message, param="document", code="canvas_too_large")
        owner = request.state.owner
        saved = await asyncio.to_thread(
            store.save_canvas, id, owner, wanted.name, wanted.document, MOST_CANVASES
        )
        if not saved:
            raise ApiError(409, "this name is taken, or there are too many canvases", param="id")
        return JSONResponse(await asyncio.to_thread(store.canvas, id, owner))

    @app.delete("/v1/unclip/canvases/{id}", status_code=204)
    async def remove(request: Request, id: Id) -> Response:
        """Delete a canvas."""
        if not await asyncio.to_thread(store.delete_canvas, id, request.state.owner):
            raise ApiError(404, "no such canvas", param="id", code="not_found")
        return Response(status_code=204)


def _models(app: FastAPI, service: Service) -> None:
    async def changed(name: str, load: bool) -> Response:
        models = service.models
        if name not in models.bundles:
            raise ApiError(404, f"no model {name[:64]!r}", param="model", code="model_not_found")
        started = time.perf_counter()

        def work() -> None:
            if load:
                model = models.get(name)
                model.parts([Job(example(model), 0, 0)], Options(size=model.default_size))
            else:
                models.unload(name)

        await asyncio.wrap_future(service.scheduler.call(work))
        seconds = round(time.perf_counter() - started, 3)
        return JSONResponse({"id": name, "loaded": name in models.loaded, "seconds": seconds})

    @app.post("/v1/unclip/models/{model}/load", response_model=schema.Loaded)
    async def load(model: str) -> Response:
        """Have a bundle read its networks, as a first picture would."""
        return await changed(model, True)

    @app.post("/v1/unclip/models/{model}/unload", response_model=schema.Loaded)
    async def unload(model: str) -> Response:
        """Let a bundle's networks go; they are read again when something is to be drawn."""
        return await changed(model, False)
