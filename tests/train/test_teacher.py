"""Promises of the teacher of language: where its words stand, how they are drawn, what the loss asks for."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unclip import recipes
from unclip.data.corpus import Corpus
from unclip.errors import DataError, InputError, TrainingError
from unclip.models.clip_loss import text_keys
from unclip.native import load_model
from unclip.tokenizer import BytePairTokenizer
from unclip.train import teacher
from unclip.train.log import read_metrics
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.teacher import (
    Likeness,
    Said,
    Teacher,
    TeacherConfig,
    Words,
    agreed,
    among_pictures,
    centred,
    cosine_loss,
    directions,
    projected,
    relations_loss,
)

THINGS = ("circle", "square", "stripe", "star", "moon", "tree")


def words(count: int = 6, width: int = 12) -> Words:
    """Each thing in two languages: a direction of its own and one of the language, which is longer."""
    draw = np.random.default_rng(0)
    thing, tongue = draw.normal(size=(count, width)), 5 * draw.normal(size=(2, width))
    said = [Said(code, f"{THINGS[k]}-{code}") for code in ("en", "xx") for k in range(count)]
    vectors = np.concatenate([thing + tongue[0], thing + tongue[1]])
    return Words(said, vectors.astype(np.float16), [*THINGS[:count]] * 2)


@pytest.fixture(scope="session")
def taught(corpus: Path) -> Path:
    """The corpus of shapes with a teacher's file in it."""
    words().save(corpus / teacher.TEACHER_FILE)
    return corpus


def test_a_file_gives_back_the_words_that_were_saved(tmp_path: Path) -> None:
    words().save(tmp_path / "words.parquet")
    found = Words.load(tmp_path / "words.parquet")
    assert found.said == words().said
    assert np.array_equal(found.vectors, words().vectors)
    assert found.vectors.dtype == np.float16
    assert found.meanings == words().meanings


def test_words_are_added_once() -> None:
    whole = words()
    more = whole.with_more([Said("en", "circle-en"), Said("de", "Kreis")], np.ones((2, 12)))
    assert [one.text for one in more.said[12:]] == ["Kreis"]
    assert more.meanings == [*whole.meanings, ""]
    assert len(more.vectors) == 13
    assert whole.with_more(whole.said, whole.vectors) is whole
    assert Words.none().with_more(whole.said, whole.vectors).said == whole.said


def test_a_file_that_is_missing_or_of_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there: `python tools/teacher_words\.py`.*teacher=null"):
        Words.load(tmp_path / "words.parquet")
    (tmp_path / "words.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="holds no words of a teacher"):
        Words.load(tmp_path / "words.parquet")


def test_centred_by_language_a_word_is_nearest_to_its_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each language has words enough; few words share one middle, which does not tell them apart."""
    few = centred(words())
    assert (few[:6] @ few[6:].T).max() < 0  # the two languages lie on two sides
    monkeypatch.setattr(teacher, "FEW", 1)
    found = centred(words())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert (found[:6] @ found[6:].T).argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5]


def test_translations_stand_where_they_agree_and_a_word_of_no_known_meaning_at_its_own() -> None:
    vectors = centred(words())
    meanings = [*words().meanings[:-1], ""]
    found = agreed(vectors, meanings)
    between = vectors[0] + vectors[6]
    np.testing.assert_allclose(found[0], between / np.linalg.norm(between), rtol=1e-4)
    assert np.array_equal(found[0], found[6])
    assert np.array_equal(found[11], vectors[11])
    np.testing.assert_allclose(found[5], vectors[5], rtol=1e-5)  # its translation is gone


@pytest.mark.parametrize("width", [4, 12, 16])
def test_projected_vectors_are_the_principal_components(width: int) -> None:
    vectors = centred(words())
    found = projected(vectors, width)
    assert found.shape == (12, width)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    if width >= 12:  # a rotation: all angles stay
        np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-5)
    assert np.array_equal(found, projected(vectors.copy(), width))
    spread = np.square(found).sum(axis=0)
    assert spread[0] == spread.max()


def tiny_teacher(**settings: object) -> Teacher:
    config = TeacherConfig(**settings)  # type: ignore[arg-type]
    tokenizer = BytePairTokenizer.train([one.text for one in words().said], 300)
    targets = projected(directions(words()), 8)
    return Teacher(words(), targets, config, tokenizer, 24)


def test_a_word_is_a_function_of_its_place_and_comes_with_its_own_target() -> None:
    own = tiny_teacher(words=3)
    whole = own.lesson(Places.whole(8, seed=1, step=2))
    assert len(whole.tokens.ids) == len(whole.targets) == 24
    half = own.lesson(Places(range(4, 8), 8, 1, 2))
    assert torch.equal(half.targets, whole.targets[12:])
    every = own.tokenizer.batch([one.text for one in own.words.said], own.context)
    keys = text_keys(every.ids, every.mask).tolist()
    drawn = text_keys(whole.tokens.ids, whole.tokens.mask).tolist()
    assert torch.equal(whole.targets, own.targets[[keys.index(key) for key in drawn]])
    assert len(set(drawn)) > 6


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.0833), (2.0, 0.2317)])
def test_languages_come_by_their_shares_and_temperature(temperature: float, expected: float) -> None:
    """English .55 and one other .05: the other has .0833, and of the square roots .2317."""
    own = tiny_teacher(temperature=temperature)
    share = own.weights / own.weights.sum()
    other = float(share[6:].sum())
    assert other == pytest.approx(expected, abs=1e-3)
    assert torch.allclose(share[:6], share[0])


def test_the_cosine_loss_is_nothing_at_the_target_and_two_at_its_opposite() -> None:
    targets = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert float(cosine_loss(3 * targets, targets)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_loss(-targets, targets)) == pytest.approx(2, abs=1e-6)


def test_the_relations_loss_is_nothing_where_all_is_turned_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    targets = F.normalize(torch.randn(6, 8, generator=draw), dim=1)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=draw))[0]
    assert float(relations_loss(2 * targets @ turn, targets)) == pytest.approx(0, abs=1e-5)
    other = torch.randn(6, 8, generator=draw, requires_grad=True)
    loss = relations_loss(other, targets)
    assert float(loss.detach()) > 0.1
    loss.backward()
    assert other.grad is not None
    assert bool(other.grad.isfinite().all())


def test_the_relations_loss_is_the_relative_entropy_of_the_shares() -> None:
    draw = torch.Generator().manual_seed(1)
    texts, targets = torch.randn(4, 8, generator=draw), torch.randn(4, 8, generator=draw)
    expected = 0.0
    for row in range(4):
        others = [k for k in range(4) if k != row]
        p, q = (
            torch.stack([10 * F.cosine_similarity(x[row], x[k], dim=0) for k in others]).softmax(0)
            for x in (targets, texts)
        )
        expected += float((p * (p / q).log()).sum()) / 4
    assert float(relations_loss(texts, targets)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"weight": 0.0}, "teacher = null"),
        ({"words": 0}, "1 or more"),
        ({"temperature": 0.0}, "above 0"),
        ({"languages": {"en": -1.0}}, "not usable"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        TeacherConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("likeness", [Likeness.COSINE, Likeness.RELATIONS])
def test_clip_learns_where_the_teacher_has_its_words(
    likeness: Likeness, taught: Path, recipe: Path, tmp_path: Path
) -> None:
    """The teacher's loss falls, unseen words included, and nothing of it is in the weights' file."""
    settings = [
        f"clip.task.teacher={{likeness='{likeness}', weight=5.0, words=2}}",
        *("clip.train.steps=60", "clip.train.learning_rate=1e-2", "clip.train.warmup=0", "clip.train.ema=[]"),
        *("clip.train.log_steps=10", "clip.train.evaluate_steps=0", "clip.train.preview_steps=0"),
    ]
    own = tmp_path / "own.toml"
    own.write_text(recipe.read_text() + "\n[clip.task]\ncontrast = 'clip'\n")
    Run(recipes.load(own, settings), taught, tmp_path / "run", torch.device("cpu")).go("clip")
    lines = [line for line in read_metrics(tmp_path / "run" / "clip") if line["kind"] == "train"]
    losses = [line["parts"]["teacher"] for line in lines]
    assert losses[-1] < 0.5 * losses[0]
    assert lines[-1]["loss"] == pytest.approx(
        lines[-1]["parts"]["contrast"] + 5 * lines[-1]["parts"]["teacher"], rel=1e-4
    )
    plain = load_model(tmp_path / "run/clip/final/raw.safetensors")
    assert Counter(name.split(".")[0] for name in plain.state_dict()).keys() == {
        "visual",
        "text",
        "logit_scale",
    }


def test_a_run_whose_words_are_others_by_now_is_stale_and_one_without_them_is_refused(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """Before anything is trained."""
    own, data = tmp_path / "own.toml", tmp_path / "corpus"
    own.write_text(recipe.read_text() + "\n[clip.task]\nteacher = { weight = 1.0 }\n")
    shutil.copytree(corpus, data)
    words(5).save(data / teacher.TEACHER_FILE)
    run = Run(recipes.load(own), data, tmp_path / "run", torch.device("cpu"))
    run.go("clip")
    assert "done" in run.check("clip")
    words().save(data / teacher.TEACHER_FILE)
    with pytest.raises(TrainingError, match=r"clip \(teacher\.words: was"):
        run.check("clip")
    (data / teacher.TEACHER_FILE).unlink()
    with pytest.raises(DataError, match="is not there"):
        run.check("clip")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("locked = true\nteacher = { weight = 1.0 }", "'cosine' with locked True"),
        ("teacher = { likeness = 'pictures' }", "'pictures' with locked False"),
    ],
)
def test_words_are_taught_among_pictures_where_the_image_encoder_is_locked_and_only_there(
    recipe: Path, corpus: Path, tmp_path: Path, task: str, said: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(recipe.read_text() + f"\n[clip.task]\n{task}\n")
    with pytest.raises(InputError, match=said):
        Run(recipes.load(own), corpus, tmp_path / "run", torch.device("cpu")).check("clip")


def test_a_word_stands_where_pictures_of_its_like_stand(corpus: Path) -> None:
    """Pictures whose places are a linear map of the teacher's: a word that no picture has is placed by it."""
    pictures = Corpus(corpus)
    things = sorted(set(pictures.column("concept")))
    random = np.random.default_rng(0)
    vectors = random.standard_normal((len(things), 4))
    matrix = random.standard_normal((4, 8))
    names = {pictures.column("concept")[i]: pictures.names(i)[0] for i in range(len(pictures))}
    said = [Said("en", names[thing]) for thing in things]
    embeddings = np.array([vectors[things.index(thing)] @ matrix for thing in pictures.column("concept")])
    new = random.standard_normal((1, 4))
    taught = Words(
        [*said, Said("en", "unheard of")],
        np.concatenate([vectors, new]).astype(np.float16) * 1000,
        [""] * (len(said) + 1),
    )
    found = among_pictures(taught, pictures, embeddings)
    assert found.shape == (len(things) + 1, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    middle = embeddings.mean(axis=0)
    wanted = np.concatenate([vectors, new]) @ matrix - middle
    cosines = (found * wanted / np.linalg.norm(wanted, axis=1, keepdims=True)).sum(axis=1)
    assert cosines.mean() > 0.9
    with pytest.raises(DataError, match="no picture of the corpus"):
        among_pictures(words(), pictures, embeddings)


def test_a_text_encoder_alone_learns_where_its_words_stand(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """The loss of the teacher falls beside a locked image encoder."""
    own, taught = tmp_path / "own.toml", Path(shutil.copytree(corpus, tmp_path / "corpus"))
    pictures = Corpus(corpus)
    said = sorted({Said("en", pictures.names(index)[0]) for index in range(len(pictures))})
    vectors = np.random.default_rng(0).standard_normal((len(said), 12)).astype(np.float16)
    Words(said, vectors, [""] * len(said)).save(taught / teacher.TEACHER_FILE)
    own.write_text(recipe.read_text() + "\n[clip.task]\nlocked = true\nteacher = { likeness = 'pictures' }\n")
    settings = [
        f"clip.start={run / 'bundle'}",
        *("clip.train.steps=40", "clip.train.learning_rate=1e-2", "clip.train.warmup=0", "clip.train.ema=[]"),
        *("clip.train.log_steps=10", "clip.train.evaluate_steps=0", "clip.train.preview_steps=0"),
    ]
    Run(recipes.load(own, settings), taught, tmp_path / "run", torch.device("cpu")).go("clip")
    lines = [line for line in read_metrics(tmp_path / "run" / "clip") if line["kind"] == "train"]
    losses = [line["parts"]["teacher"] for line in lines]
    assert losses[-1] < losses[0]
