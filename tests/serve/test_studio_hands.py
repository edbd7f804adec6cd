"""Journeys by other hands than a mouse's: fingers on a small screen, the keyboard alone, an input method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Locator, Page, expect

from support.browsing import PATIENCE, draw, found, go, needs_chromium, open_with, person, picture_box, studio
from support.pictures import speckled
from support.serving import Running, running

pytestmark = needs_chromium
MOST_STEPS = 80  # of the Tab key, to whatever is on the page


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("hands")) as server:
        yield server


# --- fingers ---


@pytest.fixture
def telephone(server: Running, browser: Browser) -> Iterator[Page]:
    """The studio on a telephone of 360 pixels."""
    small = {"width": 360, "height": 740}
    with (
        person(browser, viewport=small, is_mobile=True, device_scale_factor=2) as context,
        studio(context, server.url) as page,
    ):
        yield page


def stroke(touch: CDPSession, *points: tuple[float, float]) -> None:
    """One finger that goes from point to point."""

    def send(kind: str, *at: tuple[float, float]) -> None:
        places = [{"x": x, "y": y} for x, y in at]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    send("touchStart", points[0])
    for point in points[1:]:
        send("touchMove", point)
    send("touchEnd")


def fits(page: Page) -> None:
    """Nothing is wider than the screen."""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_picture_is_drawn_opened_and_edited_with_fingers_on_a_small_screen(telephone: Page) -> None:
    page = telephone
    page.get_by_label("Size", exact=True).select_option("64x64")
    page.get_by_label("Pictures", exact=True).select_option("1")
    page.get_by_label("What shall be drawn?").tap()
    page.keyboard.type("a tapped apple")
    page.get_by_role("button", name="Draw", exact=True).tap()
    tile = page.locator(".job .tile").first
    tile.tap(timeout=PATIENCE)
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", name="a tapped apple")).to_be_visible()
    fits(page)
    viewer.get_by_role("button", name="Star", exact=True).tap()
    expect(viewer.get_by_role("button", name="Remove star")).to_be_visible()
    viewer.get_by_role("button", name="Edit", exact=True).tap()
    left, top, cell = picture_box(page)
    touch = page.context.new_cdp_session(page)
    stroke(touch, (left + 16 * cell, top + 32 * cell), (left + 48 * cell, top + 32 * cell))
    fits(page)
    button = page.get_by_role("button", name="Draw into the mask")
    # from here on no taps: after strokes that were sent by hand the emulated finger's taps reach what they
    # are meant for, but Chromium makes no clicks of them
    button.click()
    expect(page.locator(".results .thumbnail").first).to_be_visible(timeout=PATIENCE)
    fits(page)
    for view in ("Library", "Vary", "Folder", "Models", "Draw"):
        page.get_by_role("link", name=view, exact=True).click()
        expect(page.get_by_role("link", name=view, exact=True)).to_have_attribute("aria-current", "page")
        fits(page)


def test_a_blend_moves_under_a_finger(telephone: Page) -> None:
    page = telephone
    draw(page, "a corner", 3)
    tiles = found(page, "corner", 3)
    page.get_by_role("button", name="Select", exact=True).tap()
    for number in range(3):
        tiles.nth(number).tap()
    fits(page)
    page.locator(".selection").get_by_role("button", name="Blend").tap()
    page.get_by_role("button", name="Draw", exact=True).tap()
    expect(page.locator("img.dot").first).to_be_visible(timeout=PATIENCE)
    pad = page.locator(".pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    before = pad.get_attribute("aria-valuetext")
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    stroke(page.context.new_cdp_session(page), middle, (box["x"] + 8, box["y"] + 8))
    assert pad.get_attribute("aria-valuetext") != before
    fits(page)


# --- the keyboard ---


def reach(page: Page, wanted: Locator) -> None:
    """Go on by the Tab key until this has the focus."""
    for _ in range(MOST_STEPS):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {wanted}")


def test_a_picture_is_drawn_opened_starred_and_deleted_by_the_keyboard_alone(page: Page) -> None:
    page.keyboard.press("1")
    reach(page, page.get_by_label("What shall be drawn?"))
    page.keyboard.type("a typed apple")
    page.keyboard.press("Enter")
    tile = page.locator(".job", has=page.get_by_role("heading", name="a typed apple")).locator(".tile").first
    expect(tile).to_be_visible(timeout=PATIENCE)
    reach(page, tile)
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    reach(page, viewer.get_by_role("button", name="Star", exact=True))
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove star")).to_be_focused()
    page.keyboard.press("Escape")
    expect(tile).to_be_focused()  # one goes on from where one was
    page.keyboard.press("4")
    page.keyboard.press("/")
    page.keyboard.type("typed")
    kept = page.locator(".library .tile")
    expect(kept.first).to_have_accessible_name("Picture: a typed apple")
    expect(kept).to_have_count(4)
    reach(page, kept.first)
    page.keyboard.press("Delete")
    expect(kept).to_have_count(3)
    reach(page, page.get_by_role("button", name="Undo"))
    page.keyboard.press("Enter")
    expect(kept).to_have_count(4)


def test_a_picture_is_redrawn_and_compared_by_the_keyboard_alone(page: Page) -> None:
    draw(page, "a keyed apple")
    open_with(page, "a keyed apple", "Edit")
    expect(page.locator(".picture canvas")).to_be_visible()
    page.keyboard.press("i")  # all of it: a stroke wants a hand
    wish = page.get_by_label("What shall the whole picture show?")
    reach(page, wish)
    page.keyboard.press("Control+a")
    page.keyboard.type("a green apple")
    page.keyboard.press("Enter")
    expect(page.locator(".results .thumbnail").first).to_be_visible(timeout=PATIENCE)
    reach(page, page.get_by_label("Before and after"))
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".sheet-of-board .edge")).to_be_visible()
    reach(page, page.get_by_role("button", name="Go on from this"))
    page.keyboard.press("Enter")
    expect(page.locator(".results")).to_have_count(0)


def test_every_view_is_reached_by_keyboard(page: Page) -> None:
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.textContent"))
    assert {"Draw", "Edit", "Vary", "Library", "Folder", "Models"} <= {name.strip() for name in seen}
    page.evaluate("document.activeElement.blur()")  # in a field it is a letter
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


# --- an input method ---


@pytest.mark.parametrize("view", ["Draw", "Edit"])
def test_enter_belongs_to_the_input_method_while_it_composes(page: Page, tmp_path: Path, view: str) -> None:
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.url.endswith("/v1/unclip/jobs") else None)
    go(page, view)
    if view == "Edit":
        speckled(64).save(tmp_path / "speckled.png")
        page.locator("main input[type=file]").first.set_input_files(tmp_path / "speckled.png")
        page.get_by_role("button", name="Invert").click()
    field = page.locator("textarea.prompt")
    field.fill("빨간 ")
    method = page.context.new_cdp_session(page)
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    for syllables in ("ㅅ", "사", "삭", "사고"):
        place = {"selectionStart": len(syllables), "selectionEnd": len(syllables)}
        method.send("Input.imeSetComposition", {"text": syllables, **place})
        expect(field).to_have_value(f"빨간 {syllables}")
    sent.clear()
    method.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    method.send("Input.insertText", {"text": "사과"})  # what it was for
    expect(field).to_have_value("빨간 사과")
    page.wait_for_timeout(300)
    assert sent == []
    field.press("Enter")
    if view == "Draw":
        expect(page.get_by_role("heading", name="빨간 사과").first).to_be_visible()
    else:
        expect(page.locator(".results .thumbnail").first).to_be_visible(timeout=PATIENCE)
    assert len(sent) >= 1
