"""Takes the pictures of the page for docs/studio.md: python tools/studio_pictures.py [ADDRESS [PART...]]

Wants a server with the shipped bundle, an empty library, a folder of pictures that is allowed, and Chromium:

    unclip serve --data EMPTY --folder PICTURES --model pictograms --model pictograms-dalle1
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PATIENCE = 600_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu"]
WIDE, HIGH = 1280, 860  # pixels of the window
SMALL = (WIDE // 4, HIGH // 4)
VIEWS = ("draw", "canvas", "make", "library", "folder", "models")  # by their addresses
LANGUAGES = ("en", "ko", "de")
DRAWN = (
    *(("a red apple", 1), ("a house", 11), ("a yellow star", 3)),
    *(("a ghost", 2), ("펭귄", 8), ("ein Pilz", 9)),
)


def go(page: Page, view: str) -> None:
    page.keyboard.press("Escape")
    page.get_by_role("link", name=view, exact=True).click()


def draw(page: Page, prompt: str, seed: int) -> None:
    go(page, "Draw")
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.keyboard.press("Enter")
    done = page.locator(".job", has=page.get_by_role("heading", name=prompt, exact=True)).first
    done.locator("button.tile").nth(3).wait_for()


def shoot(page: Page, name: str, wait: int = 900) -> None:
    page.wait_for_timeout(wait)
    with tempfile.TemporaryDirectory() as folder:
        page.screenshot(path=f"{folder}/shot.png")
        Image.open(f"{folder}/shot.png").convert("RGB").save(
            IMAGES / f"studio-{name}.webp", quality=78, method=6
        )
    print(name, flush=True)


def tiles_of(page: Page, text: str) -> Locator:
    go(page, "Library")
    page.get_by_label("Search in prompts").fill(text)
    page.wait_for_timeout(1500)
    return page.locator(".library .tile")


def send(page: Page) -> None:
    page.locator("form").get_by_role("button", name="Draw", exact=True).click()


def drag(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def drawing(page: Page) -> None:
    shoot(page, "empty")
    page.get_by_role("button", name="Settings").click()
    for prompt, seed in DRAWN:
        draw(page, prompt, seed)
    page.get_by_label("Seed", exact=True).fill("")
    shoot(page, "settings")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("What shall be drawn?").fill("an umbrella")
    page.keyboard.press("Enter")
    page.locator(".job .placeholder img").first.wait_for()
    shoot(page, "drawing", 0)
    page.locator(".job:first-of-type button.tile").nth(3).wait_for()
    page.get_by_label("What shall be drawn?").fill("")
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "draw")
    page.locator(".job button.tile").first.click()
    page.get_by_role("button", name="Where does it come from?").click()
    page.locator(".verdict").wait_for()
    shoot(page, "recipe")


def library(page: Page) -> None:
    tiles = tiles_of(page, "")
    page.get_by_role("button", name="Select", exact=True).click()
    tiles.nth(1).click()
    tiles.nth(6).click()
    shoot(page, "library")
    page.get_by_role("button", name="Compare").click()
    shoot(page, "compare")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="End the selection").click()
    page.get_by_role("button", name="Search in the pictures themselves").click()
    page.get_by_label("Search by what pictures show").fill("빨간 사과")
    shoot(page, "search", 8000)
    page.get_by_role("button", name="Search in the pictures themselves").click()


def editing(page: Page) -> None:
    tiles_of(page, "apple").last.click()
    page.get_by_role("dialog").get_by_role("button", name="Edit", exact=True).click()
    board = page.locator(".picture canvas")
    board.wait_for()
    page.wait_for_timeout(500)
    box = board.bounding_box()
    assert box is not None
    left, top, side = box["x"], box["y"], box["width"]
    page.get_by_label("Brush width").fill("80")
    page.get_by_label("Softness").fill("0.4")
    # over the whole apple
    for height, inset in ((0.32, 0.2), (0.5, 0.14), (0.68, 0.16), (0.84, 0.28)):
        drag(
            page, (left + side * inset, top + side * height), (left + side * (1 - inset), top + side * height)
        )
    page.get_by_label("What shall the whole picture show?").fill("a green apple")
    shoot(page, "mask")
    page.get_by_role("button", name="Draw into the mask").click()
    page.locator(".results .thumbnail").nth(2).wait_for()
    page.get_by_label("Before and after").fill("50")
    shoot(page, "edit")
    page.get_by_role("button", name="Extend", exact=True).click()
    page.get_by_label("Right", exact=True).fill("192")
    page.get_by_label("Left", exact=True).fill("64")
    page.locator(".tiling rect").first.wait_for()
    shoot(page, "extend")


def making(page: Page) -> None:
    tiles_of(page, "house").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Vary").click()
    page.locator(".chosen img").wait_for()
    page.get_by_label("Pictures").fill("3")
    page.get_by_label("Strength").fill("0.5")
    send(page)
    page.locator("button.tile").nth(2).wait_for()
    shoot(page, "vary")
    tiles_of(page, "apple").last.click()
    page.get_by_role("dialog").get_by_role("button", name="Change by words").click()
    page.locator(".chosen img").wait_for()
    page.get_by_label("From", exact=True).fill("a red apple")
    page.get_by_label("To", exact=True).fill("a green apple")
    page.get_by_label("Frames").fill("7")
    send(page)
    page.locator(".film > .tile").wait_for()
    shoot(page, "change", 2000)
    go(page, "Library")
    page.get_by_role("button", name="Select", exact=True).click()
    for prompt in ("green apple", "red apple", "Pilz", "umbrella"):
        tiles_of(page, prompt).last.click()
    tiles_of(page, "")
    page.locator(".selection").get_by_role("button", name="Blend").click()
    page.locator(".chosen figure").nth(3).wait_for()
    send(page)
    page.locator("img.dot").nth(24).wait_for()
    shoot(page, "blend", 2000)


def rest(page: Page) -> None:
    go(page, "Folder")
    page.get_by_role("button", name=re.compile("Index it|Bring up to date")).click()
    # while the index grows, its first pictures are counted already, and a search finds none of the others
    page.get_by_role("button", name="Bring up to date").wait_for()
    page.get_by_text(re.compile(r"^[1-9]\d* pictures indexed")).wait_for()
    page.get_by_label("Search by what pictures show").fill("a red apple")
    page.locator(".hits .tile").first.wait_for()
    shoot(page, "folder", 2000)
    go(page, "Models")
    shoot(page, "models", 2000)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    shoot(page, "shortcuts")
    page.keyboard.press("Escape")
    page.get_by_label("Dark or light").click()
    go(page, "Library")
    shoot(page, "dark", 2500)
    page.locator("header select").select_option("ko")
    page.goto(f"{page.url.split('#')[0]}#/draw")
    shoot(page, "ko")
    page.locator("header select").select_option("de")
    page.goto(f"{page.url.split('#')[0]}#/canvas")
    page.get_by_label("Dunkel oder hell").click()
    shoot(page, "de")
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{page.url.split('#')[0]}#/draw")
    shoot(page, "small")


def every(page: Page) -> None:
    """All views in all languages and both themes, in full under build/, and small on one sheet."""
    folder = IMAGES.parent.parent / "build" / "studio"
    folder.mkdir(parents=True, exist_ok=True)
    address = page.url.split("#")[0]
    page.set_viewport_size({"width": WIDE, "height": HIGH})
    sheet = Image.new("RGB", (SMALL[0] * len(LANGUAGES) * 2, SMALL[1] * len(VIEWS)), "white")
    looks = [(language, theme) for theme in ("light", "dark") for language in LANGUAGES]
    for column, (language, theme) in enumerate(looks):
        page.emulate_media(color_scheme=theme)
        page.evaluate("localStorage.clear()")
        page.reload()
        page.locator("header select").select_option(language)
        for row, view in enumerate(VIEWS):
            page.goto(f"{address}#/{view}")
            page.wait_for_timeout(1500)
            page.screenshot(path=folder / f"{language}-{theme}-{view}.png")
            with Image.open(folder / f"{language}-{theme}-{view}.png") as shot:
                sheet.paste(shot.convert("RGB").resize(SMALL), (column * SMALL[0], row * SMALL[1]))
        print(language, theme, flush=True)
    sheet.save(IMAGES / "studio-languages.webp", quality=78, method=6)


def main() -> None:
    address, *names = sys.argv[1:] or ["http://127.0.0.1:8000"]
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDE, "height": HIGH}, locale="en-US")
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        for part in (drawing, library, editing, making, rest, every):
            if not names or part.__name__ in names:
                part(page)
        browser.close()


if __name__ == "__main__":
    main()
