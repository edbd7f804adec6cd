"""The studio: a page that talks to the API. It is built from `studio/` by `make studio`, and ships built."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

PLACE = "/studio/"
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
# Beside the policy of every answer: no string becomes HTML or a script.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`, and its files under `/studio/`; they are read once."""
    parts = {part.name: part.read_bytes() for part in files("unclip.serve").joinpath("studio").iterdir()}

    def answer(name: str) -> Response:
        kind = KINDS[name.rpartition(".")[2]]
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(parts[name], media_type=f"{kind}; charset=utf-8", headers=headers)

    def add(path: str, name: str) -> None:
        async def file() -> Response:
            return answer(name)

        app.get(path, include_in_schema=False)(file)

    add("/", "index.html")
    for name in parts:
        add(f"{PLACE}{name}", name)
