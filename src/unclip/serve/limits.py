"""The gate that every request passes before a route sees it: name, origin, owner, and count of its bytes."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unclip.serve.errors import ApiError
from unclip.serve.keys import Keys
from unclip.serve.log import log
from unclip.serve.metrics import Metrics

LARGEST_BODY = 64 * 2**20  # bytes
QUIET_SECONDS = 60.0  # after which an upload that stands still is given up
COOKIE = "unclip"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Need no key: the page asks for one itself.
OPEN = ("/health/live", "/health/ready", "/v1/unclip/login", "/v1/unclip/files/", "/studio/")
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
}


@dataclass
class Gate:
    """An ASGI application around another.

    Attributes:
        app: the other.
        metrics: counts the answers.
        keys: None where everybody on this machine may ask.
        hosts: names that this server is reached by; empty is any.
        origins: pages of other servers that may ask.
    """

    app: ASGIApp
    metrics: Metrics
    keys: Keys | None = None
    hosts: Collection[str] = field(default_factory=tuple)
    origins: Collection[str] = field(default_factory=tuple)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, started, status = f"req_{secrets.token_hex(12)}", time.perf_counter(), 500
        told = False

        async def answer(message: Message) -> None:
            nonlocal status, told
            if message["type"] == "http.response.start":
                status, told = message["status"], True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = name
                for key, value in HEADERS.items():
                    headers.setdefault(key, value)
            await send(message)

        scope.setdefault("state", {})
        try:
            scope["state"]["owner"] = self._owner(scope)
            await self.app(scope, _counted(receive), answer)
        except ApiError as error:
            if not told:
                await refuse(error, answer)
        finally:
            self.metrics.answer(status)
            seconds = round(time.perf_counter() - started, 3)
            if not scope["path"].startswith("/health/"):
                log(
                    "request",
                    request=name,
                    method=scope["method"],
                    path=_route(scope),
                    status=status,
                    seconds=seconds,
                )

    def _owner(self, scope: Scope) -> str:
        """Whose a request is, "" without keys. Raises ApiError where it may not come in."""
        headers, path = Headers(scope=scope), scope["path"]
        if path.startswith("/health/"):
            return ""
        host = _hostname(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            raise ApiError(421, "this server has another name: set --public-url", code="wrong_host")
        origin = headers.get("origin")
        foreign = origin is not None and origin not in self.origins and not _same(origin, scope, headers)
        crossing = headers.get("sec-fetch-site") == "cross-site" and origin not in self.origins
        if scope["method"] not in SAFE_METHODS and (foreign or crossing):
            raise ApiError(403, "a page of another server may not ask this one", code="foreign_origin")
        asks_first = scope["method"] == "OPTIONS" and origin in self.origins  # a preflight brings no key
        if self.keys is None or asks_first:
            return ""
        owner = self._known(headers)
        if owner is None and path != "/" and not path.startswith(OPEN):
            raise ApiError(
                401,
                "no such key: send one as a bearer token",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return owner or ""

    def _known(self, headers: Headers) -> str | None:
        assert self.keys is not None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key:
            return self.keys.owner(key.strip())
        token = cookie(headers)
        return None if token is None else self.keys.session(token)


def cookie(headers: Headers) -> str | None:
    """The session's token that the page sends."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


async def refuse(error: ApiError, send: Send) -> None:
    """Answer with an error."""
    body = json.dumps(error.document).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _counted(receive: Receive) -> Receive:
    """Counts the bytes of a body as they come. Raises ApiError when there are too many, or none come."""
    count, whole = 0, False

    async def counted() -> Message:
        nonlocal count, whole
        if whole:
            return await receive()  # tells when the client has gone
        try:
            message = await asyncio.wait_for(receive(), QUIET_SECONDS)
        except TimeoutError:
            raise ApiError(408, "the upload stands still", code="timeout") from None
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if count > LARGEST_BODY:
                raise ApiError(413, f"more than {LARGEST_BODY} bytes: send less", code="body_too_large")
        return message

    return counted


def _hostname(host: str) -> str:
    """Of a `Host` header, without the port."""
    return (urlsplit(f"//{host}").hostname or "") if re.fullmatch(r"[\w.:\[\]-]{1,255}", host) else ""


def _same(origin: str, scope: Scope, headers: Headers) -> bool:
    """Is a page of this very server asking? One that came without TLS is not that of a server that has it."""
    parts = urlsplit(origin)
    return (parts.scheme, parts.netloc) == (scope["scheme"], headers.get("host"))


def _route(scope: Scope) -> str:
    """The path of a request as its route is written, without what names somebody's picture."""
    route = scope.get("route")
    return getattr(route, "path", "") or "other"
