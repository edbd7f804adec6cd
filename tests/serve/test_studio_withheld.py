"""Promises of the page under a policy: the pictures that are withheld are named where the others stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from support.browsing import PATIENCE, drag, draw, go, needs_chromium, open_with, picture_box, take
from support.pictures import speckled
from support.serving import Running, running
from unclip.drawing import Picture
from unclip.policy import Policy
from unclip.policy.guard import Guard, Withheld
from unclip.policy.pictures import NO_PICTURE_RULES

pytestmark = needs_chromium


@dataclass(frozen=True)
class Strict(Guard):
    """Withholds pictures by their index, of the next job alone."""

    bad: set[int] = field(default_factory=set)

    def sifted(self, pictures: Sequence[Picture]) -> tuple[list[Picture], list[Withheld]]:
        bad = [one for one in pictures if one.index in self.bad]
        self.bad.clear()
        kept = [one for one in pictures if one not in bad]
        return kept, [Withheld(one.index, one.seed, one.prompt, "nudity") for one in bad]


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve"), policy=Policy.named("dalle2")) as server:
        yield server


@pytest.fixture
def withhold(server: Running) -> set[int]:
    """The pictures of the next job that the server withholds, by index."""
    guard = server.service._guards["tiny"] = Strict(Policy.named("dalle2"), lambda policy: NO_PICTURE_RULES)
    return guard.bad


def said(place: Locator, total: int) -> None:
    said = place.get_by_text(f"1 of {total} withheld, by this server's rules: nudity")
    expect(said).to_be_visible(timeout=PATIENCE)


def test_beside_the_pictures_of_a_prompt(page: Page, withhold: set[int]) -> None:
    withhold.add(1)
    prompt = "three apples"
    go(page, "Draw")
    page.get_by_label("Pictures", exact=True).select_option("3")
    page.get_by_label("Size", exact=True).select_option("64x64")
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.keyboard.press("Enter")
    job = page.locator(".job", has=page.get_by_role("heading", name=prompt)).first
    said(job, 3)
    expect(job.locator(".tile")).to_have_count(2)
    page.reload()
    said(job, 3)


def test_where_all_are_it_is_said_that_none_is_left(page: Page, withhold: set[int]) -> None:
    withhold.add(0)
    go(page, "Draw")
    page.get_by_label("Pictures", exact=True).select_option("1")
    page.get_by_label("What shall be drawn?").fill("a lone apple")
    page.keyboard.press("Enter")
    alert = page.locator(".job").first.get_by_role("alert")
    expect(alert).to_contain_text("Not drawn, by this server's rules:", timeout=PATIENCE)
    expect(alert).to_contain_text("nudity")


def test_beside_the_results_of_a_mask_after_a_reload_too(
    page: Page, withhold: set[int], tmp_path: Path
) -> None:
    speckled(64).convert("RGB").save(tmp_path / "speckled.png")
    go(page, "Edit")
    page.locator("main input[type=file]").first.set_input_files(tmp_path / "speckled.png")
    left, top, cell = picture_box(page)
    drag(page, (left + 16 * cell, top + 32 * cell), (left + 48 * cell, top + 32 * cell))
    page.get_by_label("Results").fill("2")
    page.get_by_label("What shall the whole picture show?").fill("an apple")
    withhold.add(1)
    page.get_by_role("button", name="Draw into the mask").click()
    panel = page.locator(".panel")
    said(panel, 2)
    expect(panel.locator(".results .thumbnail")).to_have_count(1)
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    page.reload()
    said(panel, 2)
    expect(panel.locator(".results .thumbnail")).to_have_count(1)


def test_beside_variations_and_frames_whose_places_stay_theirs(page: Page, withhold: set[int]) -> None:
    draw(page, "a varied one")
    open_with(page, "a varied one", "Vary")
    expect(page.locator(".chosen img")).to_be_visible()
    page.get_by_label("Pictures").fill("2")
    withhold.add(1)
    page.get_by_role("button", name="Draw", exact=True).click()
    said(page.locator(".job").first, 2)
    page.get_by_role("button", name="Change by words").click()
    page.get_by_label("To", exact=True).fill("a pear")
    page.get_by_label("Frames").fill("5")
    withhold.add(2)
    page.get_by_role("button", name="Draw", exact=True).click()
    film = page.locator(".film")
    said(film, 5)
    expect(film.locator(".reel .thumbnail")).to_have_count(4)
    expect(film.get_by_role("button", name="Frame 3", exact=True)).to_have_count(0)
    page.get_by_label("Amount").fill("2")  # the third that is there is the fourth of five
    expect(film.locator("output")).to_have_text("75 %")


def test_a_mixture_that_is_withheld_leaves_its_place_empty(page: Page, withhold: set[int]) -> None:
    draw(page, "a corner", 3)
    take(page, "a corner", 3, "Blend")
    withhold.add(0)  # the first that is drawn: in the middle, where the hand is
    page.get_by_role("button", name="Draw", exact=True).click()
    said(page.locator(".mixture"), 4)
    expect(page.locator("img.dot")).to_have_count(14, timeout=PATIENCE)
    expect(page.locator("span.dot")).to_have_count(1)
    expect(page.get_by_text("Draw, then move over the plane.")).to_be_visible()
