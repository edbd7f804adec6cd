"""Journeys of a person on the page, in a real browser against a real server, with a tiny bundle."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support.serving import Running, running

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 120_000  # milliseconds: a machine may do other work beside the tests
AXE = Path(__file__).parents[2] / "studio" / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt install chromium-headless-shell"
)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("studio")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 860})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(server: Running, context: BrowserContext) -> Iterator[Page]:
    """The studio; the test fails where the browser complains of it, or asks another host."""
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    page.on(
        "request", lambda sent: None if sent.url.startswith((server.url, "blob:")) else wrong.append(sent.url)
    )
    page.goto(server.url)
    expect(page.get_by_text("tiny", exact=True)).to_be_visible(timeout=PATIENCE)
    yield page
    assert wrong == []


def draw(page: Page, prompt: str, count: int = 1) -> None:
    """Draw at 64 px, and wait for the pictures."""
    page.get_by_role("link", name="Draw", exact=True).click()
    page.get_by_label("Pictures").select_option(str(count))
    page.get_by_label("Size").select_option("64x64")
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.get_by_role("button", name="Draw", exact=True).click()
    done = page.locator(".job", has=page.get_by_role("heading", name=prompt, exact=True)).first
    expect(done.locator(".tile")).to_have_count(count, timeout=PATIENCE)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_a_prompt_is_drawn_and_kept_in_the_library_with_its_recipe(page: Page) -> None:
    draw(page, "a red apple", 2)
    page.locator(".job .tile").first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", name="a red apple")).to_be_visible()
    expect(viewer).to_contain_text("tiny")
    viewer.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Library").click()
    expect(page.locator(".tile").nth(1)).to_be_visible()


def test_again_draws_the_same_picture(page: Page) -> None:
    draw(page, "a blue star")
    first = page.locator(".job .tile img").first.get_attribute("src")
    page.locator(".job .tile").first.click()
    page.get_by_role("button", name="Again", exact=True).click()
    expect(page.locator(".job .tile img").first).not_to_have_attribute("src", first or "", timeout=PATIENCE)
    second = page.locator(".job .tile img").first.get_attribute("src")
    one, other = (
        page.request.get(page.url.split("#")[0].rstrip("/") + str(src)).body() for src in (first, second)
    )
    assert np.array_equal(pixels(one), pixels(other))


def test_after_a_reload_the_pictures_and_jobs_are_there(page: Page) -> None:
    draw(page, "a green leaf")
    page.reload()
    expect(page.get_by_role("heading", name="a green leaf")).to_be_visible(timeout=PATIENCE)


def test_a_job_is_cancelled_and_says_so(page: Page) -> None:
    page.get_by_label("Size").select_option("1024x1024")
    page.get_by_label("Pictures").select_option("10")
    page.get_by_label("What shall be drawn?").fill("a slow one")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible(timeout=PATIENCE)


def test_a_mask_is_painted_and_nothing_else_of_the_picture_changes(page: Page, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    picture.save(tmp_path / "noise.png")
    page.get_by_role("link", name="Edit", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "noise.png")
    board = page.locator(".board canvas")
    page.get_by_role("button", name="Rectangle").click()
    box = board.bounding_box()
    assert box is not None
    cell = box["width"] / 64
    page.mouse.move(box["x"] + 16 * cell, box["y"] + 16 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 40 * cell, box["y"] + 48 * cell, steps=4)
    page.mouse.up()
    page.get_by_label("What shall the whole picture show?").fill("a red apple")
    page.get_by_role("button", name="Draw into the mask").click()
    result = page.locator(".results .thumbnail img").first
    expect(result).to_be_visible(timeout=PATIENCE)
    base = page.url.split("#")[0].rstrip("/")
    drawn = pixels(page.request.get(base + str(result.get_attribute("src"))).body())
    kept = np.ones((64, 64), bool)
    kept[15:49, 15:41] = False  # a cell's edge may fall to either side
    before = np.asarray(picture).astype(int)
    assert np.array_equal(drawn[kept], before[kept])
    assert not np.array_equal(drawn[20:44, 20:36], before[20:44, 20:36])


def test_strokes_are_undone_and_redone_by_keys(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    page.get_by_role("link", name="Edit", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "white.png")
    page.locator(".board canvas").click()
    undo, redo = (page.get_by_role("button", name=name) for name in ("Undo", "Redo"))
    expect(undo).to_be_enabled()
    page.keyboard.press("Control+z")
    expect(undo).to_be_disabled()
    expect(redo).to_be_enabled()
    page.keyboard.press("Control+y")
    expect(undo).to_be_enabled()


def test_a_deleted_picture_comes_back_by_undo(page: Page) -> None:
    draw(page, "a lost thing")
    page.get_by_role("link", name="Library").click()
    page.get_by_label("Search in prompts").fill("lost")
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".tile")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(1)


def test_markup_in_a_prompt_stays_text(page: Page) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    draw(page, hostile)
    page.locator(".job .tile").first.click()
    expect(page.get_by_role("dialog").get_by_role("heading", name=hostile)).to_be_visible()
    assert page.title() == "unclip studio"


def test_enter_that_an_input_method_composes_with_does_not_send(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    field = page.get_by_label("What shall be drawn?")
    field.fill("빨간 사과")
    event = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true})"
    field.evaluate(f"node => node.dispatchEvent({event})")
    page.wait_for_timeout(300)
    assert sent == []


@pytest.mark.parametrize(("language", "word"), [("ko", "그리기"), ("de", "Zeichnen")])
def test_the_page_speaks_the_chosen_language_after_a_reload_too(page: Page, language: str, word: str) -> None:
    page.get_by_label("Language").select_option(language)
    expect(page.get_by_role("link", name=word, exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name=word, exact=True)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == language


@pytest.mark.parametrize("language", ["en", "ko", "de"])
def test_nothing_is_cut_off_at_360_pixels(page: Page, language: str) -> None:
    page.get_by_label("Language").select_option(language)
    page.set_viewport_size({"width": 360, "height": 740})
    for number in "12345":
        page.locator("body").press(number)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"view {number} is {wide} pixels wide"


def test_the_server_gone_is_said(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    page.get_by_label("What shall be drawn?").fill("a cat")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    context.set_offline(False)
    draw(page, "a cat")
    expect(page.get_by_text("The server does not answer")).to_have_count(0)


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm ci in studio/")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_in_any_view(page: Page, theme: str) -> None:
    draw(page, "a small house")
    dark = page.evaluate("document.documentElement.dataset.theme") == "dark"
    if dark != (theme == "dark"):
        page.get_by_label("Dark or light").click()
    # the policy refuses a script in the page; what is evaluated from outside it does not concern
    axe = AXE.read_text()
    for number in "12345":
        page.locator("body").press(number)
        page.wait_for_timeout(400)  # colours fade
        page.evaluate(axe)
        found = page.evaluate("axe.run(document)")
        told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
        assert told == [], f"view {number}"


def test_every_view_is_reached_by_keyboard(page: Page) -> None:
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.textContent"))
    assert {"Draw", "Edit", "Vary", "Library", "Models"} <= {name.strip() for name in seen}
    page.evaluate("document.activeElement.blur()")  # in a field it is a letter
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
