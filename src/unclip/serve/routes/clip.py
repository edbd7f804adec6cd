"""CLIP at work: labels, and the library searched by text and by picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from unclip.embedding import ClipEmbedder
from unclip.model import Model
from unclip.serve import schema
from unclip.serve.contract import checked, picture_of
from unclip.serve.documents import picture_document
from unclip.serve.errors import ApiError
from unclip.serve.jobs import Stored
from unclip.serve.requests import document_of
from unclip.serve.service import Service

MOST_SEARCHED = 50_000  # the newest
MOST_LOOKED_AT = 256  # for the first time, in one search
EMBEDDED_AT_ONCE = 16  # between two steps of what is drawn


def add_clip(app: FastAPI, service: Service) -> None:
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
        """The probability of each label for a picture, by CLIP."""
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
        """Kept pictures that are nearest to a text or a picture, as CLIP sees them.

        Pictures are looked at when they are searched for the first time, some hundred in one search: `left`
        says how many are to be looked at still, the oldest, and the same search again finds them.
        """
        values, _, _ = await document_of(request)
        wanted = checked(schema.Search, values)
        if (wanted.text is None) == (wanted.image is None):
            raise ApiError(400, "give one of text and image", param="text", code="conflict")
        bundle, owner = chosen(wanted.model), request.state.owner
        rows = await asyncio.to_thread(service.store.library, owner, MOST_SEARCHED)
        vectors, seen = await _embedded(service, bundle, rows)
        left, rows = len(rows) - len(seen), seen
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
        return JSONResponse({"object": "list", "data": data, "left": left})

    async def _embedded(
        service: Service, bundle: str, rows: Sequence[Stored]
    ) -> tuple[np.ndarray, list[Stored]]:
        """Embeddings (N, E) of kept pictures, and of which: those known, and some of the rest now."""
        store = service.store
        identity = await service.with_model(bundle, lambda model: sees(model).identity)
        known = await asyncio.to_thread(store.embeddings, identity)
        missing = [row for row in rows if row.id not in known][:MOST_LOOKED_AT]
        for start in range(0, len(missing), EMBEDDED_AT_ONCE):
            some = missing[start : start + EMBEDDED_AT_ONCE]
            # the worker may be on another machine, which has no such files
            contents = await asyncio.to_thread(_contents, [store.pictures / one.file for one in some])

            def embed(model: Model, contents: Sequence[bytes] = contents) -> np.ndarray:
                return sees(model).embed_images(contents).numpy()

            found = await service.with_model(bundle, embed)
            fresh = dict(zip([one.id for one in some], found, strict=True))
            await asyncio.to_thread(store.embed, identity, fresh)
            known |= fresh
        seen = [row for row in rows if row.id in known]
        return (np.stack([known[row.id] for row in seen]) if seen else np.zeros((0, 0))), seen


def _contents(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]
