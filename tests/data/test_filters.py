"""The promise that repeated pictures of a style go, and that what is held out was not trained on."""

from __future__ import annotations

import numpy as np

from unclip.data.filters import THUMB, duplicates, seen


def thumb(value: int, dot: int = 0) -> np.ndarray:
    picture = np.full((THUMB, THUMB, 3), 255, np.uint8)
    picture[8:24, 8:24] = value
    picture[12 : 12 + dot, 12 : 12 + dot] = 0
    return picture


def test_the_first_of_equal_pictures_stays() -> None:
    thumbs = np.stack([thumb(10), thumb(200), thumb(10)])
    assert duplicates(["a"] * 3, [b"1", b"2", b"1"], thumbs) == {2: ("duplicate", 0)}


def test_pictures_that_look_the_same_go_and_others_stay() -> None:
    thumbs = np.stack([thumb(100), thumb(101), thumb(100, dot=2), thumb(140)])
    assert duplicates(["a"] * 4, [b"1", b"2", b"3", b"4"], thumbs) == {1: ("near-duplicate", 0)}


def test_another_style_may_have_the_same_picture() -> None:
    assert duplicates(["a", "b"], [b"1", b"1"], np.stack([thumb(10), thumb(10)])) == {}


def test_a_chain_does_not_lose_its_first_picture() -> None:
    thumbs = np.stack([thumb(100 + 2 * step) for step in range(4)])
    dropped = duplicates(["a"] * 4, [bytes([n]) for n in range(4)], thumbs)
    assert 0 not in dropped
    assert all(kept not in dropped for _, kept in dropped.values())


def test_held_out_pictures_that_are_trained_on_are_found() -> None:
    held_out, train = np.stack([thumb(10), thumb(90)]), np.stack([thumb(200), thumb(91), thumb(50)])
    assert seen(held_out, train) == {1: 1}
    assert seen(held_out, train[:0]) == {}
    assert seen(held_out[:0], train) == {}


def test_many_pictures_are_compared_in_blocks() -> None:
    generator = np.random.default_rng(0)
    thumbs = generator.integers(0, 256, (2100, THUMB, THUMB, 3), dtype=np.uint8)
    thumbs[2099] = thumbs[3]
    found = duplicates(["a"] * 2100, [n.to_bytes(2, "big") for n in range(2100)], thumbs)
    assert found == {2099: ("near-duplicate", 3)}
