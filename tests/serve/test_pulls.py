"""Promises of models that are fetched while the server answers, and of those that are on disk."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.file_server import FileServer
from support.published import published
from support.serving import PATIENCE, Running, refused, running
from unclip.catalogue import Published
from unclip.checkpoints.download import Transfer
from unclip.serve import pulls
from unclip.serve.pulls import Pulls

MODELS = "/v1/unclip/models"
GENERATIONS = "/v1/images/generations"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data" / "unclip"


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path / "serve", pulls=Pulls()) as server:
        yield server


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Where the published model `clip-tiny` lies."""
    with published(tmp_path, monkeypatch) as web:
        yield web


def known(server: Running, name: str) -> dict[str, Any]:
    answer = server.client.get(f"{MODELS}/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(server: Running, name: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while (pull := known(server, name)["pull"])["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return dict(pull)


def test_a_published_model_is_fetched_with_progress_and_is_on_disk_then(
    server: Running, web: FileServer
) -> None:
    before = known(server, "clip-tiny")
    assert (before["on_disk"], before["can_pull"], before["pull"]) == (False, True, None)
    answer = server.client.post(f"{MODELS}/clip-tiny/pull")
    assert answer.status_code == 202, answer.text
    pull = ended(server, "clip-tiny")
    assert pull["state"] == "done", pull
    after = known(server, "clip-tiny")
    assert after["on_disk"]
    assert after["stored_bytes"] > 0
    assert not after["draws"]
    assert not after["served"]
    refused(server.client.post(f"{MODELS}/clip-tiny/pull"), 409)
    refused(server.client.post(f"{MODELS}/clip-tiny/load"))


def test_a_fetch_says_how_far_it_is_and_is_cancelled_at_the_next_piece(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def slow(model: Published) -> Iterator[Transfer]:
        yield Transfer("weights.pt", 10, 40)
        goes_on.wait(PATIENCE)
        yield Transfer("weights.pt", 20, 40)
        raise AssertionError("it was cancelled")

    monkeypatch.setattr(pulls, "pull", slow)
    server.client.post(f"{MODELS}/karlo/pull")
    until = time.monotonic() + PATIENCE
    while (pull := known(server, "karlo")["pull"])["stage"] == "":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert (pull["state"], pull["done"], pull["total"]) == ("running", 10, 40)
    assert server.client.post(f"{MODELS}/karlo/pull").json() == pull  # it is the same one
    assert server.client.post(f"{MODELS}/karlo/pull/cancel").status_code == 200
    goes_on.set()
    assert ended(server, "karlo")["state"] == "cancelled"
    refused(server.client.post(f"{MODELS}/glide/pull/cancel"), 404)


def test_a_fetch_that_fails_says_why_without_a_path(server: Running, web: FileServer, data: Path) -> None:
    web.status["/tiny.pt"] = 404
    server.client.post(f"{MODELS}/clip-tiny/pull")
    pull = ended(server, "clip-tiny")
    assert pull["state"] == "failed"
    assert pull["error"]
    assert str(data) not in pull["error"]


def test_what_is_unknown_is_not_fetched_and_nothing_where_it_is_not_allowed(
    server: Running, tiny_bundle: Path, tmp_path: Path
) -> None:
    refused(server.client.post(f"{MODELS}/nope/pull"), 404)
    refused(server.client.get(f"{MODELS}/nope"), 404)
    with running(tiny_bundle, tmp_path / "other") as other:
        assert refused(other.client.post(f"{MODELS}/karlo/pull"), 403)["code"] == "not_allowed"
        assert not known(other, "karlo")["can_pull"]


def test_a_bundle_on_disk_is_served_when_it_is_loaded(
    server: Running, two_priors_bundle: Path, data: Path
) -> None:
    shutil.copytree(two_priors_bundle, data / "bundles" / "two-priors")
    everything = {model["id"]: model for model in server.client.get(MODELS).json()["data"]}
    assert {"pictograms", "karlo", "two-priors"} <= everything.keys()
    assert everything["two-priors"]["draws"]
    assert not everything["two-priors"]["served"]
    fields = {"prompt": "a red apple", "size": "64x64", "model": "two-priors"}
    refused(server.post(GENERATIONS, **fields), 404)
    assert server.client.post(f"{MODELS}/two-priors/load").json()["loaded"]
    assert server.post(GENERATIONS, **fields).status_code == 200
    assert [model["id"] for model in server.client.get("/v1/models").json()["data"]] == ["tiny", "two-priors"]
