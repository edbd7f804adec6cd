"""Jobs: submitted, followed, seen and ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from unclip.serve import schema
from unclip.serve.documents import job_document
from unclip.serve.errors import ApiError
from unclip.serve.fields import VERBS
from unclip.serve.jobs import Job, State, Stored
from unclip.serve.live import Live
from unclip.serve.outgoing import preview_of
from unclip.serve.requests import (
    COMMENT_SECONDS,
    MOST_LISTED,
    STREAM,
    Id,
    Waiter,
    asked_by,
    client_gone,
    document_of,
)
from unclip.serve.service import Service


def add_jobs(app: FastAPI, service: Service) -> None:
    async def found(id: str, owner: str) -> tuple[Live | Job, list[Stored]]:
        live = service.live.get(id)
        if live is not None and live.owner == owner:
            return live, live.stored
        job = await asyncio.to_thread(service.store.job, id, owner)
        if job is None:
            raise ApiError(404, "no such job", param="id", code="not_found")
        return job, await asyncio.to_thread(service.store.of_job, id)

    @app.post(
        "/v1/unclip/jobs", status_code=202, openapi_extra=schema.body(*VERBS), response_model=schema.Job
    )
    async def submit(request: Request) -> Response:
        """Have something drawn, whether anybody waits or not; `verb` says what."""
        waiter = Waiter.of(request)
        values, files, form = await document_of(request)
        verb = values.pop("verb", None)
        if not isinstance(verb, str) or verb not in VERBS:
            raise ApiError(400, f"verb: choose {', '.join(VERBS)}", param="verb", code="invalid_value")
        if values.get("stream"):
            raise ApiError(400, "a job tells of itself at its events: leave stream out", param="stream")
        wanted = asked_by(values, files, form, verb, service.models)
        live = await service.submit(
            wanted, waiter.owner, waiter.who, kept=True, idempotency=waiter.idempotency
        )
        stored = live.stored if isinstance(live, Live) else service.store.of_job(live.id)
        return JSONResponse(job_document(service, live, waiter.base, stored), 202)

    @app.get("/v1/unclip/jobs", response_model=schema.Jobs)
    async def jobs(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
        before: Annotated[float | None, Query(ge=0, le=1e12)] = None,
    ) -> Response:
        """Jobs, the newest first; `before` is the `next` of the answer before."""
        rows = await asyncio.to_thread(service.store.jobs, request.state.owner, limit, before)
        base = str(request.base_url)
        data = []
        for row in rows:
            job, stored = await found(row.id, request.state.owner)
            data.append(job_document(service, job, base, stored))
        following = rows[-1].created if len(rows) == limit else None
        return JSONResponse({"object": "list", "data": data, "next": following})

    @app.get("/v1/unclip/jobs/{id}", response_model=schema.Job)
    async def job(request: Request, id: Id) -> Response:
        """The state of a job."""
        one, stored = await found(id, request.state.owner)
        return JSONResponse(job_document(service, one, str(request.base_url), stored))

    @app.get("/v1/unclip/jobs/{id}/events", responses={200: {"content": {"text/event-stream": {}}}})
    async def events(request: Request, id: Id) -> Response:
        """The state of a job, again whenever it changes; each event says all, so one may come at any time."""
        one, stored = await found(id, request.state.owner)
        base = str(request.base_url)

        async def told() -> AsyncIterator[str]:
            gone = asyncio.ensure_future(client_gone(request))
            try:
                if isinstance(one, Live):
                    changes, last = one.changes(), ""
                    coming = asyncio.ensure_future(anext(changes, False))
                    while True:
                        waits = {gone, coming}
                        done, _ = await asyncio.wait(
                            waits, timeout=COMMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                        )
                        if gone in done:
                            return
                        if not done:
                            yield ": still there\n\n"
                            continue
                        if coming.result() is False:
                            break
                        text = json.dumps(job_document(service, one, base, one.stored))
                        if text != last:
                            yield f"event: job\ndata: {text}\n\n"
                        last = text
                        coming = asyncio.ensure_future(anext(changes, False))
                    text = json.dumps(job_document(service, one, base, one.stored))
                else:
                    text = json.dumps(job_document(service, one, base, stored))
                yield f"event: job\ndata: {text}\n\n"
            finally:
                gone.cancel()

        return StreamingResponse(told(), media_type=STREAM)

    @app.get("/v1/unclip/jobs/{id}/preview", responses={200: {"content": {"image/png": {}}}})
    async def preview(request: Request, id: Id) -> Response:
        """The picture as it looks by now, a PNG as small as it is painted."""
        one, _ = await found(id, request.state.owner)
        estimate = one.preview if isinstance(one, Live) else None
        if estimate is None:
            raise ApiError(404, "there is nothing to be seen yet, or any more", code="not_found")
        image = await asyncio.to_thread(preview_of, estimate)
        from unclip.images import encode

        return Response(await asyncio.to_thread(encode, image, "png"), media_type="image/png")

    @app.post("/v1/unclip/jobs/{id}/cancel", response_model=schema.Job)
    async def cancel(request: Request, id: Id) -> Response:
        """End a job before its next step; one that is over stays as it is."""
        one, stored = await found(id, request.state.owner)
        if isinstance(one, Live):
            service.cancel(one)
            await one.ended.wait()
        return JSONResponse(job_document(service, one, str(request.base_url), stored))

    @app.post("/v1/unclip/cancel", response_model=schema.Cancelled)
    async def cancel_others(
        request: Request, but: Annotated[str, Query(pattern=r"^[a-z0-9_]{0,64}$")] = ""
    ) -> Response:
        """End all of one's jobs but one."""
        mine = [live for live in service.live.values() if live.owner == request.state.owner]
        others = [live for live in mine if live.id != but]
        for live in others:
            service.cancel(live)
        for live in others:
            await live.ended.wait()
        ids = [live.id for live in others if live.state is State.CANCELLED]
        return JSONResponse({"cancelled": ids})
