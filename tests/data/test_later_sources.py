"""Promises of the sources that came later: what they give, of one version, and nothing that is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.packages import svg, write_archives, write_later_archives
from unclip.data import later_sources, pictograms
from unclip.data.build import Input, build
from unclip.data.clipart import keywords
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.emojibase import EmojiNames
from unclip.data.later_sources import LATER_SOURCES, MORE_SOURCES, flag_code
from unclip.data.outcome import reasons
from unclip.data.pictograms import build_pictograms
from unclip.data.records import Drawing, LeftOut, Split
from unclip.data.sources import SOURCES
from unclip.data.splits import UNSEEN_PAIRS, is_unseen_concept, share
from unclip.data.styles import STYLE_PHRASES
from unclip.errors import DataError

ANY_VERSION = tuple(replace(source, sha256="") for source in MORE_SOURCES)  # the small packages have others


@pytest.fixture(scope="module")
def more_archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("more-archives")
    write_archives(folder)
    write_later_archives(folder)
    return folder


@pytest.fixture(scope="module")
def drawings(more_archives: Path, names: EmojiNames) -> dict[str, Drawing]:
    later = [source for source in MORE_SOURCES if source.train_only or source.name == "openclipart"]
    return {one.key: one for source in later for one in source.drawings(more_archives, names)}


@pytest.fixture(scope="module")
def more(more_archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "more"
    for _ in build_pictograms(out, archives=more_archives, size=64, large=2, sources=ANY_VERSION):
        pass
    return out


def test_every_later_source_gives_svg_with_a_licence_and_a_style_that_is_said(
    drawings: dict[str, Drawing],
) -> None:
    assert {one.source for one in drawings.values()} == {source.name for source in LATER_SOURCES} | {
        "openclipart"
    }
    for one in drawings.values():
        assert one.svg
        assert one.licence
        assert one.author
        assert one.style in STYLE_PHRASES


def test_brands_and_copies_in_two_colours_are_left_out(drawings: dict[str, Drawing]) -> None:
    own = {key for key in drawings if key.startswith(("coloured-icons/", "kameleon/"))}
    assert own == {
        *("coloured-icons/rocket", "coloured-icons/tool-box", "coloured-icons/logout-door"),
        *("kameleon/bomb", "kameleon/bank"),
    }


def test_a_disc_stays_where_one_would_see_nothing_without_it(drawings: dict[str, Drawing]) -> None:
    assert "#fabc3d" not in str(drawings["kameleon/bomb"].svg)
    assert "#fabc3d" in str(drawings["kameleon/bank"].svg)


def test_of_an_icon_in_many_sizes_the_largest_is_taken(drawings: dict[str, Drawing]) -> None:
    book = drawings["fluent-color/book"]
    assert "#36d" in str(book.svg)
    assert book.captions == {"en": ["book"]}


def test_flags_are_those_of_emoji_with_their_names(drawings: dict[str, Drawing]) -> None:
    keys = {key for key in drawings if "flag" in key}
    assert keys == {"circle-flags/jp", "flag-icons/jp-4x3", "flagpack/jp", "coreui-flags/jp"}
    assert drawings["circle-flags/jp"].captions["de"][0] == "Flagge: Japan"
    assert flag_code("gb-sct") == "1f3f4-e0067-e0062-e0073-e0063-e0074-e007f"
    assert flag_code("us-ca") == "0"


def test_signs_are_called_by_their_names_and_filled(drawings: dict[str, Drawing]) -> None:
    sign = drawings["signs-flex/pie-chart"]
    assert sign.captions == {"en": ["pie chart"]}
    assert "#2859c5" in str(sign.svg)
    assert {source.name for source in LATER_SOURCES if source.style == sign.style} == set(later_sources.SIGNS)


def test_clip_art_as_svg_is_called_as_before_and_has_its_keywords(
    drawings: dict[str, Drawing], more_archives: Path, names: EmojiNames
) -> None:
    png = next(source for source in SOURCES if source.name == "openclipart")
    before = {one.key: one for one in png.drawings(more_archives, names)}
    one = drawings["openclipart/transportation/rocket_benji_park_01"]
    old = before[one.key]
    assert (one.concept, one.style, one.captions["en"][0]) == (old.concept, old.style, old.captions["en"][0])
    assert "space" in one.captions["en"]


def test_keywords_are_known_words_that_say_something() -> None:
    text = "<rdf:li>hash</rdf:li><rdf:li>Sea_Food</rdf:li><rdf:li>qqq</rdf:li><rdf:li>food</rdf:li>"
    assert keywords(text, frozenset({"sea", "food", "hash"})) == ["sea food", "food"]


def test_packages_are_of_one_version_with_one_hash(more_archives: Path, tmp_path: Path) -> None:
    later = [source for source in MORE_SOURCES if source.train_only or source.name == "openclipart"]
    for source in later:
        version = (
            source.fetch[1].rpartition("=" if source.fetch[0] == "apt-get" else "@")[2].rpartition(":")[2]
        )
        assert version in source.pattern
        assert len(source.sha256) == 64
    with pytest.raises(DataError, match="has the SHA-256 .* fetch it again"):
        next(build_pictograms(tmp_path / "out", archives=more_archives, sources=MORE_SOURCES))


def test_without_the_later_sources_the_corpus_is_as_it_was(archives: Path, more_archives: Path) -> None:
    assert pictograms.fingerprint(archives, SOURCES) == pictograms.fingerprint(more_archives, SOURCES)
    assert pictograms.fingerprint(more_archives, ANY_VERSION) != pictograms.fingerprint(archives, SOURCES)
    assert [source.name for source in MORE_SOURCES[: len(SOURCES)]] == [source.name for source in SOURCES]


def test_the_held_out_pictures_stay_the_same_with_the_later_sources(built: Path, more: Path) -> None:
    for split in Split:
        if split is not Split.TRAIN:
            old, new = Corpus(built, split), Corpus(more, split)
            assert new.column("key") == old.column("key")
            assert new.column("concept") == old.column("concept")
    train = Corpus(more)
    assert {source.name for source in LATER_SOURCES} & set(train.column("source"))
    assert not [source for source in train.column("source") if source.startswith("openmoji")]


def test_no_concept_of_the_held_out_splits_comes_in_by_a_later_source(more: Path) -> None:
    whole = Corpus(more, EVERYTHING)
    later = {source.name for source in LATER_SOURCES}
    held_out = set(Corpus(more, Split.UNSEEN_CONCEPTS).column("concept"))
    pairs = Corpus(more, Split.UNSEEN_PAIRS)
    held_out_pairs = set(zip(pairs.column("concept"), pairs.column("style"), strict=True))
    rows = zip(*(whole.column(name) for name in ("source", "concept", "style", "split")), strict=True)
    for source, concept, style, split in rows:
        if source in later:
            assert split == Split.TRAIN
            assert not is_unseen_concept(concept)
            assert concept not in held_out
            assert (concept, style) not in held_out_pairs


def one(key: str, source: str, concept: str, style: str, shape: int, name: str = "") -> Drawing:
    captions = {"en": [name or concept]}
    return Drawing(key, source, style, concept, captions, "MIT", "A", svg=svg("#c02020", shape))


def words() -> Iterator[str]:
    return (f"thing{number}" for number in range(10_000))


def test_what_is_held_out_is_left_out_of_sources_that_are_all_trained_on(tmp_path: Path) -> None:
    unseen = next(word for word in words() if is_unseen_concept(word))
    seen = next(word for word in words() if not is_unseen_concept(word) and share("pair", word, "a") > 0.5)
    pair = next(
        word
        for word in words()
        if not is_unseen_concept(word) and share("pair", word, "a") < UNSEEN_PAIRS < share("pair", word, "b")
    )
    lone = next(
        word
        for word in words()
        if word != pair and not is_unseen_concept(word) and share("pair", word, "a") < UNSEEN_PAIRS
    )
    old = [
        one("old/unseen", "old", unseen, "a", 0),
        one("old/seen", "old", seen, "a", 2),
        one("old/pair", "old", pair, "a", 4),
        one("old/pair-b", "old", pair, "b", 6),
        one("old/lone", "old", lone, "a", 8),  # held out if it had another style: it keeps its split
    ]
    new = [
        one("new/unseen", "new", unseen, "c", 9),
        one("new/pair", "new", pair, "a", 10),
        one("new/named", "new", "little-one", "c", 11, f"little {unseen}"),
        one("new/twin", "new", "twin", "c", 0),
        one("new/lone", "new", lone, "c", 12),
        one("new/fine", "new", "fine", "c", 13),
    ]

    def split_of(out: Path, inputs: list[Input]) -> dict[str, str]:
        for _ in build(out, inputs, size=64, fingerprint="x", title="T"):
            pass
        whole = Corpus(out, EVERYTHING)
        return dict(zip(whole.column("key"), whole.column("split"), strict=True))

    before = split_of(tmp_path / "before", [Input("old", lambda: old)])
    after = split_of(
        tmp_path / "after", [Input("old", lambda: old), Input("new", lambda: new, train_only=True)]
    )
    assert set(before.values()) == {Split.TRAIN, Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS}
    assert {key: split for key, split in after.items() if key.startswith("old/")} == before
    assert {key: split for key, split in after.items() if key.startswith("new/")} == {
        "new/lone": Split.TRAIN,
        "new/fine": Split.TRAIN,
    }
    told = (tmp_path / "after" / "dropped.jsonl").read_text()
    for text in (
        "the concept is held out",
        "held out in this style",
        "shows what old/unseen shows",
        "the same as old/unseen",
    ):
        assert text in told
    assert list(reasons([LeftOut("new", "new/twin", "held out")])) == ["1 held out (new/twin)"]
