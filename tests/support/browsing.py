"""The studio in a real browser: its page, which fails where the browser complains, and gestures on it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt install chromium-headless-shell"
)
PATIENCE = 120_000  # milliseconds: a machine may do other work beside the tests
expect.set_options(timeout=PATIENCE / 2)
AXE = Path(__file__).parents[2] / "studio" / "node_modules" / "axe-core" / "axe.min.js"
VIEWS = "123456"  # the keys that lead to them


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@contextmanager
def person(browser: Browser, **settings: Any) -> Iterator[BrowserContext]:
    """A browser of a person's own, in English, with a mouse and a touch screen, but for other settings."""
    usual = {"locale": "en-US", "viewport": {"width": 1280, "height": 860}, "has_touch": True}
    context = browser.new_context(**usual | settings)
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@contextmanager
def studio(context: BrowserContext, url: str, model: str = "tiny") -> Iterator[Page]:
    """The studio; fails where the browser complains of it, or it asks another host."""
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    page.on("request", lambda sent: None if sent.url.startswith((url, "blob:")) else wrong.append(sent.url))
    page.goto(url)
    expect(page.locator(".model")).to_have_text(model, timeout=PATIENCE)
    yield page
    assert wrong == []


def go(page: Page, view: str) -> None:
    page.get_by_role("link", name=view, exact=True).click()


def draw(page: Page, prompt: str, count: int = 1) -> None:
    """Draw at 64 px, and wait for the pictures."""
    go(page, "Draw")
    page.get_by_label("Pictures", exact=True).select_option(str(count))
    page.get_by_label("Size", exact=True).select_option("64x64")
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.get_by_role("button", name="Draw", exact=True).click()
    done = page.locator(".job", has=page.get_by_role("heading", name=prompt, exact=True)).first
    expect(done.locator(".tile")).to_have_count(count, timeout=PATIENCE)


def found(page: Page, prompt: str, count: int = 1) -> Locator:
    """The tiles of the library whose prompts have this in them."""
    go(page, "Library")
    page.get_by_label("Search in prompts").fill(prompt)
    tiles = page.locator(".library .tile")
    expect(tiles).to_have_count(count)
    return tiles


def take(page: Page, prompt: str, count: int, button: str) -> None:
    """Choose so many pictures of a prompt in the library, and press a button of the bar."""
    tiles = found(page, prompt, count)
    page.get_by_role("button", name="Select", exact=True).click()
    for number in range(count):
        tiles.nth(number).click()
    page.locator(".selection").get_by_role("button", name=button).click()
    expect(page.locator(".chosen figure")).to_have_count(count)


def open_with(page: Page, prompt: str, button: str) -> None:
    """Open the only picture of a prompt in the library, and press a button beside it."""
    found(page, prompt).click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def drag(page: Page, *points: tuple[float, float]) -> None:
    """One stroke of the pointer."""
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def picture_box(page: Page) -> tuple[float, float, float]:
    """Left, top, and pixels of the screen for one of the picture's, of the picture on the canvas."""
    shown = page.locator(".picture canvas")
    expect(shown).to_be_visible()
    box = shown.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"] / int(shown.get_attribute("width") or 1)


def bytes_of(page: Page, path: str) -> bytes:
    """The server's answer at a path, as this page may see it."""
    return page.request.get(page.url.split("#")[0].rstrip("/") + path).body()


def file_of_result(page: Page, number: int = 0) -> bytes:
    """The full picture of a result on the canvas."""
    name = page.locator(".results .thumbnail img").nth(number).get_attribute("data-picture")
    return bytes_of(page, f"/v1/unclip/pictures/{name}/file")


def id_of_tile(tile: Locator) -> str:
    match = re.search(r"/pictures/(\w+)/", str(tile.locator("img").first.get_attribute("src")))
    assert match is not None
    return match[1]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def drop(page: Page, name: str, data: bytes, kind: str = "image/png") -> None:
    """Drop a file on the page, as another program's window hands it over."""
    script = """([name, bytes, kind]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
    }"""
    page.evaluate(script, [name, list(data), kind])


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """The things that axe finds wrong with what is on the page, with where."""
    # the policy refuses a script in the page; what is evaluated from outside it does not concern
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document)")
    return [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
