"""Promises of the page: it comes with the server, asks nobody else, and runs under a strict policy."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from support.serving import Running, running
from unclip.serve.keys import Keys, new_key
from unclip.serve.server import Place

ROOT = Path(__file__).parents[2]
MOST_BYTES = 150_000  # of all that a browser loads, gzipped


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        yield server


def test_the_page_and_all_that_it_names_are_answered(server: Running) -> None:
    answer = server.client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert {Path(name).suffix for name in named} == {".js", ".css", ".svg"}
    for name in named:
        part = server.client.get(name)
        assert part.status_code == 200
        assert part.headers["x-content-type-options"] == "nosniff"
    assert server.client.get("/studio/../app.py").status_code == 404


def test_the_policy_lets_nothing_in_from_elsewhere_and_no_text_become_markup(server: Running) -> None:
    policy = server.client.get("/").headers["content-security-policy"]
    for rule in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_what_ships_is_small_has_no_inline_script_and_names_no_other_host() -> None:
    parts = {part.name: part.read_bytes() for part in files("unclip.serve").joinpath("studio").iterdir()}
    assert sum(len(gzip.compress(data)) for data in parts.values()) < MOST_BYTES
    assert not re.search(rb"<script(?![^>]*\bsrc=)", parts["index.html"])
    hosts = {host for data in parts.values() for host in re.findall(rb"https?://([\w.-]+)", data)}
    assert hosts <= {b"www.w3.org"}  # the names of namespaces, which nothing asks


def test_the_types_of_the_page_are_of_this_api(server: Running) -> None:
    """The document that `studio/src/api/schema.ts` is made of is the server's."""
    kept = json.loads((ROOT / "studio" / "openapi.json").read_text())
    assert kept == server.client.get("/openapi.json").json(), "run `make studio`"


def test_with_keys_the_page_comes_and_the_api_does_not(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    new_key(file, "kim")
    with running(tiny_bundle, tmp_path / "data", place=Place(port=0, keys=Keys(file))) as server:
        assert server.client.get("/").status_code == 200
        assert server.client.get("/studio/studio.js").status_code == 200
        assert server.client.get("/v1/models").status_code == 401
