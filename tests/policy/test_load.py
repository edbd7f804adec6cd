"""Promises of `unclip.load(policy=...)`: verbs refuse before any work, and what was drawn is looked at."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import unclip
from unclip.errors import InputError, PolicyError, UnclipWarning
from unclip.policy import Policy
from unclip.policy import guard as guards
from unclip.policy.pictures import PictureRules

PROMPTS = Policy(prompts=("sexual",), name="ours")
PICTURES = Policy(pictures=("nudity",), name="ours")
SMALL: dict[str, Any] = {"size": 64, "seed": 1}


class Chosen:
    """Takes pictures with a red corner for what is not allowed, and of others the nth."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.seen = numbers, 0

    def found(self, image: Image.Image) -> bool:
        if image.getpixel((0, 0)) == (255, 0, 0):
            return True
        self.seen += 1
        return self.seen in self.numbers


def refusing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    rules = PictureRules({"nudity": Chosen(*numbers)})
    monkeypatch.setattr(guards.Guard, "pictures", property(lambda self: rules))


def red() -> Image.Image:
    return Image.new("RGBA", (64, 64), (255, 0, 0, 255))


@pytest.mark.parametrize(
    "verb",
    [
        lambda model: model.generate("a naked woman", **SMALL),
        lambda model: model.stream("a naked woman", **SMALL),
        lambda model: model.edit(red(), Image.new("L", (64, 64), 255), "a naked woman", **SMALL),
        lambda model: model.outpaint(red(), "a naked woman", left=16, seed=1),
        lambda model: model.restyle(red(), "an apple", "a naked woman", **SMALL),
        lambda model: model.restyle(red(), "a naked woman", "an apple", **SMALL),
    ],
)
def test_every_verb_refuses_a_prompt_before_any_work(
    tiny_bundle: Path, verb: Callable[[unclip.Model], object]
) -> None:
    model = unclip.load(tiny_bundle, policy=PROMPTS)
    with pytest.raises(PolicyError, match="sexual content, which the policy ours does not allow"):
        verb(model)


@pytest.mark.parametrize(
    "verb",
    [
        lambda model: model.generate("an apple", init=red(), **SMALL),
        lambda model: model.vary(red(), **SMALL),
        lambda model: model.blend(red(), red(), frames=2, **SMALL),
        lambda model: model.restyle(red(), "an apple", "a pear", **SMALL),
        lambda model: model.edit(red(), Image.new("L", (64, 64), 255), "an apple", **SMALL),
        lambda model: model.edit(red(), Image.new("L", (64, 64), 255), "", **SMALL),
        lambda model: model.outpaint(red(), "an apple", left=16, seed=1),
        lambda model: model.reconstruct(red(), [1], **SMALL),
        lambda model: model.encode(red()),
        lambda model: model.embed([red()]),
    ],
)
def test_every_verb_refuses_a_picture_before_any_work(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[unclip.Model], object]
) -> None:
    refusing(monkeypatch)
    model = unclip.load(tiny_bundle, policy=PICTURES)
    with pytest.raises(PolicyError, match="shows nudity"):
        verb(model)


def test_one_of_several_is_withheld_with_a_warning_and_the_others_come(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, 2)
    model = unclip.load(tiny_bundle, policy=PICTURES)
    with pytest.warns(UnclipWarning, match="picture 1 of seed 1 is withheld: it shows nudity"):
        pictures = model.generate("an apple", n=3, **SMALL)
    assert [picture.index for picture in pictures] == [0, 2]


@pytest.mark.filterwarnings("ignore:picture . of seed")
def test_where_all_are_withheld_there_is_the_error(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, 1, 2)
    model = unclip.load(tiny_bundle, policy=PICTURES)
    with pytest.raises(PolicyError, match="all 2 pictures are withheld"):
        model.generate("an apple", n=2, **SMALL)


def test_no_estimate_of_a_picture_is_told_before_it_was_looked_at(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch)
    model = unclip.load(tiny_bundle, policy=PICTURES)
    assert all(event.preview() == [] for event in model.stream("an apple", **SMALL))


def test_a_translation_is_looked_at_as_well(tiny_bundle: Path) -> None:
    model = unclip.load(tiny_bundle, policy=PROMPTS, translate=lambda text: "a naked woman")
    with pytest.raises(PolicyError, match="sexual"):
        model.generate("nuda femina", **SMALL)


def test_a_policy_is_named_given_as_a_file_or_as_an_object(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('prompts = ["sexual"]\n')
    for policy in (file, str(file), Policy.named(file)):
        with pytest.raises(PolicyError, match="policy ours"):
            unclip.load(tiny_bundle, policy=policy).generate("a naked woman", **SMALL)
    with pytest.raises(InputError, match="no policy 'strict': choose dalle2, midjourney, none, or"):
        unclip.load(tiny_bundle, policy="strict")
    assert unclip.load(tiny_bundle, policy="none").guard is None
    assert unclip.load(tiny_bundle).guard is None


def test_what_a_bundle_asks_for_holds_where_no_policy_is_chosen(tiny_bundle_copy: Path) -> None:
    card = tiny_bundle_copy / "bundle.json"
    file = tiny_bundle_copy / "ours.toml"
    file.write_text('prompts = ["sexual"]\n')
    card.write_text(json.dumps(json.loads(card.read_text()) | {"policy": str(file)}))
    with pytest.raises(PolicyError):
        unclip.load(tiny_bundle_copy).generate("a naked woman", **SMALL)
    assert unclip.load(tiny_bundle_copy, policy="none").guard is None


def test_a_copy_in_another_process_keeps_its_policy(tiny_bundle: Path) -> None:
    model = pickle.loads(pickle.dumps(unclip.load(tiny_bundle, policy=PROMPTS)))
    with pytest.raises(PolicyError):
        model.generate("a naked woman", **SMALL)
