"""Journeys on the canvas of the page: masks, results, extensions, and that nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browsing import (
    PATIENCE,
    drag,
    file_of_result,
    go,
    needs_chromium,
    person,
    picture_box,
    pixels,
    studio,
)
from support.serving import Running, running
from unclip.serve.server import Place

pytestmark = needs_chromium
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("canvas")) as server:
        yield server


def opened(page: Page, folder: Path, name: str = "noise.png") -> tuple[float, float, float]:
    """Open noise of 64 x 64 pixels. Returns where it is, as `picture_box`."""
    NOISE.save(folder / name)
    go(page, "Edit")
    page.locator("main input[type=file]").first.set_input_files(folder / name)
    page.wait_for_function("document.querySelector('.picture canvas')?.width === 64")  # it has been read
    return picture_box(page)


def painted(page: Page) -> np.ndarray:
    """(64, 64) how opaque the mask is, 0 to 255."""
    script = """() => {
        const board = document.querySelector("canvas.mask");
        return [...board.getContext("2d").getImageData(0, 0, board.width, board.height).data];
    }"""
    page.wait_for_timeout(200)  # a frame
    return np.array(page.evaluate(script)).reshape(64, 64, 4)[..., 3]


def test_a_mask_is_painted_and_nothing_else_of_the_picture_changes(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)
    page.get_by_role("button", name="Rectangle").click()
    drag(page, (left + 16 * cell, top + 16 * cell), (left + 40 * cell, top + 48 * cell))
    page.get_by_label("What shall the whole picture show?").fill("a red apple")
    page.get_by_label("Results").fill("2")
    page.get_by_role("button", name="Draw into the mask").click()
    expect(page.locator(".results .thumbnail")).to_have_count(2, timeout=PATIENCE)
    before, kept = np.asarray(NOISE).astype(int), np.ones((64, 64), bool)
    kept[15:49, 15:41] = False  # a cell's edge may fall to either side
    results = [pixels(file_of_result(page, number)) for number in range(2)]
    for drawn in results:
        assert np.array_equal(drawn[kept], before[kept])
        assert not np.array_equal(drawn[20:44, 20:36], before[20:44, 20:36])
    assert not np.array_equal(*results)  # there is something to choose from


def test_lasso_softness_eraser_and_invert_paint_what_they_say(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * cell, top + y * cell

    page.get_by_role("button", name="Lasso").click()
    drag(page, at(10, 10), at(50, 10), at(50, 50), at(10, 50))
    lasso = painted(page)
    assert lasso[30, 30] == 255
    assert lasso[5, 5] == lasso[60, 30] == 0
    page.get_by_role("button", name="Invert").click()
    assert np.array_equal(painted(page) > 127, lasso < 128)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Brush", exact=True).click()
    page.get_by_label("Softness").fill("1")
    page.get_by_label("Brush width").fill("24")
    drag(page, at(10, 32), at(54, 32))
    soft = painted(page)
    edge = soft[20:45, 32].astype(int)
    assert ((edge > 8) & (edge < 247)).sum() > 6  # it falls off, over many pixels
    assert soft[32, 32] == soft[:, 32].max()
    page.get_by_role("button", name="Eraser").click()
    page.get_by_label("Softness").fill("0")
    drag(page, at(10, 32), at(54, 32))
    assert painted(page)[32, 32] == 0


def test_strokes_are_undone_and_redone_by_keys(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)
    page.mouse.click(left + 20 * cell, top + 20 * cell)
    undo, redo = (page.get_by_role("button", name=name) for name in ("Undo", "Redo"))
    expect(undo).to_be_enabled()
    page.keyboard.press("Control+z")
    expect(undo).to_be_disabled()
    expect(redo).to_be_enabled()
    page.keyboard.press("Control+y")
    expect(undo).to_be_enabled()
    page.locator("body").press("l")
    expect(page.get_by_role("button", name="Lasso")).to_have_attribute("aria-pressed", "true")


def test_what_is_painted_when_zoomed_lies_where_it_was_painted(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)
    for _ in range(3):
        page.get_by_role("button", name="Closer").click()
    left, top, zoomed = picture_box(page)
    assert zoomed > 2 * cell
    page.get_by_role("button", name="Rectangle").click()
    drag(page, (left + 28 * zoomed, top + 28 * zoomed), (left + 36 * zoomed, top + 36 * zoomed))
    mask = painted(page)
    assert mask[32, 32] == 255
    assert mask[25, 32] == mask[32, 40] == 0
    page.get_by_role("button", name="Fit").click()
    assert picture_box(page)[2] == pytest.approx(cell)


def test_a_finger_paints_and_two_move_the_picture(
    page: Page, context: BrowserContext, tmp_path: Path
) -> None:
    left, top, cell = opened(page, tmp_path)
    touch = context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        found = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

    middle = (left + 32 * cell, top + 32 * cell)
    send("touchStart", middle)
    send("touchMove", (middle[0] + 40, middle[1]))
    send("touchEnd")
    assert painted(page)[32, 32] == 255
    send("touchStart", (middle[0] - 40, middle[1]), (middle[0] + 40, middle[1]))
    send("touchMove", (middle[0] - 40, middle[1]), (middle[0] + 140, middle[1]))
    send("touchEnd")
    page.wait_for_timeout(300)
    assert picture_box(page)[2] > 1.5 * cell


def test_the_tiles_of_an_extension_are_shown_and_the_picture_stays_in_it(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    page.get_by_role("button", name="Extend", exact=True).click()
    handle = page.locator(".handle.right").bounding_box()
    assert handle is not None
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    drag(page, (x, y), (x + 100, y))
    assert int(page.get_by_label("Right", exact=True).input_value()) % 8 == 0
    page.get_by_label("Right", exact=True).fill("64")
    expect(page.get_by_role("status").get_by_text("2 tiles of 64 pixels")).to_be_visible()
    expect(page.locator(".tiling rect")).to_have_count(2)
    page.get_by_label("What shall the whole picture show?").fill("a red apple")
    page.get_by_label("Results").fill("1")
    page.get_by_role("button", name="Draw around it").click()
    expect(page.locator(".results .thumbnail")).to_have_count(1, timeout=PATIENCE)
    drawn = pixels(file_of_result(page))
    assert drawn.shape == (64, 128, 3)
    assert np.array_equal(drawn[:, :64], np.asarray(NOISE).astype(int))


def test_a_reload_and_another_machine_go_on_with_the_canvas(
    page: Page, browser: Browser, server: Running, tmp_path: Path
) -> None:
    left, top, cell = opened(page, tmp_path, "<b>kept.png")
    page.mouse.click(left + 20 * cell, top + 20 * cell)
    page.get_by_label("What shall the whole picture show?").fill("a kept wish")
    mask = painted(page)
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    page.reload()
    expect(page.locator(".picture canvas")).to_be_visible()
    assert np.array_equal(painted(page), mask)
    expect(page.get_by_label("What shall the whole picture show?")).to_have_value("a kept wish")
    with person(browser) as elsewhere, studio(elsewhere, server.url) as other:
        go(other, "Edit")
        other.get_by_role("button", name="<b>kept.png").first.click()
        assert np.array_equal(painted(other), mask)


def test_a_reload_while_it_is_drawn_loses_no_result(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)
    page.mouse.click(left + 20 * cell, top + 20 * cell)
    page.get_by_label("What shall the whole picture show?").fill("a red apple")
    page.get_by_label("Results").fill("6")
    page.get_by_role("button", name="Draw into the mask").click()
    expect(page.get_by_text("Saving", exact=False)).to_be_visible()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    page.reload()
    expect(page.locator(".results .thumbnail")).to_have_count(6, timeout=PATIENCE)


def test_a_result_is_gone_on_from(page: Page, tmp_path: Path) -> None:
    left, top, cell = opened(page, tmp_path)
    page.mouse.click(left + 20 * cell, top + 20 * cell)
    page.get_by_role("button", name="Draw into the mask").click()  # without words: it is removed
    expect(page.locator(".results .thumbnail").first).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Before and after").fill("50")
    expect(page.locator(".sheet-of-board .edge")).to_be_visible()
    page.get_by_role("button", name="Go on from this").click()
    expect(page.locator(".results")).to_have_count(0)
    expect(page.locator("canvas.mask")).to_be_visible()


def test_a_server_that_was_gone_and_is_back_goes_on(
    context: BrowserContext, tiny_bundle: Path, tmp_path: Path
) -> None:
    with running(tiny_bundle, tmp_path / "data") as first:
        port = int(first.url.rpartition(":")[2])
        page = context.new_page()
        page.goto(first.url)
        opened(page, tmp_path)
        expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    page.get_by_label("What shall the whole picture show?").fill("a wish meanwhile")
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    with running(tiny_bundle, tmp_path / "data", place=Place(port=port)):
        left, top, cell = picture_box(page)
        page.mouse.click(left + 20 * cell, top + 20 * cell)
        page.get_by_role("button", name="Draw into the mask").click()
        expect(page.locator(".results .thumbnail").first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("The server does not answer")).to_have_count(0)
        expect(page.get_by_text("Saved", exact=True)).to_be_visible()
