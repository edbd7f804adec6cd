"""Journeys of a person on the page, in a real browser against a real server, with a tiny bundle."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, TimeoutError, expect

from support.browsing import (
    PATIENCE,
    VIEWS,
    bytes_of,
    draw,
    drop,
    found,
    go,
    id_of_tile,
    needs_chromium,
    pixels,
    studio,
    take,
)
from support.serving import Running, file_of, process, refused, running
from unclip.policy import Policy

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the server's owner allows."""
    folder = tmp_path_factory.mktemp("allowed")
    for name, colour in (("red", "red"), ("blue", "blue"), ("green", "green")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("studio"), folders=(pictures,)) as server:
        yield server


# --- Draw ---


def test_a_prompt_is_drawn_and_kept_in_the_library_with_its_recipe(page: Page) -> None:
    draw(page, "a red apple", 2)
    page.locator(".job .tile").first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", name="a red apple")).to_be_visible()
    expect(viewer).to_contain_text("tiny")
    viewer.get_by_role("button", name="Close").click()
    go(page, "Library")
    expect(page.locator(".tile").nth(1)).to_be_visible()


def test_again_draws_the_same_picture_and_another_seed_another(page: Page) -> None:
    draw(page, "a blue star")
    first = id_of_tile(page.locator(".job .tile").first)
    page.locator(".job .tile").first.click()
    page.get_by_role("button", name="Again", exact=True).click()
    expect(page.locator(f".job:first-of-type .tile img[src*='{first}']")).to_have_count(0, timeout=PATIENCE)
    expect(page.locator(".job:first-of-type .tile")).to_have_count(1, timeout=PATIENCE)
    second = id_of_tile(page.locator(".job .tile").first)
    one, other = (bytes_of(page, f"/v1/unclip/pictures/{id}/file") for id in (first, second))
    assert np.array_equal(pixels(one), pixels(other))


def test_settings_are_those_that_the_model_has_with_ranges_and_one_out_of_range_is_marked(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    guidance = page.get_by_label("Guidance", exact=True)
    expect(page.locator("#settings")).to_contain_text("(0 – 50")
    guidance.fill("70")
    expect(guidance).to_have_attribute("aria-invalid", "true")
    page.get_by_label("What shall be drawn?").fill("a red apple")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("guidance")  # in the server's words, beside the prompt
    guidance.fill("")
    draw(page, "a red apple")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_after_a_reload_the_pictures_and_jobs_are_there(page: Page) -> None:
    draw(page, "a green leaf")
    page.reload()
    expect(page.get_by_role("heading", name="a green leaf")).to_be_visible(timeout=PATIENCE)


def begin_slow(page: Page, prompt: str) -> None:
    """Begin a picture that takes many steps, and see it drawn."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Steps", exact=True).fill("900")
    page.get_by_label("Pictures", exact=True).select_option("1")
    page.get_by_label("Size", exact=True).select_option("64x64")
    page.get_by_label("What shall be drawn?").fill(prompt)
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"Painting \d+ of 900")).first).to_be_visible(timeout=PATIENCE)


def test_a_reload_in_the_middle_of_a_job_goes_on_showing_it(page: Page) -> None:
    begin_slow(page, "a slow star")
    page.reload()
    job = page.locator(".job", has=page.get_by_role("heading", name="a slow star")).first
    expect(job.get_by_text(re.compile(r"Painting \d+ of 900"))).to_be_visible()
    expect(job.locator(".placeholder img")).to_be_visible(timeout=PATIENCE)  # as far as it is drawn
    expect(job.locator("button.tile")).to_have_count(1, timeout=PATIENCE)


def test_a_job_is_cancelled_and_says_so(page: Page) -> None:
    page.get_by_label("Size", exact=True).select_option("1024x1024")
    page.get_by_label("Pictures", exact=True).select_option("10")
    page.get_by_label("What shall be drawn?").fill("a slow one")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible(timeout=PATIENCE)


def test_a_dropped_picture_of_ours_says_where_it_comes_from_and_recalls_its_settings(page: Page) -> None:
    draw(page, "a dropped moon")
    file = bytes_of(page, f"/v1/unclip/pictures/{id_of_tile(page.locator('.job .tile').first)}/file")
    page.get_by_label("What shall be drawn?").fill("")
    drop(page, "moon.png", file)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("labelled")
    dialog.get_by_role("button", name="Recall its settings").click()
    expect(page.get_by_label("What shall be drawn?")).to_have_value("a dropped moon")
    expect(page.get_by_label("Size")).to_have_value("64x64")


def test_a_dropped_picture_that_says_nothing_is_edited_and_another_file_is_refused_by_name(
    page: Page,
) -> None:
    drop(page, "<b>notes</b>.txt", b"no picture", "text/plain")
    expect(page.get_by_text("<b>notes</b>.txt is no picture.")).to_be_visible()
    drop(page, "<i>plain</i>.png", file_of(Image.new("RGB", (48, 32), "white")))
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="<i>plain</i>.png")).to_be_visible()
    expect(dialog.get_by_role("button", name="Recall its settings")).to_have_count(0)
    dialog.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator(".picture canvas")).to_have_attribute("width", "48")


def test_a_prompt_that_the_policy_refuses_is_said_in_the_servers_words_beside_the_prompt(
    tiny_bundle: Path, context: BrowserContext, tmp_path: Path
) -> None:
    with (
        running(tiny_bundle, tmp_path, policy=Policy.named("dalle2")) as server,
        studio(context, server.url) as page,
    ):
        page.get_by_label("What shall be drawn?").fill("a naked woman")
        page.keyboard.press("Enter")
        asked = {"verb": "generate", "prompt": "a naked woman", "model": "tiny"}
        said = refused(server.client.post("/v1/unclip/jobs", json=asked))
        assert said["code"] == "content_policy_violation"
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("Not drawn, by this server's rules:")
        expect(alert).to_contain_text(said["message"])
        go(page, "Library")
        go(page, "Draw")
        expect(alert).to_have_count(0)


def test_many_waiting_jobs_do_not_hold_up_the_page(page: Page) -> None:
    draw(page, "a first thing")
    for number in range(8):  # a browser has six connections for a server
        page.get_by_label("Size", exact=True).select_option("1024x1024")
        page.get_by_label("What shall be drawn?").fill(f"a waiting thing {number}")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=f"a waiting thing {number}")).to_be_visible()
    page.reload()
    expect(found(page, "a first thing")).to_be_visible(timeout=20_000)
    go(page, "Draw")
    cancel = page.get_by_role("button", name="Cancel")
    for _ in range(8):
        with suppress(TimeoutError):  # it is drawn by now
            cancel.first.click(timeout=2000)
    expect(cancel).to_have_count(0, timeout=PATIENCE)


# --- Library ---


def test_a_deleted_picture_comes_back_by_undo(page: Page) -> None:
    draw(page, "a lost thing")
    found(page, "lost").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".library .tile")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".library .tile")).to_have_count(1)


def test_several_pictures_are_chosen_compared_put_on_a_board_and_fetched_as_one_file(page: Page) -> None:
    draw(page, "a chosen pear", 3)
    tiles = found(page, "chosen", 3)
    page.get_by_role("button", name="Select", exact=True).click()
    tiles.nth(0).click()
    tiles.nth(2).click(modifiers=["Shift"])
    expect(page.get_by_text("3 selected")).to_be_visible()
    tiles.nth(1).click()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("dialog").locator("img")).to_have_count(2)
    page.get_by_role("button", name="One over the other").click()
    page.get_by_label("Where the one ends and the other begins").fill("20")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("link", name="ZIP").click()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 2
    page.get_by_label("Board", exact=True).fill("pears & <b>")
    page.get_by_role("button", name="Put on board").click()
    board = page.get_by_role("group", name="Boards").get_by_role("button", name="pears & <b> 2")
    board.click()
    expect(page.locator(".library .tile")).to_have_count(2)
    page.get_by_role("button", name="Take this board away").click()
    expect(board).to_have_count(0)
    expect(page.locator(".library .tile")).to_have_count(3)


def test_the_library_is_searched_by_meaning_in_korean_and_by_picture(page: Page) -> None:
    draw(page, "an owl at night")
    go(page, "Library")
    page.get_by_role("button", name="Search in the pictures themselves").click()
    page.get_by_label("Search by what pictures show").fill("밤의 올빼미")
    expect(page.locator(".library .tile").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Search in the pictures themselves").click()
    tile = found(page, "an owl at night").first
    owl = id_of_tile(tile)
    tile.click()
    page.get_by_role("button", name="Find similar").click()
    expect(page.get_by_text("Like an owl at night")).to_be_visible()
    assert id_of_tile(page.locator(".library .tile").first) == owl  # nothing is nearer to it than itself


def test_a_filter_by_day_and_model_finds_what_was_made_then(page: Page) -> None:
    draw(page, "a dated thing")
    found(page, "dated")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("To", exact=True).fill("2020-01-01")
    expect(page.get_by_text("No picture fits this.")).to_be_visible()
    page.locator(".empty").get_by_role("button", name="Clear").click()
    page.get_by_label("Model", exact=True).last.select_option("tiny")
    expect(page.locator(".library .tile").first).to_be_visible()


def test_the_grid_is_walked_by_arrows_and_pictures_are_starred_by_key(page: Page) -> None:
    draw(page, "a walked way", 3)
    tiles = found(page, "walked", 3)
    tiles.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(1)).to_be_focused()
    page.keyboard.press("s")
    expect(tiles.nth(1).locator(".star")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.get_by_role("dialog").get_by_role("button", name="Star", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator(".library .star")).to_have_count(2)


def test_a_picture_made_of_another_says_of_which(page: Page) -> None:
    draw(page, "a parent")
    parent = id_of_tile(page.locator(".job .tile").first)
    page.locator(".job .tile").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Vary").click()
    expect(page.locator(".chosen figure")).to_have_count(1)  # the view has changed
    page.get_by_label("Pictures").fill("1")
    page.get_by_role("button", name="Draw", exact=True).click()
    made = page.locator(".job button.tile")
    expect(made).to_have_count(1, timeout=PATIENCE)
    made.click()
    page.get_by_role("button", name="Open the picture that it was made of").click()
    expect(page.get_by_role("dialog").locator(f".stage img[src*='{parent}']")).to_be_visible()


def test_a_recipe_names_settings_as_the_form_does(page: Page) -> None:
    draw(page, "a recipe")
    found(page, "a recipe").click()
    names = page.get_by_role("dialog").locator("dt").all_inner_texts()
    assert {"Size", "Seed", "Steps", "Guidance"} <= set(names)
    assert len(names) == len(set(names))
    assert not [name for name in names if "_" in name]


# --- Vary ---


def test_what_is_blended_or_edited_is_chosen_in_the_library(page: Page) -> None:
    draw(page, "a chosen one", 2)
    go(page, "Vary")
    page.get_by_role("button", name="Blend").click()
    page.get_by_role("button", name="From the library").click()
    tiles = found(page, "a chosen one", 2)
    tiles.nth(0).click()
    tiles.nth(1).click()
    page.locator(".selection").get_by_role("button", name="Blend").click()
    expect(page.locator(".chosen figure")).to_have_count(2)
    go(page, "Edit")
    page.get_by_role("button", name="From the library").click()
    found(page, "a chosen one", 2).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator(".picture canvas")).to_be_visible()


def test_a_blend_moves_by_its_slider_and_goes_into_a_file(page: Page) -> None:
    draw(page, "a blended one", 2)
    take(page, "blended", 2, "Blend")
    page.get_by_label("Frames").fill("4")
    page.get_by_role("button", name="Draw", exact=True).click()
    shown = page.locator(".film > .tile img")
    expect(shown).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Mixture").fill("0")
    first = shown.get_attribute("src")
    page.get_by_label("Mixture").press("ArrowRight")
    expect(shown).not_to_have_attribute("src", first or "")
    with page.expect_download() as download:
        page.get_by_role("link", name="GIF").click()
    assert Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).n_frames == 6  # there and back


def test_three_pictures_are_blended_on_a_plane(page: Page) -> None:
    draw(page, "a corner", 3)
    take(page, "corner", 3, "Blend")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("img.dot").nth(3)).to_be_visible(timeout=PATIENCE)
    pad = page.get_by_role("slider", name="Mixture of the pictures")
    before = pad.get_attribute("aria-valuetext")
    pad.press("ArrowLeft")
    assert pad.get_attribute("aria-valuetext") != before
    expect(page.locator(".mixture .tile")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()


def test_a_picture_is_changed_by_words_with_a_slider(page: Page) -> None:
    draw(page, "a changed one")
    page.locator(".job .tile").first.click()
    page.get_by_role("button", name="Change by words").click()
    expect(page.get_by_label("From", exact=True)).to_have_value("a changed one")  # what it was drawn of
    page.get_by_label("From", exact=True).fill("an apple")
    page.get_by_label("To", exact=True).fill("a pear")
    page.get_by_label("Frames").fill("3")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".reel .thumbnail")).to_have_count(3, timeout=PATIENCE)
    page.get_by_label("Amount").fill("0")
    expect(page.locator(".reel .thumbnail").first).to_have_attribute("aria-pressed", "true")


# --- Folder ---


def test_a_folder_is_indexed_and_searched(page: Page) -> None:
    go(page, "Folder")
    page.get_by_role("button", name="Index it").click()
    expect(page.get_by_text("3 pictures indexed")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Search by what pictures show").fill("빨간 사과")
    expect(page.locator(".hits .tile")).to_have_count(3, timeout=PATIENCE)
    page.locator(".hits .tile").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator(".picture canvas")).to_have_attribute("width", "64")


# --- everywhere ---


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
    for number in VIEWS:
        page.locator("body").press(number)
        page.wait_for_timeout(200)
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


def test_a_server_that_is_killed_is_said_to_be_gone_and_the_job_goes_on_when_it_is_back(
    context: BrowserContext, tiny_bundle: Path, tmp_path: Path
) -> None:
    gone = context.new_page()
    with process(tiny_bundle, tmp_path) as (started, address, _):
        gone.goto(address)
        begin_slow(gone, "a picture that outlives its server")
        started.kill()
    expect(gone.get_by_text("The server does not answer")).to_be_visible(timeout=PATIENCE)
    with process(tiny_bundle, tmp_path, port=int(address.rpartition(":")[2])):
        expect(gone.get_by_text("The server does not answer")).to_have_count(0, timeout=PATIENCE)
        expect(gone.locator(".job button.tile")).to_have_count(1, timeout=PATIENCE)
        draw(gone, "a picture after it")


def test_two_tabs_see_each_others_pictures(page: Page, context: BrowserContext, server: Running) -> None:
    with studio(context, server.url) as other:
        draw(page, "a shared thing")
        expect(found(other, "shared")).to_be_visible()
        draw(other, "an answer", 2)
        go(page, "Draw")
        page.reload()
        expect(page.get_by_role("heading", name="an answer")).to_be_visible()


def test_two_tabs_have_two_canvases(page: Page, context: BrowserContext, server: Running) -> None:
    with studio(context, server.url) as other:
        for tab, side in ((page, 48), (other, 32)):
            file = file_of(Image.new("RGB", (side, side), "white"))
            go(tab, "Edit")
            tab.locator("main input[type=file]").first.set_input_files(
                {"name": f"{side}.png", "mimeType": "image/png", "buffer": file}
            )
            expect(tab.get_by_text("Saved", exact=True)).to_be_visible()
        for tab, side in ((page, 48), (other, 32)):
            tab.reload()
            expect(tab.locator(".picture canvas")).to_have_attribute("width", str(side))
