"""The routes: the Images API, and beside it what has no place in it, under `/v1/unclip/`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from unclip import __version__
from unclip.errors import UnclipError
from unclip.serve import schema
from unclip.serve.contract import VERBS, ApiError, Asked, ResponseFormat, asked, checked
from unclip.serve.documents import job_document, picture_document
from unclip.serve.jobs import Job, State, Stored
from unclip.serve.keys import SESSION_SECONDS, Keys
from unclip.serve.library import add_library
from unclip.serve.limits import COOKIE, Gate, cookie
from unclip.serve.page import add_page
from unclip.serve.requests import Id, document_of
from unclip.serve.service import Live, Service, base64_of, encoded, png_of, preview_of

STREAM = "text/event-stream"
COMMENT_SECONDS = 10.0  # between two signs of life in a stream
MOST_LISTED = 100
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": schema.Error, "description": "What went wrong."}
}


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


def create_app(
    service: Service,
    *,
    keys: Keys | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    ready: Callable[[], None],
    ended: Callable[[Exception], None],
) -> Gate:
    """The whole server as an ASGI application.

    Args:
        service: draws.
        keys, hosts, origins: as of `Gate`.
        ready: called when the first picture has been drawn.
        ended: told why it cannot be.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()

        async def warm() -> None:
            try:
                await service.warm()
            except Exception as error:
                ended(error)
            else:
                ready()

        warming = asyncio.create_task(warm())
        yield
        warming.cancel()
        await service.stop()

    app = FastAPI(
        title="unclip", version=__version__, lifespan=life, docs_url=None, redoc_url=None, responses=ERRORS
    )
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    app.add_exception_handler(ApiError, _on_error)
    app.add_exception_handler(
        UnclipError, _on_error
    )  # of a model; others go to the log with where they arose
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_error)
    _images(app, service)
    _models(app, service)
    _jobs(app, service)
    _pictures(app, service)
    add_library(app, service)
    _house(app, service, keys)
    add_page(app)
    app.openapi = lambda: schema.document(app)  # type: ignore[method-assign]
    return Gate(app, service.metrics, keys, hosts, origins)


# --- errors ---


async def _on_error(request: Request, error: Exception) -> Response:
    told = ApiError.of(error)
    return JSONResponse(told.document, told.status, told.headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {404: "not_found", 405: "method_not_allowed"}
    code = names.get(error.status_code, "invalid_request")
    message = {404: "there is nothing here", 405: "this method is not for this address"}
    text = message.get(error.status_code, str(error.detail))
    told, headers = ApiError(error.status_code, text, code=code), dict(error.headers or {})
    if error.status_code == 405:  # of a route alone, where several share an address
        headers["allow"] = ", ".join(sorted(_methods(request)))
    return JSONResponse(told.document, told.status, headers)


def _methods(request: Request) -> set[str]:
    """The methods that an address takes."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    told = ApiError(400, f"{name}: {first['msg']}", param=name, code="invalid_value")
    return JSONResponse(told.document, told.status)


# --- reading ---


async def asked_of(request: Request, verb: str, service: Service) -> Asked:
    """The request of a body, checked. Raises ApiError that names the field that is wrong."""
    values, files, form = await document_of(request)
    return asked_by(values, files, form, verb, service)


def asked_by(
    values: Mapping[str, Any],
    files: Mapping[str, tuple[bytes, ...]],
    form: bool,
    verb: str,
    service: Service,
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
    return asked(verb, plain, service.models, files)


# --- the Images API ---


def _images(app: FastAPI, service: Service) -> None:
    async def draw(request: Request, verb: str) -> Response:
        waiter, wanted = Waiter.of(request), await asked_of(request, verb, service)
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


async def _gone(request: Request) -> None:
    """Comes back when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _awaited(request: Request, service: Service, live: Live) -> None:
    """Wait for a job's end. A job that is not kept ends with its client."""
    gone = asyncio.ensure_future(_gone(request))
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
            entry = {"url": service.address(stored, waiter.base)}
            data.append({**entry, "seed": picture.seed, "index": picture.index, "score": picture.score})
    else:
        for picture in live.pictures:
            file = await asyncio.to_thread(encoded, picture, wanted)
            entry = {"b64_json": base64_of(file)}
            data.append({**entry, "seed": picture.seed, "index": picture.index, "score": picture.score})
    width, height = live.pictures[0].image.size
    said = {"warnings": live.warnings} if live.warnings else {}
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
            entry = {"url": service.address(one, waiter.base)}
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
    gone = asyncio.ensure_future(_gone(request))
    wanted, sent, ahead, kind = live.asked, 0, -1, _kind(live.asked)
    size = _default(service, wanted) if wanted.size is None else wanted.size[0]

    async def due() -> AsyncIterator[str]:
        nonlocal sent
        while sent < len(live.partials):
            image = await asyncio.to_thread(preview_of, live.partials[sent], size)
            file = await asyncio.to_thread(png_of, image, wanted)
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
        file = await asyncio.to_thread(encoded, picture, wanted)
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


# --- models ---


def _models(app: FastAPI, service: Service) -> None:
    started = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        models, bundle = service.models, service.models.bundles[name]
        able = models.abilities[name]
        return {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "unclip",
            "family": bundle.family,
            "identity": bundle.identity,
            "licence": bundle.manifest.licence,
            "aliases": [alias for alias, meant in models.aliases.items() if meant == name],
            "verbs": list(able.verbs),
            "sizes": [f"{side}x{side}" for side in able.sizes],
            "default_size": f"{able.default_size}x{able.default_size}",
            "settings": list(able.settings),
            "steps": dict(able.steps),
            "guidance": able.guidance,
            "styles": list(able.styles),
            "languages": list(bundle.languages),
            "loaded": name in models.loaded,
        }

    @app.get("/v1/models", response_model=schema.ModelList)
    async def models() -> Response:
        """The bundles that are served, the first one first."""
        return JSONResponse({"object": "list", "data": [entry(name) for name in service.models.bundles]})

    @app.get("/v1/models/{model}", response_model=schema.Model)
    async def model(model: Annotated[str, Path(max_length=256)]) -> Response:
        """What a bundle can."""
        name = service.models.named(model)
        if name is None:
            raise ApiError(404, f"no model {model!r}", param="model", code="model_not_found")
        return JSONResponse(entry(name))


# --- jobs ---


def _jobs(app: FastAPI, service: Service) -> None:
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
        wanted = asked_by(values, files, form, verb, service)
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
        """How far a job is."""
        one, stored = await found(id, request.state.owner)
        return JSONResponse(job_document(service, one, str(request.base_url), stored))

    @app.get("/v1/unclip/jobs/{id}/events", responses={200: {"content": {"text/event-stream": {}}}})
    async def events(request: Request, id: Id) -> Response:
        """How far a job is, again whenever that changes; each event says all, so one may come at any time."""
        one, stored = await found(id, request.state.owner)
        base = str(request.base_url)

        async def told() -> AsyncIterator[str]:
            gone = asyncio.ensure_future(_gone(request))
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


# --- pictures ---


def _pictures(app: FastAPI, service: Service) -> None:
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
        if not service.is_signed(id, expires, signature):
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
        deleted: bool = False,
    ) -> Response:
        """Kept pictures, the newest first; `before` is the `next` of the answer before."""
        rows = await asyncio.to_thread(
            lambda: store.library(
                request.state.owner,
                limit,
                before=before,
                text=text,
                starred=starred,
                board=board,
                deleted=deleted,
            )
        )
        data = [picture_document(service, row, str(request.base_url)) for row in rows]
        following = rows[-1].created if len(rows) == limit else None
        return JSONResponse({"object": "list", "data": data, "next": following})

    @app.get("/v1/unclip/pictures/{id}", response_model=schema.Picture)
    async def picture(request: Request, id: Id) -> Response:
        """What is known of a kept picture."""
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
        changes: dict[str, Any] = wanted.model_dump(exclude_none=True)
        if "deleted" in changes:
            changes["deleted"] = time.time() if changes["deleted"] else None
        if "starred" in changes:
            changes["starred"] = int(changes["starred"])
        stored = await asyncio.to_thread(lambda: store.change(id, request.state.owner, **changes))
        assert stored is not None
        return JSONResponse(picture_document(service, stored, str(request.base_url)))


# --- the rest ---


def _house(app: FastAPI, service: Service, keys: Keys | None) -> None:
    @app.get("/health/live", response_model=schema.Health)
    async def live() -> Response:
        """The process answers."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", response_model=schema.Health)
    async def ready() -> Response:
        """A picture has been drawn, and the server is not stopping."""
        if service.draining or not service.ready or not service.scheduler.is_alive():
            raise ApiError(503, "not ready", code="not_ready")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/v1/unclip/login", openapi_extra=schema.plain_body(schema.Login), response_model=schema.Health)
    async def login(request: Request) -> Response:
        """Give a key for a cookie, for a page."""
        values, _, _ = await document_of(request)
        wanted = checked(schema.Login, values)
        if keys is None:
            raise ApiError(400, "this server has no keys: nobody needs to log in", code="no_keys")
        token = keys.log_in(wanted.key)
        if token is None:
            raise ApiError(401, "no such key", param="key", code="invalid_api_key")
        answer = JSONResponse({"status": "logged in"})
        secure = (service.public_url or str(request.base_url)).startswith("https:")
        answer.set_cookie(
            COOKIE, token, max_age=int(SESSION_SECONDS), httponly=True, samesite="strict", secure=secure
        )
        return answer

    @app.post("/v1/unclip/logout", response_model=schema.Health)
    async def logout(request: Request) -> Response:
        """End the session of a page."""
        token = cookie(request.headers)
        if keys is not None and token is not None:
            keys.log_out(token)
        answer = JSONResponse({"status": "logged out"})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer
