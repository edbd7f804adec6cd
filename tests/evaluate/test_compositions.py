"""Promises of compositions: what is put together is found, what is not is not; places and colours count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unclip.data.corpus import Corpus
from unclip.data.scene_words import Relation
from unclip.data.scenes import held_out
from unclip.evaluate import compositions
from unclip.evaluate.compositions import Asked, Judged, Thing, asked, composed, cut_out, hued, things

COLOURS = {"red": (220, 20, 20), "green": (20, 160, 20), "blue": (30, 60, 220), "orange": (240, 140, 20)}


def square(colour: tuple[int, int, int]) -> np.ndarray:
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[8:24, 8:24] = colour
    return picture


THINGS = [Thing(name, name, square(colour)) for name, colour in COLOURS.items()]


class ColourJudge:
    """It knows things by their mean colour."""

    size = 32

    def images(self, pixels: np.ndarray) -> np.ndarray:
        means = 255 - pixels.reshape(len(pixels), -1, 3).mean(axis=1) + 0.01
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)

    def texts(self, names: list[str]) -> np.ndarray:
        return self.images(np.stack([square(COLOURS[name]) for name in names]))


def judged(pictures: list[np.ndarray], names: list[list[str]]) -> Judged:
    judge = ColourJudge()
    offered = np.stack([judge.texts([*own, *(name for name in COLOURS if name not in own)]) for own in names])
    return Judged(judge, np.stack(pictures), offered)  # type: ignore[arg-type]


def test_both_things_have_to_be_there_and_in_their_places() -> None:
    red, blue = THINGS[0], THINGS[2]
    right, swapped = composed(Asked("", red, blue)), composed(Asked("", blue, red))
    alone, upright = red.picture, np.rot90(right, 1).copy()
    found = judged([right, swapped, alone, upright], [["red", "blue"]] * 4)
    assert found.right(Relation.AND, [""] * 4).tolist() == [True, True, False, True]
    assert found.right(Relation.LEFT, [""] * 4).tolist() == [True, False, False, False]


def test_two_of_a_thing_are_one_in_each_half() -> None:
    red, blue = THINGS[0], THINGS[2]
    found = judged([composed(Asked("", red, red)), composed(Asked("", red, blue))], [["red"]] * 2)
    assert found.right(Relation.TWO, [""] * 2).tolist() == [True, False]


def test_a_colour_has_to_be_the_one_that_was_asked_for() -> None:
    picture = hued(THINGS[0].picture, "blue")
    found = judged([picture, picture, THINGS[0].picture], [["blue"]] * 3)
    wanted = ["blue", "green", "blue"]
    assert found.right(Relation.COLOUR, wanted).tolist() == [True, False, False]


def test_what_is_painted_is_cut_out_as_large_as_it_goes() -> None:
    picture = np.full((64, 32, 3), 255, np.uint8)
    picture[10:20, 4:8] = 0
    cut = cut_out(picture, 32)
    assert cut.shape == (32, 32, 3)
    assert (cut < 128).any(axis=2).sum() > 0.3 * 32 * 32 * 0.8
    assert (cut_out(np.full((64, 32, 3), 255, np.uint8), 32) == 255).all()


def test_pairs_are_those_that_scenes_hold_out() -> None:
    words = [f"thing{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(40)]
    many = [Thing(word, word, THINGS[k % 4].picture) for k, word in enumerate(words)]
    prompts = asked(many, 20, seed=0)
    assert all(held_out(one.first.concept, one.second.concept) for one in prompts[Relation.AND])
    assert len(prompts[Relation.AND]) == 20
    assert prompts[Relation.AND][0].prompt.count("a thing") == 2
    assert all(one.prompt.startswith("two thing") for one in prompts[Relation.TWO])
    assert all(one.colour and one.colour in one.prompt for one in prompts[Relation.COLOUR])
    assert asked(many, 20, seed=0) == prompts


def test_things_of_a_corpus_have_a_picture_and_a_short_name(shapes: Path) -> None:
    found = things(Corpus(shapes), 32)
    assert len(found) > 4
    assert len({thing.name for thing in found}) == len(found)
    assert all(len(thing.name.split()) <= 2 and thing.picture.shape == (32, 32, 3) for thing in found)
    assert compositions.PAIRS == 60
