"""The promise that axe finds nothing wrong with any view, empty or full, in both themes, nor in a dialog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from support.browsing import (
    AXE,
    PATIENCE,
    VIEWS,
    draw,
    drop,
    found,
    go,
    needs_chromium,
    take,
    violations,
)
from support.serving import Running, file_of, running
from unclip.serve.keys import Keys, new_key
from unclip.serve.server import Place

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm ci in studio/"),
    pytest.mark.parametrize("theme", ["light", "dark"]),
]


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path) -> Iterator[Running]:
    folder = tmp_path / "allowed"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(folder / f"{colour}.png")
    with running(tiny_bundle, tmp_path / "data", folders=(folder,)) as server:
        yield server


def wear(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # nothing fades while axe looks


def is_clean(page: Page, where: str) -> None:
    page.wait_for_timeout(100)
    assert violations(page) == [], where


def test_in_empty_views(page: Page, theme: str) -> None:
    wear(page, theme)
    for number in VIEWS:
        page.locator("body").press(number)
        is_clean(page, f"view {number}, empty")
    page.locator("body").press("?")
    is_clean(page, "the shortcuts")


def test_in_draw_and_library(page: Page, theme: str) -> None:
    wear(page, theme)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Guidance", exact=True).fill("70")
    page.get_by_label("What shall be drawn?").fill("a red apple")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    is_clean(page, "settings, and what was refused")
    page.get_by_label("Guidance", exact=True).fill("")
    draw(page, "a small house", 2)
    is_clean(page, "pictures in Draw")
    page.locator(".job .tile").first.click()
    page.get_by_role("button", name="Where does it come from?").click()
    expect(page.locator(".verdict")).to_be_visible()
    is_clean(page, "a picture with its recipe")
    page.keyboard.press("Escape")
    tiles = found(page, "house", 2)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("button", name="Select", exact=True).click()
    tiles.nth(0).click()
    tiles.nth(1).click()
    is_clean(page, "a selection, and filters")
    page.get_by_role("button", name="Compare").click()
    is_clean(page, "two compared")
    page.keyboard.press("Escape")
    page.locator(".selection").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    is_clean(page, "nothing found, and an undo")
    drop(page, "plain.png", file_of(Image.new("RGB", (48, 32), "white")))
    expect(page.get_by_role("dialog").locator(".verdict")).to_be_visible()
    is_clean(page, "a dropped picture")


def test_in_edit_and_vary(page: Page, theme: str) -> None:
    wear(page, theme)
    draw(page, "a small house", 2)
    tiles = found(page, "house", 2)
    tiles.first.click()
    page.get_by_role("dialog").get_by_role("button", name="Edit", exact=True).click()
    page.get_by_role("button", name="Invert").click()
    page.get_by_role("button", name="Draw into the mask").click()
    expect(page.locator(".results .thumbnail").nth(2)).to_be_visible(timeout=PATIENCE)
    is_clean(page, "a mask with results")
    page.get_by_role("button", name="Extend", exact=True).click()
    page.get_by_label("Right", exact=True).fill("64")
    expect(page.locator(".tiling rect")).to_have_count(2)
    is_clean(page, "an extension with its tiles")
    page.get_by_role("button", name="Put the picture away").click()
    expect(page.locator(".saved-list")).to_be_visible()
    is_clean(page, "the list of what was edited")
    draw(page, "a tall tower", 2)
    take(page, "tower", 2, "Blend")
    page.get_by_label("Frames").fill("3")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".reel .thumbnail")).to_have_count(3, timeout=PATIENCE)
    is_clean(page, "frames of a blend")
    page.locator("main input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": file_of(Image.new("RGB", (64, 64), "red"))}
    )
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("img.dot").first).to_be_visible(timeout=PATIENCE)
    is_clean(page, "a plane of mixtures")
    page.get_by_role("button", name="Variations").click()
    page.get_by_label("Pictures").fill("2")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".job button.tile")).to_have_count(2, timeout=PATIENCE)
    is_clean(page, "variations")


def test_in_folder_and_models(page: Page, theme: str, context: BrowserContext) -> None:
    wear(page, theme)
    go(page, "Folder")
    page.get_by_role("button", name="Index it").click()
    expect(page.get_by_text("2 pictures indexed")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Search by what pictures show").fill("a red square")
    expect(page.locator(".hits .tile")).to_have_count(2, timeout=PATIENCE)
    is_clean(page, "a folder that was searched")
    page.locator(".hits .tile").first.click()
    is_clean(page, "a picture of a folder")
    page.keyboard.press("Escape")
    go(page, "Models")
    page.get_by_text("Card", exact=True).click()
    expect(page.locator(".markdown")).to_be_visible()
    is_clean(page, "a model's card")
    context.set_offline(True)
    page.get_by_role("button", name="Unload").click()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    is_clean(page, "a server that is gone")
    context.set_offline(False)


def test_where_a_key_is_wanted(
    theme: str, context: BrowserContext, tiny_bundle: Path, tmp_path: Path
) -> None:
    new_key(tmp_path / "keys", "kim")
    with running(
        tiny_bundle, tmp_path / "other", place=Place(port=0, keys=Keys(tmp_path / "keys"))
    ) as server:
        page = context.new_page()
        wear(page, theme)
        page.goto(server.url)
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        is_clean(page, "the key")
