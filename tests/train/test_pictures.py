"""Promises of the batches of captioned pictures that stages learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from unclip.data.corpus import Corpus
from unclip.data.described import Defaults
from unclip.data.prepare.run import build_folder
from unclip.errors import InputError
from unclip.tokenizer import BytePairTokenizer
from unclip.train.pictures import ROW, HeldOut, Pictures, PicturesConfig
from unclip.train.places import Places


def pictures(folder: Path, config: PicturesConfig, kinds: list[str]) -> Pictures:
    """Of the corpus, whose pictures are of `kinds` in turn."""
    corpus = Corpus(folder)
    column = pa.array([kinds[i % len(kinds)] for i in range(len(corpus))])
    corpus.manifest.table = corpus.records.set_column(
        corpus.records.column_names.index("subgroup"), "subgroup", column
    )
    tokenizer = BytePairTokenizer.train(["a red circle", "a blue square"], 300)
    return Pictures(corpus, config, tokenizer, context=8, size=32)


def rows(drawn: Pictures, size: int) -> list[set[str]]:
    """The kinds in each row of a batch."""
    kinds = np.array(drawn.kinds)[drawn.positions(Places.whole(size))]
    return [set(kinds[start : start + ROW].tolist()) for start in range(0, size, ROW)]


def test_hard_negatives_come_in_rows_and_the_others_as_before(corpus: Path) -> None:
    found = rows(pictures(corpus, PicturesConfig(hard_negatives=0.5), ["face", "food"]), 8 * ROW)
    assert all(len(row) == 1 for row in found[:4])
    assert set.union(*found[:4]) == {"face", "food"}
    assert all(len(row) == 2 for row in found[4:])


def test_pictures_of_no_kind_are_hard_negatives_of_none(corpus: Path) -> None:
    plain = pictures(corpus, PicturesConfig(), [""])
    rowed = pictures(corpus, PicturesConfig(hard_negatives=1.0), [""])
    drawn = [each.positions(Places.whole(64, 1)) for each in (plain, rowed)]
    assert (drawn[0] == drawn[1]).all()


@pytest.mark.parametrize("size", [ROW // 4, ROW, 3 * ROW // 2])
def test_rows_of_hard_negatives_are_of_the_whole_batch(corpus: Path, size: int) -> None:
    """A process has its share of them, and knows the kind of a row whose first picture another one has."""
    drawn = pictures(corpus, PicturesConfig(hard_negatives=0.5), ["face", "food", "", "animal"])
    total = 6 * ROW
    parts = [Places(range(first, first + size), total) for first in range(0, total, size)]
    together = np.concatenate([drawn.positions(places) for places in parts])
    assert (together == drawn.positions(Places.whole(total))).all()


def test_a_share_is_a_share() -> None:
    with pytest.raises(InputError, match=r"hard_negatives: got 1\.5, allowed is a share from 0 to 1"):
        PicturesConfig(hard_negatives=1.5)


def test_held_out_pictures_without_an_english_caption_are_judged_by_what_they_have(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for k in range(3):
        Image.new("RGB", (40, 40), (80 * k, 9, 9)).save(source / f"{k}.png")
        (source / f"{k}.txt").write_text(f"un disque {k}")
    list(build_folder(source, tmp_path / "corpus", defaults=Defaults(language="fr")))
    corpus = Corpus(tmp_path / "corpus")
    held_out = HeldOut(corpus, BytePairTokenizer.train(["un disque"], 300), 12, 32)
    assert all(names == [corpus.name(k, "fr") for k in range(3)] for names in held_out.names.values())
    assert held_out.names["en"][0].startswith("un disque ")


def test_by_concept_a_thing_in_five_skin_tones_counts_as_one(corpus: Path) -> None:
    held_out = HeldOut(Corpus(corpus), BytePairTokenizer.train(["a disc"], 300), 12, 32)
    held_out.concepts = np.array(["hand"] * 5 + ["cup"])
    found = torch.eye(6)[[0, 1, 2, 3, 4, 0]]  # the cup's name finds a hand
    assert held_out.recall(found) == pytest.approx(5 / 6)
    assert held_out.recall(found, by_concept=True) == pytest.approx(1 / 2)
    assert held_out.recall(found[4:], slice(4, 6), by_concept=True) == pytest.approx(1 / 2)
