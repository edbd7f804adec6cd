"""Journeys with the shipped bundle: masks, searches, blends and changes by words do what they shall."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, expect

from support.browsing import (
    PATIENCE,
    bytes_of,
    drag,
    file_of_result,
    found,
    go,
    id_of_tile,
    needs_chromium,
    open_with,
    picture_box,
    pixels,
    studio,
)
from support.serving import Running, running
from unclip.catalogue import SHIPPED

pytestmark = [needs_chromium, pytest.mark.slow]
KINDS = ["a red apple", "a green apple", "a house", "a yellow star", "a cat"]
DRAWN = {"a red apple": 1, "a house": 11, "a yellow star": 3}  # prompts and their seeds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(SHIPPED / "pictograms", tmp_path_factory.mktemp("shipped")) as server:
        for prompt, seed in DRAWN.items():
            asked = {"verb": "generate", "prompt": prompt, "seed": seed, "size": "256x256"}
            server.post("/v1/unclip/jobs", **asked).raise_for_status()
        yield server


@pytest.fixture
def page(server: Running, context: BrowserContext) -> Iterator[Page]:
    with studio(context, server.url, "pictograms") as page:
        for prompt in DRAWN:
            made = page.locator(".job", has=page.get_by_role("heading", name=prompt, exact=True))
            expect(made.locator("button.tile").first).to_be_visible(timeout=PATIENCE)
        yield page


def shows(server: Running, data: bytes) -> str:
    """The most probable of `KINDS`, as the bundle's own CLIP sees a picture."""
    (found,) = server.model.clip.classify(Image.open(io.BytesIO(data)), KINDS)
    return next(iter(found))


def file_of_tile(page: Page, tile: Locator) -> bytes:
    return bytes_of(page, f"/v1/unclip/pictures/{id_of_tile(tile)}/file")


def green(data: bytes) -> float:
    """How much greener than red a picture is, in the mean of what is not white."""
    picture = pixels(data)
    ink = picture[picture.min(2) < 200]
    return float((ink[:, 1] - ink[:, 0]).mean())


def test_strokes_redraw_what_they_cover_and_nothing_else(page: Page) -> None:
    before = pixels(file_of_tile(page, found(page, "a red apple")))
    open_with(page, "a red apple", "Edit")
    left, top, cell = picture_box(page)
    page.get_by_label("Brush width").fill("80")
    for height in (90, 150, 210):
        drag(page, (left + 50 * cell, top + height * cell), (left + 206 * cell, top + height * cell))
    page.get_by_label("What shall the whole picture show?").fill("a green apple")
    page.get_by_label("Results").fill("1")
    page.get_by_role("button", name="Draw into the mask").click()
    expect(page.locator(".results .thumbnail")).to_have_count(1, timeout=PATIENCE)
    after = pixels(file_of_result(page))
    covered = np.zeros((256, 256), bool)
    covered[48:252, 8:248] = True  # the strokes, their round ends, and a pixel
    assert np.array_equal(after[~covered], before[~covered])
    assert not np.array_equal(after[covered], before[covered])


@pytest.mark.parametrize(
    ("words", "prompt"),
    [("빨간 사과", "a red apple"), ("노란 별", "a yellow star"), ("ein Haus", "a house")],
)
def test_the_library_is_searched_in_other_languages_by_what_pictures_show(
    page: Page, words: str, prompt: str
) -> None:
    go(page, "Library")
    page.get_by_role("button", name="Search in the pictures themselves").click()
    page.get_by_label("Search by what pictures show").fill(words)
    first = page.locator(".library .tile img").first
    expect(first).to_have_attribute("alt", f"Picture: {prompt}", timeout=PATIENCE)


def test_the_slider_of_a_blend_leads_from_the_one_to_the_other(page: Page, server: Running) -> None:
    go(page, "Library")
    page.get_by_role("button", name="Select", exact=True).click()
    for prompt in ("a house", "a yellow star"):  # one is searched for after the other
        found(page, prompt)
        page.locator(".library").get_by_role("button", name=f"Picture: {prompt}", exact=True).click()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.locator(".selection").get_by_role("button", name="Blend").click()
    expect(page.locator(".chosen img").first).to_have_attribute("alt", "a house")
    page.get_by_label("Frames").fill("5")
    page.get_by_role("button", name="Draw", exact=True).click()
    shown = page.locator(".film > .tile")
    expect(shown).to_be_visible(timeout=PATIENCE)
    seen = []
    for place in ("0", "2", "4"):
        page.get_by_label("Mixture").fill(place)
        expect(page.locator(".reel [aria-pressed=true]")).to_have_attribute(
            "aria-label", f"Frame {int(place) + 1}"
        )
        seen.append(file_of_tile(page, shown))
    assert len(set(seen)) == 3
    assert [shows(server, seen[0]), shows(server, seen[-1])] == ["a house", "a yellow star"]


def test_the_slider_of_a_change_by_words_makes_an_apple_greener(page: Page) -> None:
    open_with(page, "a red apple", "Change by words")
    page.get_by_label("From", exact=True).fill("a red apple")
    page.get_by_label("To", exact=True).fill("a green apple")
    page.get_by_label("Frames").fill("5")
    page.get_by_role("button", name="Draw", exact=True).click()
    shown = page.locator(".film > .tile")
    expect(shown).to_be_visible(timeout=PATIENCE)
    seen = []
    for place in ("0", "2", "4"):
        page.get_by_label("Amount").fill(place)
        expect(page.locator(".film output")).to_have_text(f"{int(place) * 25} %")
        seen.append(green(file_of_tile(page, shown)))
    assert seen[0] < 0 < seen[-1]
    assert seen == sorted(seen)
