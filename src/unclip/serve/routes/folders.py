"""Folders of the owner's pictures: indexed, and searched by text and by picture."""

from __future__ import annotations

import asyncio
import io
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image

from unclip.images import open_image
from unclip.search.index import Hit
from unclip.search.query import Filters, Term, day
from unclip.serve import schema
from unclip.serve.contract import checked, picture_of
from unclip.serve.errors import ApiError
from unclip.serve.folders import Folder, folder_document
from unclip.serve.requests import Id, document_of
from unclip.serve.service import Service

Number = Annotated[int, Path(ge=0, le=2**62)]
IMAGES: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}}}


def add_folders(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    folders, worker, models = service.folders, service.worker, service.models

    def found(id: str) -> Folder:
        if id not in folders.found:
            raise ApiError(404, "no such folder", param="id", code="not_found")
        return folders.found[id]

    async def told(folder: Folder, status: int = 200) -> Response:
        return JSONResponse(await asyncio.to_thread(folder_document, folder), status)

    @app.get("/v1/unclip/folders", response_model=schema.Folders)
    async def allowed() -> Response:
        """The folders that the owner of the server has allowed, and how far they are indexed."""
        documents = [await asyncio.to_thread(folder_document, one) for one in folders.found.values()]
        return JSONResponse({"object": "list", "data": documents})

    @app.get("/v1/unclip/folders/{id}", response_model=schema.Folder)
    async def folder(id: Id) -> Response:
        """A folder, and how far it is indexed."""
        return await told(found(id))

    @app.post(
        "/v1/unclip/folders/{id}/index",
        status_code=202,
        openapi_extra=schema.plain_body(schema.Indexing),
        response_model=schema.Folder,
    )
    async def index(request: Request, id: Id) -> Response:
        """Index a folder, or bring its index up to date; the folder tells how far it is."""
        values, _, _ = await document_of(request)
        asked, one = checked(schema.Indexing, values).model, found(id)
        bundle = models.named(asked) or asked or models.first
        if bundle not in models.bundles and not service.is_on_disk(bundle):
            raise ApiError(404, f"no model {bundle[:64]!r}", param="model", code="model_not_found")
        await asyncio.to_thread(folders.begin, one, worker, models, bundle)
        return await told(one, 202)

    @app.post("/v1/unclip/folders/{id}/cancel", response_model=schema.Folder)
    async def cancel(id: Id) -> Response:
        """Stop indexing a folder after the batch that it is at; what is done is kept."""
        one = found(id)
        one.stopped = True
        return await told(one)

    @app.post(
        "/v1/unclip/folders/{id}/search",
        openapi_extra=schema.plain_body(schema.FolderSearch),
        response_model=schema.FolderFound,
    )
    async def search(request: Request, id: Id) -> Response:
        """The folder's pictures that suit a text, a picture or both best, the most probable first."""
        values, _, _ = await document_of(request)
        wanted, one = checked(schema.FolderSearch, values), found(id)
        terms = [Term(wanted.text)] if wanted.text is not None else []
        if wanted.image is not None:
            data = picture_of(wanted.image, "image")
            terms.append(Term(await asyncio.to_thread(open_image, data)))
        if not terms:
            raise ApiError(400, "give text, image or both", param="text", code="missing_required_parameter")
        terms += [Term(text, wanted=False) for text in wanted.without or ()]
        filters = Filters(
            since=None if wanted.since is None else day(wanted.since),
            until=None if wanted.until is None else day(wanted.until),
            aspect=wanted.aspect,
        )
        work = partial(folders.query, one, worker, models, terms, wanted.limit, wanted.threshold, filters)
        hits = await asyncio.to_thread(work)
        return JSONResponse({"object": "list", "data": [_hit(one, hit) for hit in hits]})

    @app.get(
        "/v1/unclip/folders/{id}/pictures/{number}/thumbnail",
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def thumbnail(id: Id, number: Number) -> Response:
        """A picture of a folder as a small JPEG."""
        opened = await asyncio.to_thread(folders.index, found(id), worker, models)
        data = await asyncio.to_thread(opened.thumbnail_file, number)
        if data is None:
            raise ApiError(404, "no such picture", param="number", code="not_found")
        headers = {"cache-control": "private, max-age=86400"}
        return Response(data, media_type="image/jpeg", headers=headers)

    @app.get("/v1/unclip/folders/{id}/pictures/{number}/file", responses=IMAGES)
    async def file(id: Id, number: Number) -> Response:
        """A picture of a folder, its file as it is."""
        one = found(id)
        opened = await asyncio.to_thread(folders.index, one, worker, models)

        def read() -> tuple[bytes, str]:
            path = opened.path(number)
            # what was a picture when it was indexed may have become a link to something else
            if path is None or not path.resolve().is_relative_to(one.path):
                raise ApiError(404, "no such picture", param="number", code="not_found")
            try:
                data = path.read_bytes()
                with Image.open(io.BytesIO(data)) as image:
                    kind = Image.MIME.get(image.format or "", "application/octet-stream")
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                raise ApiError(404, "no such picture", param="number", code="not_found") from None
            return data, kind

        data, kind = await asyncio.to_thread(read)
        return Response(data, media_type=kind)


def _hit(folder: Folder, hit: Hit) -> dict[str, Any]:
    def name(path: Any) -> str:
        return str(path.relative_to(folder.path))

    return {
        "number": hit.number,
        "name": name(hit.path),
        "probability": round(hit.probability, 6),
        "similarity": round(hit.cosine, 4),
        "width": hit.width,
        "height": hit.height,
        "bytes": hit.bytes,
        "date": hit.date,
        "copies": [name(copy) for copy in hit.copies],
    }
