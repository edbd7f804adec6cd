"""Promises of faces: every part is said, what is said is there, nothing held out is in any."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from support.packages import svg, tar_bytes, write_archives, write_later_archives
from unclip.data import pictograms
from unclip.data.captions import with_article
from unclip.data.corpus import Corpus
from unclip.data.face_words import FACE_WORDS, WEARING, Term
from unclip.data.faces import FACE_KITS, HAIR_COLOURS, Parts, Worn, faces, of_parts, read_kit, spoken, wearing
from unclip.data.pictograms import build_pictograms
from unclip.data.records import FACES, Drawing, Split
from unclip.data.scene_words import COLOURS, RELATIONS
from unclip.data.scenes import HUES, Thing, held_out
from unclip.data.splits import is_unseen_concept
from unclip.data.styles import STYLE_PHRASES
from unclip.errors import DataError
from unclip.train.statements import PICTOGRAMS, corpus_name

EMOJI = {"u1f600": "grinning face", "u1f3a9": "top hat", "u1f453": "glasses", "u1f34e": "red apple"}


@pytest.fixture(scope="module")
def archives_of_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces-archives")
    write_archives(folder)
    write_later_archives(folder)
    return folder


@pytest.fixture(scope="module")
def kits(archives_of_faces: Path) -> list[Parts]:
    return [read_kit(kit, archives_of_faces) for kit in FACE_KITS]


@pytest.fixture(scope="module")
def worn() -> Worn:
    return Worn(
        Drawing(f"s/{concept}", "s", "flat", concept, {"en": [name], "de": [name]}, "MIT", "A", svg=svg())
        for concept, name in EMOJI.items()
    )


def test_faces_are_the_same_each_time_and_the_first_of_more(kits: list[Parts], worn: Worn) -> None:
    few, many = list(faces(kits, worn, 20)), list(faces(kits, worn, 120))
    assert many[:20] == few
    assert len({one.concept for one in many}) == len({one.key for one in many}) == 120
    assert {one.source for one in many} == {FACES}
    assert {one.style for one in many} == {"flat", *(kit.style for kit in FACE_KITS)} - (
        {"flat"} if all(held_out("u1f600", other) for other in ("u1f3a9", "u1f453")) else set()
    )
    assert not any(is_unseen_concept(one.concept) for one in many)


def test_faces_are_said_in_every_language_that_scenes_are(kits: list[Parts]) -> None:
    assert set(FACE_WORDS) == set(RELATIONS)
    assert set(WEARING) <= set(FACE_WORDS)
    for say in FACE_WORDS.values():
        assert set(say.words) == set(Term)
        assert all(say.words.values())
    for kit in kits:
        assert set(of_parts(kit, Random(0), 1).captions) == set(FACE_WORDS)
        assert kit.kit.style in STYLE_PHRASES
        assert kit.licence == "CC-BY-4.0"


def test_a_face_is_said_with_all_its_parts() -> None:
    parts = [Term.SHORT, Term.GLASSES, Term.SHIRT]
    said = {
        language: spoken(Term.SMILING, parts, language, {Term.SHIRT: "red"}, Term.BROWN)
        for language in FACE_WORDS
    }
    assert said["en"] == "smiling face with short brown hair, glasses and a red shirt"
    assert said["de"] == "lächelndes Gesicht, kurze Haare, braune Haare, Brille, Hemd in Rot"
    assert said["ja"] == "短い髪、茶色い髪、メガネ、赤のシャツの笑顔"
    for language, text in said.items():
        words = FACE_WORDS[language].words
        assert COLOURS[language]["red"] in text
        if language != "en":
            assert all(words[term] in text for term in (*parts, Term.SMILING, Term.BROWN))
    assert spoken(Term.FACE, [Term.CAP], "en", {Term.CAP: "orange"}, None) == "face with an orange cap"
    assert spoken(Term.SAD, [Term.BUN], "en", {}, Term.RED) == "sad face with a red bun"
    assert with_article(said["en"]) == f"a {said['en']}"


def test_a_hat_has_the_colour_that_is_said_and_hair_too(kits: list[Parts]) -> None:
    (kit,) = (kit for kit in kits if Term.CAP in kit.kit.hair)
    chosen = {"hair": "cap", "mouth": "smile", "eyes": "open", "body": "rounded", "nose": "smallRound"}
    fills = {"hair": "#123456", "skin": "#aa8866", "clothing": "#00ff00"}
    assert "#123456" in kit.drawn(chosen, fills)
    assert kit.drawn(chosen, fills) == kit.drawn(chosen, fills, hat="")
    for number in range(200):
        one = of_parts(kit, Random(number), number)
        english = one.captions["en"][0]
        assert one.captions["en"][1] == f"{'an' if english[0] in 'aeiou' else 'a'} {english}"
        for term, fill in HAIR_COLOURS.items():
            if f" {term.value.removesuffix(' hair')} hair" in english:
                assert fill in str(one.svg)
        if "cap" in english or "woolly hat" in english:
            assert any(colour in english for colour in HUES)


def test_nothing_hides_what_is_said(kits: list[Parts]) -> None:
    for kit in kits:
        for number in range(200):
            english = of_parts(kit, Random(number), number).captions["en"][0]
            assert not ("glasses" in english and ("winking" in english or "sleeping" in english))
            assert sum(word in english for word in ("cat ears", "red nose", "face mask", "glasses")) <= 1


def test_a_hat_lies_above_the_face_and_glasses_on_it(worn: Worn) -> None:
    made = [one for number in range(60) if (one := worn.face(Random(number), number)) is not None]
    assert made
    for one in made:
        text = one.captions["en"][0]
        assert ("hat" in text) == ("u1f3a9" in one.concept)
        assert ("glasses" in text) == ("u1f453" in one.concept)
        assert str(one.svg).count("<svg") == 3 + ("hat" in text and "glasses" in text)
        assert "u1f34e" not in one.concept


def test_faces_that_wear_something_are_said_in_the_languages_of_all_parts() -> None:
    def thing(concept: str, name: str, *languages: str) -> Thing:
        captions = {language: [name] for language in languages}
        return Thing(
            Drawing("k", "s", "flat", concept, captions, "MIT", "A", svg=svg()),
            dict.fromkeys(languages, name),
        )

    face, hat = thing("u1f600", "grinning face", "en", "de", "cs"), thing("u1f3a9", "top hat", "en", "cs")
    said = wearing(face, [hat], "", Random(0))
    assert said["en"][:2] == ["a grinning face with a top hat", "a grinning face wearing a top hat"]
    assert set(said) == {"en", "cs"}
    assert said["cs"] == ["grinning face, top hat"]
    red = wearing(face, [hat], "red", Random(0))
    assert red["en"][0] == "a grinning face with a red top hat"
    tongue = thing("u1f61b", "face with tongue", "en")
    assert wearing(tongue, [hat], "", Random(0))["en"][0] == "a face with tongue wearing a top hat"


def test_held_out_pairs_of_faces_and_hats_are_in_none(worn: Worn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unclip.data.faces.held_out", lambda first, second: True)
    assert all(worn.face(Random(number), number) is None for number in range(40))


def test_a_package_of_other_parts_is_refused(tmp_path: Path) -> None:
    kit = FACE_KITS[0]
    (tmp_path / kit.pattern).write_bytes(tar_bytes({"package/lib/index.js": b"export const create = 1;"}))
    with pytest.raises(DataError, match="lacks parts of faces.*fetch it again"):
        read_kit(kit, tmp_path)


def test_a_corpus_with_faces_trains_on_them_and_holds_out_the_same(
    archives_of_faces: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictograms, "_check_hashes", lambda archives, packages: None)
    out = tmp_path / "out"
    for _ in build_pictograms(out, archives=archives_of_faces, size=64, large=2, faces=10):
        pass
    corpus = Corpus(out)
    assert 0 < corpus.column("source").count(FACES) <= 10
    for split in Split:
        if split is not Split.TRAIN:
            assert Corpus(out, split).column("key") == Corpus(built, split).column("key")
    assert corpus_name(corpus) == PICTOGRAMS


def test_a_corpus_without_faces_needs_no_packages_of_them(archives: Path, archives_of_faces: Path) -> None:
    plain = pictograms.fingerprint(archives, pictograms.SOURCES)
    assert plain == pictograms.fingerprint(archives_of_faces, pictograms.SOURCES, faces=0)
    with_faces = (*pictograms.SOURCES, *FACE_KITS)
    assert len({pictograms.fingerprint(archives_of_faces, with_faces, faces=count) for count in (1, 2)}) == 2
