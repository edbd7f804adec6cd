"""The whole server as an ASGI application: routes, errors, and the gate around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from unclip import __version__
from unclip.errors import UnclipError
from unclip.serve import schema
from unclip.serve.errors import ApiError
from unclip.serve.keys import Keys
from unclip.serve.limits import Gate
from unclip.serve.page import add_page
from unclip.serve.routes.aids import add_aids
from unclip.serve.routes.boards import add_boards
from unclip.serve.routes.canvases import add_canvases
from unclip.serve.routes.clip import add_clip
from unclip.serve.routes.folders import add_folders
from unclip.serve.routes.house import add_house
from unclip.serve.routes.images import add_images
from unclip.serve.routes.jobs import add_jobs
from unclip.serve.routes.models import add_models
from unclip.serve.routes.pictures import add_pictures
from unclip.serve.service import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": schema.Error, "description": "What went wrong."}
}


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
    for add in (
        *(add_images, add_models, add_jobs, add_pictures, add_boards),
        *(add_clip, add_canvases, add_aids, add_folders),
    ):
        add(app, service)
    add_house(app, service, keys)
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
