"""The promise that captions that say nothing, or in another language, are found, and good ones are left."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from unclip.data.prepare.captions import Finding, is_boilerplate, judge, language_of, letters, mended
from unclip.data.prepare.rules import Name, Rules, chosen
from unclip.data.records import Captions, Drawing


def drawing(captions: Captions, names: Sequence[str] = ()) -> Drawing:
    return Drawing("key", "folder", "", "concept", captions, "unknown", "", bitmap=b"", names=tuple(names))


@pytest.mark.parametrize(
    "caption",
    [
        "IMG_1234.JPG", "IMG-20190502-WA0003", "DSC00012", "dsc_0012.jpeg", "image (3)", "Photo 17",
        "2019-05-02 11.03.22", "20190502_110322", "untitled", "Untitled.png", "stock photo",
        "Royalty free stock photos", "Click to enlarge", "click here to view larger image", "no caption",
        "https://example.org/cat.jpg", "www.example.org", "image may contain: 2 people", "null", "12/05/2019",
        "d41d8cd98f00b204e9800998ecf8427e", "my-holiday_picture.png", "Shutterstock 1234567", "- image -",
    ],
)  # fmt: skip
def test_what_says_nothing_of_a_picture_is_boilerplate(caption: str) -> None:
    assert is_boilerplate(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a red ball", "cat", "sks cup", "photo of a dog", "a picture of 3 cats", "image of the moon",
        "two dogs", "Boeing 747", "stock car race", "빨간 공", "赤いボール", "ein Bild von einem Haus",
        "1girl",
        "a scan of an old letter", "pictures at an exhibition", "the year 2019 in Berlin", "Apollo 11",
        "logo of a bank", "a thumbnail sketch", "icon of a saint", "filed teeth", "wp church window",
    ],
)  # fmt: skip
def test_what_says_something_is_no_boilerplate(caption: str) -> None:
    assert not is_boilerplate(caption)


def test_boilerplate_is_judged_in_time_whatever_is_written() -> None:
    for caption in ("a-" * 99, "1 " * 99, "img_" * 49, "." * 200, "image " * 33 + "x", "0" * 199 + "x"):
        start = time.process_time()
        is_boilerplate(caption)
        assert time.process_time() - start < 1


def test_letters_of_wide_scripts_count_twice() -> None:
    assert letters("a b, c!") == 3
    assert letters("사과") == 4
    assert letters("猫") == 2


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("Ein schÃ¶ner KÃ¤se", "Ein schöner Käse"),
        ("l’Ã©tÃ© Ã la plage", "l’été à la plage"),
        ("a “quoted” ﬁsh", "a “quoted” ﬁsh"),  # is as it was written
        ("ein schöner Käse", "ein schöner Käse"),
        ("빨간 공", "빨간 공"),
        ("plain &amp; simple", "plain &amp; simple"),
    ],
)
def test_mojibake_is_mended_and_nothing_else_changed(broken: str, whole: str) -> None:
    assert mended(broken) == whole


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("two dogs running on a beach at sunset", "en"),
        ("Katze auf dem Sofa", "de"),
        ("un chat noir dort sur le canapé", "fr"),
        ("빨간 공", "ko"),
        ("赤いボール", "ja"),
        ("красный мяч", "ru"),
    ],
)
def test_languages_are_told(text: str, language: str) -> None:
    found, certain = language_of(text)
    assert found == language
    assert certain > 0.5


def test_what_has_no_letters_has_no_language() -> None:
    assert language_of("1 2 3 🍎") == ("", 0.0)


def test_a_caption_gets_the_language_that_it_is_in() -> None:
    judged = judge(drawing({"en": ["ein roter Ball liegt auf der Wiese", "ball"]}), chosen())
    assert judged.drawing.captions == {"de": ["ein roter Ball liegt auf der Wiese", "ball"]}
    assert judged.findings == (Finding(Name.LANGUAGE, "ein roter Ball liegt auf der Wiese", "de"),)
    assert judged.reason == ""


def test_what_its_source_gives_by_language_is_left_as_it_is() -> None:
    given = {"en": ["a red ball"], "ko": ["빨간 공"]}
    assert judge(drawing(given), chosen()).drawing.captions == given


def test_other_languages_are_dropped_if_some_are_kept() -> None:
    judged = judge(drawing({"en": ["ein roter Ball liegt auf der Wiese"]}), chosen(languages=["en", "ko"]))
    assert (judged.reason, judged.detail) == ("other language", "ein roter Ball liegt auf der Wiese")
    both = judge(drawing({"en": ["a red ball"], "de": ["ein roter Ball"]}), chosen(languages=["en"]))
    assert both.drawing.captions == {"en": ["a red ball"]}


def test_a_picture_goes_with_its_last_caption() -> None:
    names = ["IMG_1234.JPG", "a red ball"]
    judged = judge(drawing({"en": ["ab", "tag"]}, names), chosen(off=["language"]))
    assert judged.drawing.captions == {"en": ["a red ball", "tag"]}
    assert judged.drawing.names == ()
    assert judged.reason == ""
    judged = judge(drawing({"en": ["ab"]}, names[:1]), chosen())
    assert judged.reason == "boilerplate caption"
    assert judged.detail == "IMG_1234.JPG"


def test_nothing_is_judged_by_rules_that_are_off() -> None:
    judged = judge(drawing({"en": ["IMG_1234.JPG"]}), Rules({Name.SHORT: 3}))
    assert judged.reason == ""
