"""The promise that repeated pictures of a style go, and that what is held out was not trained on."""

from __future__ import annotations

import numpy as np

from unclip.data import filters
from unclip.data.filters import NEAR_PEAK, NEAR_RMS, THUMB, _close, seen


def duplicates(groups: list[str], hashes: list[bytes], thumbs: np.ndarray) -> dict[int, tuple[str, int]]:
    _, numbers = np.unique(groups, return_inverse=True)
    raw = np.frombuffer(b"".join(hashes), f"V{len(hashes[0])}")
    return filters.duplicates(numbers.astype(np.int64), raw, thumbs)


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


def test_the_same_pairs_are_found_as_by_comparing_everything() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (40, THUMB, THUMB, 3)).astype(np.int16)
    flat = np.full((20, THUMB, THUMB, 3), 128) + random.integers(-3, 4, (20, THUMB, THUMB, 3))
    noisy = [base + random.integers(-spread, spread + 1, base.shape) for spread in (1, 4, 5, 9)]
    thumbs = np.clip(np.concatenate([base, *noisy, flat]), 0, 255).astype(np.uint8)
    thumbs = thumbs[random.permutation(len(thumbs))]
    whole = thumbs.reshape(len(thumbs), -1).astype(np.int16)
    expected = []
    for first in range(len(whole)):
        gap = np.abs(whole - whole[first])
        near = (gap.max(axis=1) <= NEAR_PEAK) & (np.square(gap, dtype=np.float32).mean(axis=1) < NEAR_RMS**2)
        expected += [(first, int(second)) for second in np.flatnonzero(near)]
    assert list(_close(thumbs, thumbs)) == expected
    assert len(thumbs) < len(expected) < 0.5 * len(thumbs) ** 2
