"""Promises of the encoder: bulk features are the embedder's, kept once; distances grow with the change."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.work import done
from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, InputError, UnclipError
from unclip.evaluate.encoder import Encoder

CPU = torch.device("cpu")
TEXTS = ["a red apple", "빨간 사과", "ein roter Apfel auf dem Tisch", "a green apple"]


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder.of(Bundle.load(tiny_bundle), CPU, torch.float32)


def pictures(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_features_are_those_of_the_embedder(encoder: Encoder, tiny_bundle: Path) -> None:
    embedder = ClipEmbedder.of(Bundle.load(tiny_bundle), CPU, torch.float32)
    pixels = pictures(5)
    wanted = embedder.embed_images([Image.fromarray(picture) for picture in pixels])
    assert encoder.images(pixels) == pytest.approx(wanted.numpy(), abs=1e-5)
    assert encoder.texts(TEXTS) == pytest.approx(embedder.embed_texts(TEXTS).numpy(), abs=1e-5)
    assert encoder.images(pictures(0)).shape == (0, 16)
    assert np.linalg.norm(encoder.images(pictures(2, 50)), axis=1) == pytest.approx(1)


def test_features_of_a_corpus_are_computed_once(
    encoder: Encoder, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(shutil.copytree(shapes, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))
    steps, features = done(encoder.corpus(corpus))
    assert steps[-1] == ("features train", len(corpus), len(corpus))
    assert features == pytest.approx(encoder.images(corpus.pixels(32)), abs=1e-5)
    monkeypatch.setattr(encoder, "images", lambda pixels: pytest.fail("computed again"))
    steps, again = done(encoder.corpus(corpus))
    assert steps == []
    assert (again == features).all()


def test_a_judge_is_a_bundle_a_run_or_its_weights(tiny_bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "judge"
    (run / "clip" / "final").mkdir(parents=True)
    weights = run / "clip" / "final" / "ema-0.safetensors"
    shutil.copy(tiny_bundle / "clip.safetensors", weights)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        Encoder.load(str(run), CPU, torch.float32)
    shutil.copy(tiny_bundle / "tokenizer.json", run)
    found = [Encoder.load(str(source), CPU, torch.float32) for source in (tiny_bundle, run, weights)]
    assert [encoder.name for encoder in found] == ["tiny", "judge", "ema-0.safetensors"]
    assert len({encoder.weights for encoder in found}) == 1
    for other in found[1:]:
        assert other.texts(TEXTS) == pytest.approx(found[0].texts(TEXTS))
    with pytest.raises(UnclipError, match="no bundle"):
        Encoder.load(str(tmp_path / "nothing"), CPU, torch.float32)


def test_a_tokenizer_of_another_model_is_refused(encoder: Encoder) -> None:
    class Larger:
        vocabulary, end = 100_000, 2

    with pytest.raises(BundleError, match="do not fit"):
        Encoder("x", "0", encoder.model, Larger(), CPU, torch.float32)


@pytest.mark.parametrize("side", [32, 128, 100, 20])
def test_distances_grow_with_the_change(encoder: Encoder, side: int) -> None:
    truth = pictures(40, side)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    changed = [np.clip(truth + scale * noise, 0, 255).astype(np.uint8) for scale in (5, 40)]
    assert encoder.distances(truth, truth) == pytest.approx(0, abs=1e-6)
    slight, strong = (encoder.distances(pixels, truth) for pixels in changed)
    assert slight.shape == (40,)
    assert (slight > 0).all()
    assert np.mean(strong > slight) > 0.9


def test_a_change_in_one_corner_of_a_large_picture_counts(encoder: Encoder) -> None:
    truth = np.full((2, 128, 128, 3), 255, np.uint8)
    changed = truth.copy()
    changed[1, :8, :8] = 0
    nothing, something = encoder.distances(changed, truth)
    assert nothing == pytest.approx(0, abs=1e-6)
    assert something > 1e-3
