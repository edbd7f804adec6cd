"""Promises of a packed corpus: the same pictures and captions, within its limit, read without pyarrow."""

from __future__ import annotations

import lzma
from pathlib import Path
from random import Random

import numpy as np
import pytest

from unclip.data import packing
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.packed import PICTURES
from unclip.data.packing import cut, join, pack
from unclip.data.records import PACKED_FILE, Split
from unclip.errors import DataError, InputError

SIDE = 32


def plain(corpus: Corpus) -> np.ndarray:
    return corpus.weights()


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "pack"
    assert pack(built, out, side=SIDE, limit=10**6, weights=plain) == (len(Corpus(built)),) * 2
    return out


def test_a_packed_corpus_has_the_pictures_and_captions_of_its_corpus(built: Path, packed: Path) -> None:
    for split in (Split.TRAIN, Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS):
        old, new = Corpus(built, split), Corpus(packed, split)
        new.check_files()
        assert len(old) == len(new)
        assert np.array_equal(old.pixels(SIDE), new.pixels(SIDE))
        for name in ("key", "concept", "style", "source", "licence", "author", "group", "captions", "names"):
            assert new.column(name) == old.column(name)
        assert np.array_equal(new.weights(), old.weights()) or not len(new)
        for index in range(len(old)):
            assert new.caption(index, Random(index)) == old.caption(index, Random(index))
    assert len(Corpus(packed, Split.UNSEEN_STYLES)) == 0
    assert len(Corpus(packed, EVERYTHING).fingerprint) == 64
    assert len(Corpus(packed).large()) == 0
    assert Corpus(packed).image(0).size == (SIDE, SIDE)


def test_a_packed_corpus_keeps_to_its_limit_and_to_what_is_drawn_first(
    built: Path, packed: Path, tmp_path: Path
) -> None:
    whole = sum(path.stat().st_size for path in packed.iterdir() if path.is_file())
    limit = whole * 3 // 4
    taken, there = pack(built, tmp_path / "small", side=SIDE, limit=limit, weights=plain)
    assert 0 < taken < there
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir() if path.is_file()) <= limit
    few, all_of_them = Corpus(tmp_path / "small").column("key"), Corpus(packed).column("key")
    assert [key for key in all_of_them if key in few] == few
    assert Corpus(tmp_path / "small", Split.UNSEEN_PAIRS).column("key") == Corpus(
        packed, Split.UNSEEN_PAIRS
    ).column("key")
    with pytest.raises(InputError, match="do not even hold the held-out"):
        pack(built, tmp_path / "none", side=SIDE, limit=10, weights=plain)
    with pytest.raises(InputError, match="is not empty"):
        pack(built, packed, side=SIDE, limit=10**6, weights=plain)


def test_pictures_of_no_weight_stay_out(built: Path, tmp_path: Path) -> None:
    pack(
        built, tmp_path / "out", side=SIDE, limit=10**6,
        weights=lambda corpus: corpus.weights({"noto": 0.0}),
    )  # fmt: skip
    assert "noto" not in Corpus(tmp_path / "out").column("source")


def test_a_packed_corpus_is_not_blown_up(packed: Path) -> None:
    with pytest.raises(InputError, match="packed at 32 px"):
        Corpus(packed).pixels(64)
    with pytest.raises(DataError, match="is a packed corpus"):
        _ = Corpus(packed).records


def test_a_damaged_packed_corpus_is_refused(packed: Path, tmp_path: Path) -> None:
    for content in (b"nothing", lzma.compress(b"[]"), lzma.compress(b'{"format": 99}')):
        (tmp_path / PACKED_FILE).write_bytes(content)
        with pytest.raises(DataError, match="pack"):
            Corpus(tmp_path)
    (tmp_path / PACKED_FILE).write_bytes((packed / PACKED_FILE).read_bytes())
    (tmp_path / PICTURES).write_bytes((packed / PICTURES).read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged or missing"):
        Corpus(tmp_path, EVERYTHING).check_files()


def test_what_is_cut_is_joined_to_the_same(tmp_path: Path) -> None:
    file, content = tmp_path / "a.bin", bytes(range(256)) * 5
    file.write_bytes(content)
    assert [path.stat().st_size for path in cut(file, 500)] == [500, 500, 280]
    assert not file.exists()
    assert join(tmp_path) == [file]
    assert file.read_bytes() == content
    assert cut(file, 10**6) == [file]
    assert packing.PART in "a.bin.part-00"
