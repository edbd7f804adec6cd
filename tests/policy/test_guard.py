"""Promises of a policy at work on pictures: looked at once, withheld by name, refused before use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image

from unclip.drawing import Event, Picture
from unclip.errors import InputError, PolicyError
from unclip.policy import Policy
from unclip.policy.guard import Guard, Withheld
from unclip.policy.pictures import PictureRules


class Red:
    """Takes red pictures for what is not allowed."""

    def __init__(self) -> None:
        self.seen = 0

    def found(self, image: Image.Image) -> bool:
        self.seen += 1
        pixel = image.getpixel((0, 0))
        return pixel == (255, 0, 0)


def guard(detector: Red | None = None, unapplied: dict[str, str] | None = None) -> Guard:
    rules = PictureRules({"nudity": detector or Red()}, unapplied)
    return Guard(Policy(pictures=("nudity",), name="ours"), lambda policy: rules)


def picture(colour: str, index: int = 0) -> Picture:
    return Picture(Image.new("RGB", (8, 8), colour), "an apple", 3, index, None, "tiny", "0")


def events(*colours: str) -> Iterator[Event]:
    for index, colour in enumerate(colours):
        yield Event("pictures", index + 1, len(colours), 0.0, (picture(colour, index),))


def test_a_picture_is_looked_at_once() -> None:
    detector = Red()
    watching = guard(detector)
    for _ in range(3):
        assert watching.refuses(Image.new("RGB", (8, 8), "red")) == "nudity"
    assert watching.refuses(Image.new("RGB", (8, 9), "red")) == "nudity"
    assert detector.seen == 2


def test_one_refused_picture_is_withheld_and_named_and_the_others_come() -> None:
    told: list[Withheld] = []
    drawn = [
        one
        for event in guard().watched(events("blue", "red", "green"), told.append)
        for one in event.pictures
    ]
    assert [one.index for one in drawn] == [0, 2]
    assert [str(one) for one in told] == ["picture 1 of seed 3 is withheld: it shows nudity"]


def test_where_all_are_refused_there_is_an_error() -> None:
    with pytest.raises(PolicyError, match="all 2 pictures are withheld") as caught:
        list(guard().watched(events("red", "red"), lambda one: None))
    assert caught.value.part is None


def test_a_picture_that_is_handed_in_is_refused_by_its_name() -> None:
    with pytest.raises(PolicyError, match="the image shows nudity") as caught:
        guard().check_pictures({"image": [Image.new("RGB", (8, 8), "red")]})
    assert caught.value.part == "image"
    guard().check_pictures({"image": [Image.new("RGB", (8, 8), "blue")]})


def test_a_rule_that_cannot_be_applied_is_said_and_not_claimed() -> None:
    told = guard(unapplied={"gore": "nothing here knows photographs"}).said()
    assert told == "policy ours; its picture rule 'gore' cannot be applied: nothing here knows photographs"


def test_a_policy_that_needs_an_extra_says_which() -> None:
    lacking = guard(unapplied={"faces": "onnx is missing: install unclip[policy]"})
    with pytest.raises(InputError, match=r"install unclip\[policy\]"):
        lacking.check_applied()
