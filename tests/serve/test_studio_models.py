"""Journeys in the view Models: memory, licences and cards, and models fetched, loaded and let go."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from support.browsing import PATIENCE, draw, go, needs_chromium
from support.file_server import FileServer
from support.published import FILE, NAME, published
from support.serving import Running, running
from unclip.checkpoints import download
from unclip.runtime import data_folder
from unclip.serve.pulls import Pulls

pytestmark = needs_chromium
FIRST = 8192  # bytes of a file that have come before it waits


@pytest.fixture(autouse=True)
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(download, "CHUNK", FIRST // 2)
    with published(tmp_path, monkeypatch) as web:
        yield web


@pytest.fixture
def gate(web: FileServer) -> Iterator[threading.Event]:
    """Until it is set no more comes than the beginning of the model's file."""
    gate = threading.Event()
    web.gates[f"/{FILE}"] = (FIRST, gate)
    yield gate
    gate.set()


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path, web: FileServer) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path / "serve", pulls=Pulls()) as server:
        yield server


def card_of(page: Page, name: str) -> Locator:
    go(page, "Models")
    return page.locator(".card", has=page.get_by_text(name, exact=True))


def test_a_model_that_is_served_says_its_memory_size_licence_and_card(page: Page, server: Running) -> None:
    card = card_of(page, "tiny")
    (told,) = server.client.get("/v1/models").json()["data"]
    facts = dict(zip(card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts(), strict=True))
    assert told["memory_bytes"]["float32"]["all"] == 2 * told["memory_bytes"]["bfloat16"]["all"]
    assert facts["In memory"].startswith(f"{told['memory_bytes']['float32']['all'] / 1e6:.1f} MB float32, ")
    assert facts["On disk"] == f"{told['bytes'] / 1e6:.1f} MB"
    assert facts["Licence"] == "Apache-2.0"
    card.get_by_text("Card", exact=True).click()
    expect(card.get_by_role("heading", name="tiny")).to_be_visible()


def test_a_model_is_fetched_with_progress_that_a_reload_does_not_lose(
    page: Page, gate: threading.Event
) -> None:
    card = card_of(page, NAME)
    expect(card).to_contain_text("compares pictures and texts")
    expect(card).to_contain_text("4 MB float32, 2 MB bfloat16")
    expect(card).to_contain_text("MIT")
    card.get_by_role("button", name="Fetch").click()
    said = card.get_by_role("status")
    expect(said).to_contain_text(f"{FILE} · 8.2 kB / ", timeout=PATIENCE)
    assert 0 < card.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") < 1
    page.reload()
    expect(said).to_contain_text(f"{FILE} · 8.2 kB / ")
    gate.set()
    expect(card.get_by_text("on disk", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(card.get_by_role("button", name="Fetch")).to_have_count(0)


def test_a_fetch_that_was_stopped_goes_on_from_there(
    page: Page, gate: threading.Event, web: FileServer
) -> None:
    card = card_of(page, NAME)
    card.get_by_role("button", name="Fetch").click()
    expect(card.get_by_role("status")).to_contain_text(FILE, timeout=PATIENCE)
    card.get_by_role("button", name="Cancel").click()
    gate.set()
    card.get_by_role("button", name="Go on fetching").click(timeout=PATIENCE)
    expect(card.get_by_text("on disk", exact=True)).to_be_visible(timeout=PATIENCE)
    first, then = web.ranges(f"/{FILE}")
    assert first == ""
    assert then.startswith("bytes=")


def test_a_fetch_that_fails_says_why(page: Page, web: FileServer) -> None:
    web.status[f"/{FILE}"] = 404
    card = card_of(page, NAME)
    card.get_by_role("button", name="Fetch").click()
    expect(card.get_by_role("alert")).to_contain_text("404", timeout=PATIENCE)
    expect(card.get_by_role("button", name="Fetch")).to_be_visible()


def test_a_model_on_disk_is_loaded_and_draws(page: Page, two_priors_bundle: Path) -> None:
    shutil.copytree(two_priors_bundle, data_folder() / "bundles" / "two-priors")
    card_of(page, "two-priors").get_by_role("button", name="Load").click()
    card = page.locator("article.card", has=page.get_by_text("two-priors", exact=True))
    expect(card.get_by_role("button", name="Unload")).to_be_visible(timeout=PATIENCE)
    card.get_by_role("radio").check()
    draw(page, "a red apple")
    expect(page.locator(".job").first).to_contain_text("two-priors")


def test_a_model_is_let_go_and_loaded_again(page: Page) -> None:
    card = card_of(page, "tiny")
    card.get_by_role("button", name="Unload").click()
    card.get_by_role("button", name="Load", exact=True).click(timeout=PATIENCE)
    expect(card.get_by_role("button", name="Unload")).to_be_visible(timeout=PATIENCE)
