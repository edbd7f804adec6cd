"""The library: kept pictures, their files, thumbnails and archives."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from unclip.images import ImageFormat, encode, on_white, open_image
from unclip.serve import schema
from unclip.serve.contract import checked
from unclip.serve.documents import picture_document
from unclip.serve.errors import ApiError
from unclip.serve.jobs import Stored, Wanted
from unclip.serve.requests import MOST_LISTED, Id, document_of
from unclip.serve.service import Service

MOST_ZIPPED = 100  # pictures


def changes_of(wanted: schema.Change) -> dict[str, Any]:
    """Columns of the store, as a request wants them."""
    changes: dict[str, Any] = wanted.model_dump(exclude_none=True, exclude={"ids"})
    if "deleted" in changes:
        changes["deleted"] = time.time() if changes["deleted"] else None
    if "starred" in changes:
        changes["starred"] = int(changes["starred"])
    return changes


def add_pictures(app: FastAPI, service: Service) -> None:
    store = service.store

    async def found(id: str, owner: str | None) -> Stored:
        stored = await asyncio.to_thread(store.picture, id, owner)
        if stored is None:
            raise ApiError(404, "no such picture", param="id", code="not_found")
        return stored

    async def file_of(stored: Stored) -> Response:
        try:
            data = await asyncio.to_thread((store.pictures / stored.file).read_bytes)
        except OSError:
            raise ApiError(404, "no such picture", param="id", code="not_found") from None
        return Response(data, media_type=f"image/{stored.format}")

    images: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}}
    }

    @app.get("/v1/unclip/files/{id}", responses=images)
    async def file(
        id: Id,
        expires: Annotated[int, Query(ge=0, le=2**40)],
        signature: Annotated[str, Query(max_length=128)],
    ) -> Response:
        """A picture by its signed address, good for an hour."""
        if not service.addresses.are_signed(id, expires, signature):
            raise ApiError(404, "this address is not good, or not any more", code="not_found")
        stored = await found(id, None)
        if stored.deleted is not None or (stored.expires or time.time()) < time.time() - 1:
            raise ApiError(404, "no such picture", param="id", code="not_found")
        return await file_of(stored)

    @app.get("/v1/unclip/pictures", response_model=schema.Pictures)
    async def library(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
        before: Annotated[float | None, Query(ge=0, le=1e12)] = None,
        text: Annotated[str, Query(max_length=200)] = "",
        starred: bool | None = None,
        board: Annotated[str | None, Query(max_length=100)] = None,
        model: Annotated[str | None, Query(max_length=256)] = None,
        since: Annotated[float | None, Query(ge=0, le=1e12)] = None,
        until: Annotated[float | None, Query(ge=0, le=1e12)] = None,
        deleted: bool = False,
    ) -> Response:
        """Kept pictures, the newest first; `before` is the `next` of the answer before.

        `since` and `until` are seconds since 1970; `board=` with nothing finds what is on none.
        """
        wanted = Wanted(text, starred, board, model, since, until, deleted)
        owner = request.state.owner
        rows = await asyncio.to_thread(lambda: store.library(owner, limit, wanted, before=before))
        data = [picture_document(service, row, str(request.base_url)) for row in rows]
        following = rows[-1].created if len(rows) == limit else None
        return JSONResponse({"object": "list", "data": data, "next": following})

    @app.get("/v1/unclip/pictures/{id}", response_model=schema.Picture)
    async def picture(request: Request, id: Id) -> Response:
        """A kept picture's record."""
        stored = await found(id, request.state.owner)
        return JSONResponse(picture_document(service, stored, str(request.base_url)))

    @app.get("/v1/unclip/pictures/{id}/file", responses=images)
    async def picture_file(request: Request, id: Id) -> Response:
        """A kept picture."""
        return await file_of(await found(id, request.state.owner))

    @app.patch(
        "/v1/unclip/pictures/{id}",
        openapi_extra=schema.plain_body(schema.Change),
        response_model=schema.Picture,
    )
    async def change(request: Request, id: Id) -> Response:
        """Star a picture, put it on a board, delete it, or restore it."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Change, values)
        await found(id, request.state.owner)
        changes = changes_of(wanted)
        stored = await asyncio.to_thread(lambda: store.change(id, request.state.owner, **changes))
        assert stored is not None
        return JSONResponse(picture_document(service, stored, str(request.base_url)))

    @app.patch(
        "/v1/unclip/pictures",
        openapi_extra=schema.plain_body(schema.Changes),
        response_model=schema.Changed,
    )
    async def change_all(request: Request) -> Response:
        """The same of several at once; those that are not there are passed over, and not answered."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Changes, values)
        changes, owner = changes_of(wanted), request.state.owner

        def work() -> list[str]:
            there = (id for id in dict.fromkeys(wanted.ids) if store.picture(id, owner) is not None)
            return [id for id in there if store.change(id, owner, **changes) is not None]

        return JSONResponse({"changed": await asyncio.to_thread(work)})

    @app.get("/v1/unclip/pictures/{id}/thumbnail", responses={200: {"content": {"image/webp": {}}}})
    async def thumbnail(
        request: Request, id: Id, side: Annotated[int, Query(ge=16, le=512)] = 256
    ) -> Response:
        """A kept picture as a small WebP, its longer side of so many pixels at most."""
        stored = await found(id, request.state.owner)

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
        several = [await found(name, request.state.owner) for name in names]

        def made() -> bytes:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:  # pictures are compressed
                for one in several:
                    file.write(store.pictures / one.file, one.file)
            return buffer.getvalue()

        headers = {"content-disposition": 'attachment; filename="pictures.zip"'}
        return Response(await asyncio.to_thread(made), media_type="application/zip", headers=headers)
