"""Promises of scenes: what is said is where it is said, nothing held out is in any, the same each time."""

from __future__ import annotations

import hashlib
import io
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from support.packages import svg
from unclip.data import pictograms
from unclip.data import scenes as scenes_module
from unclip.data.colours import colours
from unclip.data.corpus import Corpus
from unclip.data.pictograms import build_pictograms
from unclip.data.rasterise import draw
from unclip.data.records import SCENES, Drawing, Fit, Split
from unclip.data.scene_words import COLOURS, RELATIONS, Relation
from unclip.data.scenes import (
    HUES,
    SHARES,
    boxes,
    composed,
    held_out,
    placed,
    plural,
    recoloured,
    said,
    scene,
    scenes,
    things,
)
from unclip.data.sources import SOURCES
from unclip.data.splits import is_unseen_concept
from unclip.errors import InputError
from unclip.train.pictures import PicturesConfig

WORDS = (
    "apple",
    "bear",
    "cat",
    "dog",
    "egg",
    "fox",
    "goat",
    "hat",
    "ink",
    "jar",
    "key",
    "lamp",
    "mouse",
    "nut",
)
GROUP = dict.fromkeys(WORDS, ("objects", "things"))


def drawing(word: str, style: str = "flat", colour: str = "#c02020") -> Drawing:
    captions = {"en": [word], "de": [word.upper()], "xx": [f"{word}i"], "ko": [word]}
    return Drawing(f"s/{word}", "s", style, word, captions, "MIT", "A", svg=svg(colour))


@pytest.fixture(scope="module")
def parts() -> list:
    found = things([drawing(word, style) for word in WORDS for style in ("flat", "noto")], GROUP)
    assert len(found) > 20
    return found


def pixels(document: str, size: int = 64) -> np.ndarray:
    drawn = draw(document, size, Fit.PAD)
    assert drawn.png is not None
    return np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB"))


def test_scenes_are_the_same_each_time_and_the_first_of_more(parts: list) -> None:
    few, many = list(scenes(parts, 20)), list(scenes(parts, 60))
    assert many[:20] == few
    assert len({one.key for one in many}) == 60
    assert {one.source for one in many} == {SCENES}
    relations = {one.concept.split("-")[1] for one in scenes(parts, 300)}
    assert relations == {relation.value.split()[0] for relation in SHARES}


def test_nothing_that_is_held_out_is_in_a_scene() -> None:
    words = [f"thing {chr(97 + k % 26)}{k}".replace(" ", "") for k in range(300)]
    found = things([drawing(word) for word in words], dict.fromkeys(words, ("objects", "things")))
    kept = {thing.drawing.concept for thing in found}
    assert all(not is_unseen_concept(word) for word in kept)
    assert len(kept) < len(words)
    apart = [pair for pair in combinations(sorted(kept)[:60], 2) if held_out(*pair)]
    assert 0.05 < len(apart) / (60 * 59 / 2) < 0.15
    assert held_out(*apart[0]) == held_out(*reversed(apart[0]))
    by_word = {thing.drawing.concept: thing for thing in found}
    for one, other in apart[:10]:
        for relation in (Relation.AND, Relation.LEFT, Relation.ABOVE, Relation.ON):
            assert scene(relation, by_word[one], by_word[other], Random(0), 1) is None


@pytest.mark.parametrize(("relation", "axis"), [(Relation.LEFT, 0), (Relation.ABOVE, 1)])
def test_the_first_thing_is_left_or_above(relation: Relation, axis: int) -> None:
    for seed in range(5):
        first, second = boxes(relation, Random(seed))
        assert first[axis] + first[2] <= second[axis] + 0.03
        shown = pixels(composed([svg("#d00000"), svg("#0000d0")], [first, second])).astype(int)
        reds = np.nonzero((shown[..., 0] > 150) & (shown[..., 2] < 90))
        blues = np.nonzero((shown[..., 2] > 150) & (shown[..., 0] < 90))
        assert reds[1 - axis].mean() < blues[1 - axis].mean()


def test_every_thing_lies_within_the_picture() -> None:
    for relation in Relation:
        for seed in range(20):
            for left, top, side in boxes(relation, Random(seed)):
                assert min(left, top) >= -0.01
                assert max(left, top) + side <= 1.02


def test_identifiers_of_parts_do_not_meet() -> None:
    document = '<svg viewBox="0 0 8 8"><linearGradient id="a"/><path fill="url(#a)"/><use href="#a"/></svg>'
    part = placed(document, (0, 0, 0.5), "s1-")
    assert part.count("s1-a") == 3
    assert 'viewBox="0 0 8 8"' in part
    assert 'width="64.0"' in part


@pytest.mark.parametrize("colour", HUES)
def test_a_recoloured_thing_is_of_that_colour(colour: str) -> None:
    for origin in ("#c02020", "#2040d0", "#f0d040"):
        shown = pixels(recoloured(svg(origin), colour))[None]
        assert colours(shown)[0] == colour
    grey = svg("#808080")
    assert recoloured(grey, colour) == grey


def test_a_scene_is_said_in_every_language_of_its_things(parts: list) -> None:
    one, other = parts[0], next(part for part in parts if part.drawing.concept != parts[0].drawing.concept)
    spoken = said(Relation.LEFT, [one, other])
    assert spoken["en"][0] == f"an {one.said['en']} left of a {other.said['en']}"
    assert spoken["de"][0] == f"{one.said['de']} links, {other.said['de']} rechts"
    assert "xx" not in spoken  # no phrase for it
    assert said(Relation.AND, [one, other])["xx"] == [f"{one.said['xx']} + {other.said['xx']}"]
    assert said(Relation.TWO, [one, one])["en"][0] == f"two {one.said['en']}s"
    assert said(Relation.COLOUR, [one], "orange")["en"][0] == f"an orange {one.said['en']}"


def test_templates_are_whole_in_every_language() -> None:
    assert set(RELATIONS) == set(COLOURS)
    for language, templates in RELATIONS.items():
        assert set(COLOURS[language]) == set(HUES)
        assert set(templates) >= set(Relation) - {Relation.ON}
        for relation, texts in templates.items():
            for text in texts:
                both = relation in (Relation.AND, Relation.LEFT, Relation.ABOVE, Relation.ON)
                assert ("{b}" in text) == both, text
                assert ("{c}" in text) == (relation in (Relation.GROUND, Relation.COLOUR)), text
                assert any(name in text for name in ("{a}", "{n}", "{s}")), text


def test_plurals() -> None:
    assert [plural(word) for word in ("cat", "box", "bus", "cherry", "key")] == [
        *("cats", "boxes", "buses", "cherries", "keys")
    ]


def test_a_corpus_with_scenes_trains_on_them_and_holds_out_the_same(
    archives: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes_module, "GROUPS", ("",))  # the small packages have too few things
    monkeypatch.setattr(scenes_module, "STYLES", ("flat", "noto", "twemoji", "gradient", "emojione"))
    for _ in build_pictograms(tmp_path / "out", archives=archives, size=64, large=2, scenes=12):
        pass
    corpus = Corpus(tmp_path / "out")
    sources = corpus.column("source")
    assert 0 < sources.count(SCENES) <= 12
    for split in Split:
        if split is not Split.TRAIN:
            assert Corpus(tmp_path / "out", split).column("key") == Corpus(built, split).column("key")
    weights = corpus.weights(shares={SCENES: 0.25})
    own = np.array(sources) == SCENES
    assert weights[own].sum() == pytest.approx(0.25)
    assert weights.sum() == pytest.approx(1)
    plain = corpus.weights()
    assert np.allclose(weights[~own] / weights[~own].sum(), plain[~own] / plain[~own].sum())
    assert Corpus(built).weights(shares={SCENES: 0.25}) == pytest.approx(Corpus(built).weights())


def test_a_corpus_without_scenes_is_as_it_was(archives: Path) -> None:
    digest = hashlib.blake2b(pictograms.VERSION.encode(), digest_size=16)
    for _, _, pattern in pictograms.wanted(SOURCES):
        (path,) = archives.glob(pattern)
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    assert pictograms.fingerprint(archives, SOURCES) == digest.hexdigest()  # so none is drawn anew
    others = {pictograms.fingerprint(archives, SOURCES, count) for count in (5, 6)}
    assert len(others | {digest.hexdigest()}) == 3


def test_scenes_are_a_fifth_of_a_batch_unless_a_recipe_says_otherwise() -> None:
    assert PicturesConfig().shares == {SCENES: 0.2}


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="less than 1 together"):
        PicturesConfig(shares={SCENES: 1.0})
    with pytest.raises(InputError, match="temperature: got 0"):
        PicturesConfig(temperature=0)
