"""Probes, metrics, and the sessions of the page."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from unclip.serve import schema
from unclip.serve.contract import checked
from unclip.serve.errors import ApiError
from unclip.serve.keys import SESSION_SECONDS, Keys
from unclip.serve.limits import COOKIE, cookie
from unclip.serve.requests import document_of
from unclip.serve.service import Service


def add_house(app: FastAPI, service: Service, keys: Keys | None) -> None:
    @app.get("/health/live", response_model=schema.Health)
    async def live() -> Response:
        """The process answers."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", response_model=schema.Health)
    async def ready() -> Response:
        """A picture has been drawn, and the server is not stopping."""
        if service.draining or not service.ready or not service.worker.is_alive():
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
