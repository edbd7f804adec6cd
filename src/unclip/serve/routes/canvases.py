"""Canvases of the page, saved as it makes them."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from unclip.serve import schema
from unclip.serve.contract import checked
from unclip.serve.errors import ApiError
from unclip.serve.requests import Id, document_of
from unclip.serve.service import Service

LARGEST_CANVAS = 4 * 2**20  # characters
MOST_CANVASES = 1000


def add_canvases(app: FastAPI, service: Service) -> None:
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
