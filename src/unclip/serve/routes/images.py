"""The Images API: pictures from texts, from parts of pictures, and from pictures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from unclip.serve import schema
from unclip.serve.contract import Asked
from unclip.serve.errors import ApiError
from unclip.serve.fields import ResponseFormat
from unclip.serve.jobs import Job, State
from unclip.serve.live import Live
from unclip.serve.outgoing import base64_of, preview_of
from unclip.serve.requests import COMMENT_SECONDS, STREAM, Waiter, asked_of, client_gone
from unclip.serve.service import Service


def add_images(app: FastAPI, service: Service) -> None:
    async def draw(request: Request, verb: str) -> Response:
        waiter, wanted = Waiter.of(request), await asked_of(request, verb, service.models)
        live = await service.submit(
            wanted,
            waiter.owner,
            waiter.who,
            kept=waiter.kept,
            idempotency=waiter.idempotency,
            patience=waiter.patience,
        )
        if isinstance(live, Job):
            return await _again(service, live, wanted, waiter)
        if wanted.stream:
            return StreamingResponse(_streamed(request, service, live), media_type=STREAM)
        await _awaited(request, service, live)
        if live.error is not None:
            raise live.error
        return JSONResponse(await _answer(service, live, waiter))

    streams: dict[int | str, dict[str, Any]] = {200: {"content": {STREAM: {}}}}

    @app.post(
        "/v1/images/generations",
        openapi_extra=schema.body("generate"),
        response_model=schema.Images,
        responses=streams,
    )
    async def generations(request: Request) -> Response:
        """Draw pictures from a text."""
        return await draw(request, "generate")

    @app.post(
        "/v1/images/edits",
        openapi_extra=schema.body("edit"),
        response_model=schema.Images,
        responses=streams,
    )
    async def edits(request: Request) -> Response:
        """Draw a part of a picture anew."""
        return await draw(request, "edit")

    @app.post("/v1/images/variations", openapi_extra=schema.body("vary"), response_model=schema.Images)
    async def variations(request: Request) -> Response:
        """Draw variations of a picture."""
        return await draw(request, "vary")


async def _awaited(request: Request, service: Service, live: Live) -> None:
    """Wait for a job's end. A job that is not kept ends with its client."""
    gone = asyncio.ensure_future(client_gone(request))
    ended = asyncio.ensure_future(live.ended.wait())
    try:
        await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not live.ended.is_set():
            if not live.kept:
                service.cancel(live)
            raise ApiError(499, "the client has gone", code="client_gone")
    except asyncio.CancelledError:
        if not live.kept:
            service.cancel(live)
        raise
    finally:
        gone.cancel()
        ended.cancel()


async def _answer(service: Service, live: Live, waiter: Waiter) -> dict[str, Any]:
    """The JSON answer to a request."""
    wanted, data = live.asked, []
    if wanted.response_format is ResponseFormat.URL:
        for picture, stored in zip(live.pictures, live.stored, strict=True):
            entry = {"url": service.addresses.of(stored, waiter.base)}
            data.append({**entry, "seed": picture.seed, "index": picture.index, "score": picture.score})
    else:
        for picture in live.pictures:
            file = await asyncio.to_thread(service.marking.file, picture, wanted)
            entry = {"b64_json": base64_of(file)}
            data.append({**entry, "seed": picture.seed, "index": picture.index, "score": picture.score})
    width, height = live.pictures[0].image.size
    said: dict[str, Any] = {"warnings": live.warnings} if live.warnings else {}
    if live.withheld:
        said["withheld"] = [one.document for one in live.withheld]
    return {
        "created": int(live.created),
        "data": data,
        **_about(wanted, width, height),
        "usage": _usage(live.tokens),
        "job": live.id,
        **wanted.echoed,
        **said,
    }


def _about(wanted: Asked, width: int, height: int) -> dict[str, str]:
    return {
        "background": "opaque",
        "output_format": str(wanted.output_format),
        "quality": str(wanted.quality),
        "size": f"{width}x{height}",
    }


def _usage(tokens: int) -> dict[str, Any]:
    """Tokens of the prompt; pictures are not counted in tokens here."""
    return {
        "input_tokens": tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": tokens},
        "output_tokens": 0,
        "total_tokens": tokens,
    }


async def _again(service: Service, job: Job, wanted: Asked, waiter: Waiter) -> Response:
    """The answer to a request whose job, of the same idempotency key, is over."""
    if job.state is not State.DONE:
        error = job.error or {}
        raise ApiError(
            409 if job.state is State.CANCELLED else 500,
            str(error.get("message", "the job was cancelled")),
            param=error.get("param"),
            code=error.get("code") or "cancelled",
            headers={"x-should-retry": "false"},
        )
    stored = await asyncio.to_thread(service.store.of_job, job.id)
    data: list[dict[str, Any]] = []
    for one in stored:
        if wanted.response_format is ResponseFormat.URL:
            entry = {"url": service.addresses.of(one, waiter.base)}
        else:
            path = service.store.pictures / one.file
            entry = {"b64_json": base64_of(await asyncio.to_thread(path.read_bytes))}
        data.append({**entry, "seed": one.seed, "index": one.number, "score": one.score})
    if not stored:
        raise ApiError(410, "the pictures of this job are deleted", code="gone")
    about = _about(wanted, stored[0].width, stored[0].height)
    if wanted.stream:
        last = {**data[0], **about, "usage": _usage(0), "job": job.id}
        return StreamingResponse(iter([_event(f"{_kind(wanted)}.completed", last)]), media_type=STREAM)
    more = {"usage": _usage(0), "job": job.id, **wanted.echoed}
    return JSONResponse({"created": int(job.created), "data": data, **about, **more})


async def _streamed(request: Request, service: Service, live: Live) -> AsyncIterator[str]:
    """Events of a job; where it stands in the queue goes into comments, which clients pass over."""
    gone = asyncio.ensure_future(client_gone(request))
    wanted, sent, ahead, kind = live.asked, 0, -1, _kind(live.asked)
    size = _default(service, wanted) if wanted.size is None else wanted.size[0]

    async def due() -> AsyncIterator[str]:
        nonlocal sent
        while sent < len(live.partials):
            image = await asyncio.to_thread(preview_of, live.partials[sent], size)
            if await asyncio.to_thread(service.guard(wanted.bundle).refuses, image) is not None:
                live.partials = live.partials[:sent] + live.partials[sent + 1 :]
                continue
            file = await asyncio.to_thread(service.marking.on_the_way, image, wanted)
            about = {"b64_json": base64_of(file), "partial_image_index": sent}
            sent += 1
            yield _event(f"{kind}.partial_image", about | _about(wanted, *image.size))

    changes = live.changes()
    try:
        coming = asyncio.ensure_future(anext(changes, False))
        while not live.ended.is_set():
            if live.state is State.QUEUED and (now := service.ahead(live)) != ahead:
                ahead = now
                yield f": queued, {ahead} ahead, about {service.seconds_left(live):.0f} s\n\n"
            async for event in due():
                yield event
            waits = {gone, coming}
            done, _ = await asyncio.wait(waits, timeout=COMMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if gone in done:
                return
            if coming in done:
                if coming.result() is False:
                    break
                coming = asyncio.ensure_future(anext(changes, False))
            if not done:
                yield f": {live.stage or 'queued'} {live.step} of {live.total}\n\n"
        await live.ended.wait()
        async for event in due():
            yield event
        if live.error is not None:
            yield f"data: {json.dumps(live.error.document)}\n\n"
            return
        (picture,) = live.pictures
        file = await asyncio.to_thread(service.marking.file, picture, wanted)
        about = {"b64_json": base64_of(file), "seed": picture.seed, "score": picture.score, "job": live.id}
        usage = {"usage": _usage(live.tokens)}
        yield _event(f"{kind}.completed", about | _about(wanted, *picture.image.size) | usage)
    finally:
        gone.cancel()
        coming.cancel()
        if not live.kept:
            service.cancel(live)


def _kind(wanted: Asked) -> str:
    """The names of the events of a request."""
    return "image_edit" if wanted.verb == "edit" else "image_generation"


def _default(service: Service, wanted: Asked) -> int | None:
    """The side of partial pictures; of an edit the part that is drawn, as it is."""
    return None if wanted.verb == "edit" else service.models.abilities[wanted.bundle].default_size


def _event(kind: str, data: Mapping[str, Any]) -> str:
    document = {"type": kind, "created_at": int(time.time()), **data}
    return f"event: {kind}\ndata: {json.dumps(document)}\n\n"
