"""Boards: names that kept pictures are put together under."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse

from unclip.serve import schema
from unclip.serve.contract import checked
from unclip.serve.errors import ApiError
from unclip.serve.requests import document_of
from unclip.serve.service import Service

MOST_BOARDS = 1000
Name = Annotated[str, Path(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]


def add_boards(app: FastAPI, service: Service) -> None:
    store = service.store

    async def listed(owner: str) -> Response:
        return JSONResponse({"object": "list", "data": await asyncio.to_thread(store.boards, owner)})

    @app.get("/v1/unclip/boards", response_model=schema.Boards)
    async def boards(request: Request) -> Response:
        """The boards by name, with the count of their pictures and the newest one as a cover."""
        return await listed(request.state.owner)

    @app.post(
        "/v1/unclip/boards", openapi_extra=schema.plain_body(schema.BoardBody), response_model=schema.Boards
    )
    async def make(request: Request) -> Response:
        """Make a board with nothing on it; a picture is put on it by its own `board`."""
        values, _, _ = await document_of(request)
        name = checked(schema.BoardBody, values).name
        if not await asyncio.to_thread(store.make_board, request.state.owner, name, MOST_BOARDS):
            raise ApiError(409, f"there are {MOST_BOARDS} boards: delete one", param="name", code="conflict")
        return await listed(request.state.owner)

    @app.patch(
        "/v1/unclip/boards/{name:path}",
        openapi_extra=schema.plain_body(schema.BoardBody),
        response_model=schema.Boards,
    )
    async def rename(request: Request, name: Name) -> Response:
        """Rename a board; where one of the new name is there, they become one."""
        values, _, _ = await document_of(request)
        to = checked(schema.BoardBody, values).name
        if not await asyncio.to_thread(store.rename_board, request.state.owner, name, to):
            raise ApiError(404, "no such board", param="name", code="not_found")
        return await listed(request.state.owner)

    @app.delete("/v1/unclip/boards/{name:path}", status_code=204)
    async def remove(request: Request, name: Name) -> Response:
        """Take a board away; its pictures stay in the library."""
        if not await asyncio.to_thread(store.rename_board, request.state.owner, name, None):
            raise ApiError(404, "no such board", param="name", code="not_found")
        return Response(status_code=204)
