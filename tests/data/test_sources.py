"""The promise that every source gives its pictures with the right name, concept, style and colour."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from support.packages import ellipse
from unclip.data.clipart import clipart_caption, clipart_style, is_photo, stamp_captions, without_author
from unclip.data.emojibase import EmojiNames
from unclip.data.records import Drawing, Fit
from unclip.data.sources import SOURCES, icon_svg
from unclip.data.styles import STYLE_PHRASES


@pytest.fixture(scope="module")
def drawings(archives: Path, names: EmojiNames) -> dict[str, Drawing]:
    found = [drawing for source in SOURCES for drawing in source.drawings(archives, names)]
    assert len({drawing.key for drawing in found}) == len(found)
    return {drawing.key: drawing for drawing in found}


def test_every_source_is_read(drawings: dict[str, Drawing]) -> None:
    assert {drawing.source for drawing in drawings.values()} == {source.name for source in SOURCES}
    for drawing in drawings.values():
        assert (drawing.svg is None) != (drawing.bitmap is None)
        assert drawing.licence
        assert drawing.style in STYLE_PHRASES


def test_the_same_thing_is_one_concept_in_all_sources(drawings: dict[str, Drawing]) -> None:
    rockets = ["noto/rocket", "fluent-gradient/rocket", "streamline-emojis/rocket-2", "game-icons/rocket"]
    rockets += ["openclipart/transportation/rocket_benji_park_01"]
    assert {drawings[key].concept for key in rockets} == {"u1f680"}
    assert {drawings[key].captions["ko"][0] for key in rockets} == {"로켓"}
    clocks = ["flat-color-icons/alarm-clock", "icon-park/alarm-clock-two"]
    assert {drawings[key].concept for key in clocks} == {"alarm-clock"}
    assert drawings["icon-park/alarm-clock-two"].captions == {"en": ["alarm clock"]}


def test_skin_tones_are_in_the_captions_of_all_languages(drawings: dict[str, Drawing]) -> None:
    toned, plain = drawings["noto/man-astronaut-dark-skin-tone"], drawings["noto/man-astronaut"]
    assert (toned.tone, plain.tone) == (5, 0)
    assert toned.concept == plain.concept == "u1f9d1-200d-1f680"
    assert toned.captions["en"][0] == "man astronaut: dark skin tone"
    assert toned.captions["ko"][0] == "남자 우주비행사: 검은색 피부"
    assert toned.captions["de"][0] == "Astronaut: dunkle Hautfarbe"
    assert drawings["emojione/man-astronaut-tone5"].tone == 5


def test_old_names_lead_to_todays_emoji_and_stay_as_names(drawings: dict[str, Drawing]) -> None:
    apple = drawings["noto-v1/apple-old"]
    assert apple.concept == "u1f34e"
    assert apple.names == ("apple old",)


def test_withdrawn_icons_come_last(drawings: dict[str, Drawing]) -> None:
    own = [key for key in drawings if key.startswith("noto/")]
    assert own[-1] == "noto/old-rocket"


def test_names_without_spaces_are_taken_apart(drawings: dict[str, Drawing]) -> None:
    assert drawings["fxemoji/redapple"].concept == "u1f34e"
    assert drawings["fxemoji/spacerocket"].captions["en"] == ["space rocket"]
    assert drawings["fxemoji/qqzz"].captions == {}


def test_an_icon_without_a_name_has_no_caption(drawings: dict[str, Drawing]) -> None:
    assert drawings["game-icons/abstract-001"].captions == {}


def test_colours(drawings: dict[str, Drawing]) -> None:
    assert 'fill="#000000"' in (drawings["game-icons/rocket"].svg or "")
    assert 'fill="#2F88FF"' in (drawings["icon-park/alarm-clock-two"].svg or "")


def test_variants_in_an_icons_name_are_styles(drawings: dict[str, Drawing]) -> None:
    line, fill = drawings["meteocons/rain"], drawings["meteocons/rain-fill"]
    assert (line.style, fill.style) == ("weather line", "weather fill")
    assert line.captions == fill.captions == {"en": ["rain"]}


def test_flipped_aliases_are_pictures_of_their_own(drawings: dict[str, Drawing]) -> None:
    assert "scale(-1 1)" in (drawings["noto/rocket-left"].svg or "")
    assert "noto/apple-old" not in drawings


def test_sizes_of_an_icon_default_to_the_sets() -> None:
    icons = {"width": 24, "height": 24, "icons": {}}
    assert 'viewBox="0 0 24 24"' in icon_svg(icons, {"body": ""}, {})
    assert 'viewBox="-2 0 30 24"' in icon_svg(icons, {"body": "", "left": -2, "width": 30}, {})
    assert 'viewBox="0 0 16 16"' in icon_svg({"icons": {}}, {"body": ""}, {})
    assert "rotate(90 12.0 12.0)" in icon_svg(icons, {"body": "x"}, {"rotate": 1})
    assert "scale(1 -1)" in icon_svg(icons, {"body": "x"}, {"vFlip": True})


def test_animated_drawings_stand_still_and_show_all() -> None:
    body = (
        '<path d="M1 1" opacity="0"><animate attributeName="opacity" values="0;1;0"/></path>'
        '<path fill="red"><animate attributeName="d" dur="3s" values="M 2 2; M 3 3"/></path>'
    )
    drawn = icon_svg({"icons": {}}, {"body": body}, {})
    assert 'opacity="0"' not in drawn
    assert '<path fill="red" d="M 2 2">' in drawn


def test_webp_files_are_named_by_code_point(drawings: dict[str, Drawing]) -> None:
    assert drawings["fluent-3d/1f1ef-1f1f5"].captions["de"][0] == "Flagge: Japan"
    assert drawings["fluent-3d/2b55"].captions == {}  # emojibase of these tests does not have it


def test_openmoji_has_names_of_its_own(drawings: dict[str, Drawing]) -> None:
    fish = drawings["openmoji/E000"]
    assert fish.captions == {"en": ["goldfish", "fish", "water"]}
    assert fish.author == "B"
    assert drawings["openmoji/1F34E"].captions["ko"][0] == "빨간 사과"
    assert drawings["openmoji-black/1F34E"].style == "openmoji line"


def test_stamps(drawings: dict[str, Drawing]) -> None:
    stamp = drawings["tuxpaint/animals/insects/monarch"]
    assert stamp.captions["en"] == ["monarch butterfly", "a Monarch butterfly"]
    assert stamp.captions["de"] == ["Monarchfalter", "ein Monarchfalter"]
    assert stamp.captions["pt-br"] == ["Uma borboleta"]
    assert "sr@latin" not in stamp.captions
    assert stamp.fit is Fit.TRIM
    assert drawings["tuxpaint/town/nothing"].captions == {}


def test_a_story_about_a_stamp_is_cut_to_its_subject() -> None:
    captions = stamp_captions("A mince pie is a traditional Christmas food in the UK.\nde.utf8=Minzkuchen.\n")
    assert captions == {"en": ["mince pie", "a mince pie"], "de": ["Minzkuchen"]}
    assert stamp_captions("Venus—the second planet in the solar system.")["en"] == ["Venus"]
    assert stamp_captions("") == {}


def test_photographs_are_told_from_drawings() -> None:
    noise = np.random.default_rng(0).integers(90, 110, (60, 60, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    assert is_photo(out.getvalue())
    assert not is_photo(ellipse())
    assert not is_photo(b"broken")


def test_clip_art_is_named_in_italian_too(drawings: dict[str, Drawing]) -> None:
    butterfly = drawings["openclipart/animals/bugs/farfalla_architetto_fra_01"]
    assert butterfly.concept == "u1f98b"
    assert butterfly.captions["en"][0] == "butterfly"
    assert drawings["openclipart/signs_and_symbols/flags/asia/japan"].concept == "u1f1ef-1f1f5"


@pytest.mark.parametrize(
    ("path", "caption", "tags"),
    [
        ("food/fruit/apple_bitten_dan_gerhard_01.png", "apple bitten", ["fruit", "food"]),
        ("recreation/games/cards/white/white_h_10.png", "10 of hearts", ["playing card"]),
        ("recreation/games/cards/simple/simple_s_k.png", "king of spades", ["playing card"]),
        ("shapes/stars/star_50pt23step.png", "geometric star pattern", ["star", "lines"]),
        ("signs_and_symbols/flags/europe/france/france_champagne.png", "champagne", ["flag"]),
        ("signs_and_symbols/flags/semaphore/semaphore_delta.png", "semaphore delta", ["signal", "person"]),
        ("animals/birds/qqq_zzz_01.png", "bird", ["animal"]),
        ("computer/icons/70a016.png", "", []),
        ("tools/teddy_bear_with__01.png", "teddy bear", ["tool"]),
    ],
)
def test_captions_of_clip_art(path: str, caption: str, tags: list[str]) -> None:
    vocabulary = frozenset({"apple", "bitten", "teddy", "bear", "with", "white", "simple"})
    assert clipart_caption(PurePosixPath(path), vocabulary) == (caption, tags)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cake etienne bersac", "cake"),
        ("pear architetto fra", "pear"),
        ("smoke nicu bucul", "smoke"),
        ("car park", "car park"),
        ("ganson", "ganson"),
    ],
)
def test_authors_are_no_part_of_a_caption(text: str, expected: str) -> None:
    assert without_author(text) == expected


def test_styles_of_clip_art() -> None:
    assert clipart_style(PurePosixPath("computer/icons/x/folder.png"), "clip art") == "desktop icon"
    assert clipart_style(PurePosixPath("food/apple_bw.png"), "clip art") == "black and white clip art"
    assert clipart_style(PurePosixPath("food/apple.png"), "clip art") == "clip art"
