"""Takes the pictures of the page that docs/studio.md shows: python tools/studio_pictures.py [ADDRESS]

Wants a server with the shipped bundle (`make serve`), an empty library, and Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PATIENCE = 600_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu"]
LANGUAGES = ("en", "ko", "de")


def draw(page: Page, prompt: str, seed: int = 1) -> None:
    page.get_by_role("link", name="Draw", exact=True).click()
    page.get_by_label("Seed", exact=True).evaluate("node => node.closest('details').open = true")
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.keyboard.press("Enter")
    done = page.locator(".job", has=page.get_by_role("heading", name=prompt, exact=True)).first
    done.locator(".tile").nth(3).wait_for(timeout=PATIENCE)
    page.get_by_label("Seed", exact=True).evaluate("node => node.closest('details').open = false")


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(800)
    with tempfile.TemporaryDirectory() as folder:
        page.screenshot(path=f"{folder}/shot.png")
        Image.open(f"{folder}/shot.png").convert("RGB").save(IMAGES / f"studio-{name}.webp", quality=80)


def views(page: Page) -> None:
    shoot(page, "empty")
    for prompt, seed in (("a red apple", 1), ("a house", 11), ("an umbrella", 11)):
        draw(page, prompt, seed)
    shoot(page, "draw")
    page.locator(".job .tile").first.click()
    shoot(page, "recipe")
    page.get_by_role("button", name="Add to blend").click()
    page.locator(".chosen img").wait_for()
    page.get_by_role("link", name="Library").click()
    shoot(page, "library")
    page.locator(".tile").nth(5).click()
    page.get_by_role("button", name="Add to blend").click()
    page.locator(".chosen img").nth(1).wait_for()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator(".film .tile").wait_for(timeout=PATIENCE)
    page.get_by_label("Amount").fill("4")
    shoot(page, "blend")
    page.get_by_role("link", name="Library").click()
    page.get_by_label("Search in prompts").fill("apple")
    page.locator(".tile").last.click()
    page.get_by_role("button", name="Edit", exact=True).click()
    board = page.locator(".board canvas")
    board.wait_for()
    box = board.bounding_box()
    assert box is not None
    x, y, side = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6, box["width"]
    page.get_by_label("Brush width").fill("60")
    page.mouse.move(x - side / 5, y)
    page.mouse.down()
    page.mouse.move(x + side / 5, y + 20, steps=12)
    page.mouse.up()
    page.get_by_label("What shall the whole picture show?").fill("a green apple")
    shoot(page, "mask")
    page.get_by_role("button", name="Draw into the mask").click()
    page.locator(".results .thumbnail").nth(2).wait_for(timeout=PATIENCE)
    shoot(page, "edit")


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, locale="en-US")
        page.goto(address)
        views(page)
        page.get_by_label("Dark or light").click()
        page.get_by_role("link", name="Draw", exact=True).click()
        shoot(page, "dark")
        for language in LANGUAGES[1:]:
            page.locator("header select").select_option(language)
            shoot(page, language)
        page.set_viewport_size({"width": 360, "height": 740})
        shoot(page, "small")
        browser.close()


if __name__ == "__main__":
    main()
