"""The promise that whatever a person or a file is called stays text, wherever the page shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from support.browsing import PATIENCE, draw, drop, go, needs_chromium, open_with
from support.serving import Running, file_of, running

pytestmark = needs_chromium
HOSTILE = {
    "a picture that fails": '<img src=x onerror="window.hurt=1">',
    "a script": "<script>window.hurt=1</script>",
    "an end of an attribute": '" onmouseover="window.hurt=1" autofocus onfocus="window.hurt=1',
    "an end of a field": "</textarea></title></style><svg onload=window.hurt=1>",
    "an address": "javascript:window.hurt=1",
    "a frame": "<iframe srcdoc='<script>parent.hurt=1</script>'></iframe>",
    "a template": "{{constructor.constructor('window.hurt=1')()}}${window.hurt=1}{name}",
    "a text that runs backwards": "\u202egnp.elppa\u2066 &amp; &#60;b&#62;",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the server's owner allows, whose files have the worst of names."""
    folder = tmp_path_factory.mktemp("allowed")
    for number, text in enumerate(HOSTILE.values()):
        Image.new("RGB", (64, 64), (20 * number, 90, 200)).save(folder / f"{in_a_name(text)}.png")
    return folder


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("hostile"), folders=(pictures,)) as server:
        yield server


def in_a_name(text: str) -> str:
    """The text without what no file's name can have."""
    return text.replace("/", "\u2215")


def is_unhurt(page: Page) -> None:
    """Nothing ran, and no element was made of a text."""
    assert page.evaluate("window.hurt") is None
    assert page.title() == "unclip studio"
    assert page.locator("main iframe, main script, svg[onload], img[src=x], [onmouseover], b").count() == 0


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_as_a_prompt_a_board_and_a_wish(page: Page, text: str) -> None:
    draw(page, text)
    page.locator(".job .tile").first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", name=text, exact=True)).to_be_visible()
    viewer.get_by_label("Board").fill(text)
    viewer.get_by_role("button", name="Put on board").click()
    expect(viewer.locator(".on-board")).to_have_text(text)
    is_unhurt(page)
    viewer.get_by_role("button", name="Find similar").click()
    expect(page.get_by_text(f"Like {text}", exact=True)).to_be_visible()
    page.locator(".search").get_by_role("button", name="Clear").click()
    board = page.get_by_role("group", name="Boards").get_by_text(text)
    expect(board).to_be_visible()
    page.reload()
    expect(board).to_be_visible()
    expect(page.locator(".library .tile img").first).to_have_attribute("alt", f"Picture: {text}")
    open_with(page, text, "Change by words")
    expect(page.locator(".chosen img")).to_have_attribute("alt", text)
    is_unhurt(page)


def test_as_the_ends_of_a_change_by_words(page: Page) -> None:
    origin, target = HOSTILE["a picture that fails"], HOSTILE["a script"]
    draw(page, "a plain one")
    open_with(page, "a plain one", "Change by words")
    page.get_by_label("From", exact=True).fill(origin)
    page.get_by_label("To", exact=True).fill(target)
    page.get_by_label("Frames").fill("3")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".ends span")).to_have_text([origin, target], timeout=PATIENCE)
    is_unhurt(page)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_as_a_files_name(page: Page, text: str) -> None:
    name = f"{in_a_name(text)}.png"
    drop(page, f"{in_a_name(text)}.txt", b"no picture", "text/plain")
    expect(page.get_by_text(f"{in_a_name(text)}.txt is no picture.", exact=True)).to_be_visible()
    drop(page, name, file_of(Image.new("RGB", (48, 32), "white")))
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name=name, exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    page.get_by_role("button", name="Put the picture away").click()
    kept = page.locator(".saved-list").get_by_text(name, exact=True)
    expect(kept).to_be_visible()
    page.reload()
    expect(kept).to_be_visible()
    go(page, "Vary")
    page.locator("main input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": file_of(Image.new("RGB", (48, 32), "white"))}
    )
    expect(page.locator(".chosen img")).to_have_attribute("alt", name)
    is_unhurt(page)


def test_as_the_names_of_a_folders_files(page: Page) -> None:
    go(page, "Folder")
    page.get_by_role("button", name="Index it").click()
    expect(page.get_by_text(f"{len(HOSTILE)} pictures indexed")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Search by what pictures show").fill("a blue square")
    tiles = page.locator(".hits .tile")
    expect(tiles).to_have_count(len(HOSTILE), timeout=PATIENCE)
    names = {f"{in_a_name(text)}.png" for text in HOSTILE.values()}
    assert {tile.locator("img").get_attribute("alt") for tile in tiles.all()} == names
    for tile in tiles.all():
        name = tile.locator("img").get_attribute("alt") or ""
        tile.click()
        expect(page.get_by_role("dialog").locator("h2")).to_have_text(name)
        page.keyboard.press("Escape")
    is_unhurt(page)


def test_as_what_is_searched_for(page: Page) -> None:
    for text in HOSTILE.values():
        go(page, "Library")
        page.get_by_label("Search in prompts").fill(f"{text} nowhere")
        expect(page.get_by_text("No picture fits this.")).to_be_visible()
    is_unhurt(page)
