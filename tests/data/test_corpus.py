"""The promise that a corpus opens by its folder, and that pictures, captions and weights belong together."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from support.packages import ellipse, svg
from unclip.data.build import Input, build
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.records import Drawing, Split
from unclip.errors import DataError, InputError


@pytest.fixture
def toned(tmp_path: Path) -> Path:
    """A rocket in two styles and a hand in five tones and one source more."""
    values: dict[str, Any] = {"licence": "MIT", "author": "", "captions": {"en": ["thing"]}}
    drawings = [
        Drawing(f"h{n}", "s", "flat", "hand", svg=svg(shape=n), tone=n + 1, **values) for n in range(5)
    ]
    drawings.append(Drawing("r", "s", "flat", "rocket", svg=svg("#00f"), **values))
    drawings.append(Drawing("q", "t", "flat", "tree", bitmap=ellipse(), **values))
    for _ in build(tmp_path / "c", [Input("s", lambda: drawings)], size=64, fingerprint="", title=""):
        pass
    return tmp_path / "c"


@pytest.mark.parametrize("split", list(Split))
def test_each_split_opens(built: Path, split: Split) -> None:
    corpus = Corpus(built, split)
    assert set(corpus.records["split"].to_pylist()) <= {split}
    assert len(corpus) == len(corpus.pixels(16)) == len(corpus.weights())


def test_everything_is_all_splits_together(built: Path) -> None:
    parts = [Corpus(built, split) for split in Split]
    everything = Corpus(built, EVERYTHING)
    assert len(everything) == sum(len(part) for part in parts) > len(Corpus(built))
    keys = [key for part in parts for key in part.records["key"].to_pylist()]
    assert sorted(everything.records["key"].to_pylist()) == sorted(keys)
    pixels = everything.pixels(16)
    for part in parts:
        for key, picture in zip(part.records["key"].to_pylist(), part.pixels(16), strict=True):
            assert (pixels[everything.records["key"].to_pylist().index(key)] == picture).all()


def test_pixels_are_the_pictures_in_the_order_of_the_records(built: Path) -> None:
    corpus = Corpus(built)
    pixels = corpus.pixels(64)
    assert isinstance(pixels, np.memmap)
    assert pixels.dtype == np.uint8
    for index in range(len(corpus)):
        assert (pixels[index] == np.asarray(corpus.image(index))).all()


def test_smaller_pixels_are_averages(built: Path) -> None:
    corpus = Corpus(built)
    small, large = corpus.pixels(16), corpus.pixels(64)
    assert np.abs(small.mean(axis=(1, 2)) - large.mean(axis=(1, 2))).max() < 3


def test_pixels_are_built_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Corpus(built).pixels(16)
    monkeypatch.setattr(Corpus, "_build_pixels", lambda *_: pytest.fail("built again"))
    Corpus(built).pixels(16)


def test_a_stopped_cache_leaves_nothing(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))
    corpus = Corpus(copy)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "_read", stop)
    with pytest.raises(KeyboardInterrupt):
        corpus.pixels(16)
    assert list((copy / "cache").iterdir()) == []


def test_captions_belong_to_their_picture(built: Path) -> None:
    corpus = Corpus(built)
    keys = corpus.records["key"].to_pylist()
    index = keys.index("noto/red-apple")
    assert corpus.captions(index)["ko"] == ["빨간 사과", "과일"]
    assert corpus.names(index) == ["red apple"]
    assert corpus.names(index, "ko") == ["빨간 사과"]
    assert corpus.names(index, "sw") == []
    random = Random(0)
    texts = {corpus.caption(index, random, {"ko": 1.0}) for _ in range(50)}
    assert "빨간 사과" in texts
    assert corpus.caption(index, Random(3)) == corpus.caption(index, Random(3))


def test_variants_share_the_weight_of_one(toned: Path) -> None:
    corpus = Corpus(toned)
    weights = dict(zip(corpus.records["key"].to_pylist(), corpus.weights(), strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert (
        sum(weights[f"h{n}"] for n in range(5)) == pytest.approx(weights["r"]) == pytest.approx(weights["q"])
    )
    doubled = dict(zip(corpus.records["key"].to_pylist(), corpus.weights({"t": 2.0}), strict=True))
    assert doubled["q"] == pytest.approx(2 * doubled["r"])


def test_a_weight_for_a_source_that_is_not_there_is_refused(toned: Path) -> None:
    with pytest.raises(InputError, match=r"unknown source 'u': choose s, t"):
        Corpus(toned).weights({"t": 2.0, "u": 1.0})
    assert np.array_equal(Corpus(toned).weights({"u": 9.0}), Corpus(toned).weights())  # of another corpus


def test_a_kind_of_emoji_is_drawn_more_often(built: Path) -> None:
    corpus = Corpus(built)
    groups, subgroups = (corpus.records[name].to_numpy() for name in ("group", "subgroup"))
    group = next(name for name in groups if name)
    subgroup = next(name for name in subgroups[groups == group] if name)
    plain, weighted = corpus.weights(), corpus.weights(None, {group: 3.0, subgroup: 2.0})
    factor = np.where(groups == group, 3, 1) * np.where(subgroups == subgroup, 2, 1)
    assert np.allclose(weighted, plain * factor / (plain * factor).sum())
    with pytest.raises(InputError, match=r"unknown kind 'smileys': choose .*"):
        corpus.weights(None, {group: 3.0, "smileys": 2.0})
    assert np.array_equal(corpus.weights(None, {"smileys": 2.0}), plain)  # of another corpus


def test_small_bitmaps_can_be_left_out(toned: Path) -> None:
    corpus = Corpus(toned)
    keys = corpus.records["key"].to_pylist()
    assert "q" not in {keys[index] for index in corpus.at_least(256)}
    assert {keys[index] for index in corpus.at_least(80)} == set(keys)


def test_large_pictures_are_the_same_pictures(built: Path) -> None:
    corpus = Corpus(built)
    assert len(corpus.large()) == 2
    for index in corpus.large():
        large = corpus.large_image(int(index))
        assert large.size == (1024, 1024)
        reduced = np.asarray(large.resize((64, 64)), dtype=int)
        assert np.abs(reduced - np.asarray(corpus.image(int(index)), dtype=int)).mean() < 3
    plain = next(index for index in range(len(corpus)) if index not in corpus.large())
    with pytest.raises(InputError, match="no large rendering"):
        corpus.large_image(plain)


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no corpus.*unclip data"):
        Corpus(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        Corpus(tmp_path)


def test_an_unknown_split_is_named(built: Path) -> None:
    with pytest.raises(InputError, match="unknown split 'test': choose train"):
        Corpus(built, "test")


def test_a_missing_or_cut_off_shard_is_named(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))
    shard = copy / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match=r"train-00000\.tar is damaged"):
        Corpus(copy).pixels(16)
    shard.unlink()
    with pytest.raises(DataError, match=r"train-00000\.tar is damaged or missing"):
        Corpus(copy).image(0)
