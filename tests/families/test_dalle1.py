"""Promises of DALL-E 1 as a pipeline: the same picture alone and in a batch, guidance, rerank, completion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.pictures import same
from support.tiny_bundles import dalle1_parts
from unclip import load
from unclip.bundle import Part, save_bundle
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.given import Upper
from unclip.model import Model
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle1 import Dalle1 as Transformer
from unclip.runtime import autocast
from unclip.stages import codes as code_stages
from unclip.stages.codes import Codec, Dalle1Writer

GRID, SIZE = 4, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "tiny-dalle1"
    save_bundle(path, name="tiny-dalle1", parts=dalle1_parts(), card="# tiny\n", family="dalle1")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    loaded = load(folder, device="cpu", precision="float32")
    assert isinstance(loaded, Model)
    return loaded


def test_pictures_at_every_size(model: Model) -> None:
    assert model.sizes == (SIZE, 4 * SIZE)
    for size in model.sizes:
        (picture,) = model.generate("a red apple", size=size, seed=1)
        assert picture.image.size == (size, size)
        assert picture.score is not None
        assert picture.settings["guidance"] == "2"


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_picture_is_the_same_alone_and_in_a_batch(
    model: Model, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(size=SIZE, guidance=guidance)
    many = model.generate("a red apple", n=5, size=SIZE, seed=1, guidance=guidance)
    assert not same(many[0], many[1])
    for k in (0, 3):
        mine, stranger = Job("a red apple", 1, k), Job("another thing", 99, 7)
        alone = [p for event in model.draw([mine], options) for p in event.pictures]
        beside = [p for event in model.draw([stranger, mine], options) for p in event.pictures]
        assert same(alone[0], many[k])
        assert same(beside[1], many[k])
    monkeypatch.setattr(code_stages, "CACHE_BYTES", 1)  # room for one picture at a time
    again = model.generate("a red apple", n=3, size=SIZE, seed=1, guidance=guidance)
    assert all(same(one, other) for one, other in zip(again, many, strict=False))


def test_guidance_and_prompt_change_the_picture(model: Model) -> None:
    drawn = [
        model.generate(prompt, size=SIZE, seed=1, guidance=guidance)[0]
        for prompt, guidance in (("a red apple", 1.0), ("a red apple", 3.0), ("a green apple", 3.0))
    ]
    assert len({picture.image.tobytes() for picture in drawn}) == 3


def test_temperature_and_truncation_are_honoured(model: Model) -> None:
    surest = model.generate("a red apple", n=3, size=SIZE, seed=1, top_k=1)
    assert same(surest[0], surest[1])  # only the likeliest code: nothing is left to chance
    plain, hot = (model.generate("a red apple", size=SIZE, seed=1, temperature=t)[0] for t in (1.0, 9.0))
    assert not same(plain, hot)
    little = model.generate("a red apple", n=1, size=SIZE, seed=1, top_p=0.01)
    assert same(little[0], surest[0])
    with pytest.raises(InputError, match="top_k is 25: there are 24 codes"):
        model.generate("a red apple", size=SIZE, top_k=25)


def test_rerank_keeps_the_best_of_many(model: Model) -> None:
    many = model.generate("a red apple", n=9, size=SIZE, seed=1)
    best = model.generate("a red apple", n=2, size=SIZE, seed=1, rerank=9)
    scores = sorted((picture.score or 0.0 for picture in many), reverse=True)
    assert [picture.score for picture in best] == pytest.approx(scores[:2])
    assert all(same(picture, many[picture.index]) for picture in best)


def test_candidates_of_one_prompt_share_its_reading(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    begin = Transformer.begin
    monkeypatch.setattr(Transformer, "begin", lambda self, *args: begun.append(args) or begin(self, *args))
    monkeypatch.setattr(Dalle1Writer, "at_once", 3)
    together = model.generate("a red apple", n=1, size=SIZE, seed=1, rerank=9)
    assert len(begun) == 1  # three chunks of three
    assert len(begun[0][0]) == 2  # the prompt, and none
    monkeypatch.setattr(Dalle1Writer, "at_once", 9)
    assert same(together[0], model.generate("a red apple", n=1, size=SIZE, seed=1, rerank=9)[0])


def test_events_are_counted(model: Model) -> None:
    events = list(model.stream(["a red apple", "a green apple"], n=2, size=4 * SIZE, seed=1))
    last = {event.stage: event for event in events}
    assert set(last) == {"prompt", "codes", "upsampler", "pictures"}
    assert all(event.step == event.total for event in last.values())
    assert last["codes"].total == GRID * GRID


def codes_of(model: Model, image: Image.Image) -> np.ndarray:
    return model.family.codec.first_rows(Upper(image, GRID - 1)).view(GRID - 1, GRID).numpy()


def test_the_first_rows_of_a_picture_are_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    start = Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    drawn = []
    show = Codec.show
    with monkeypatch.context() as patch:
        patch.setattr(Codec, "show", lambda self, codes: drawn.append(codes) or show(self, codes))
        pictures = model.generate("a red apple", n=4, size=SIZE, seed=1, start=start, keep_rows=2)
        model.generate("a red apple", n=4, size=SIZE, seed=1)
    kept, free = (codes.view(4, GRID, GRID).numpy() for codes in drawn)
    assert (kept[:, :2] == codes_of(model, start)[:2]).all()
    assert len(np.unique(kept[:, 2:], axis=0)) > 1  # the rest is drawn
    assert not (free[:, :2] == codes_of(model, start)[:2]).all()
    assert pictures[0].settings["keep_rows"] == "2"


def test_completions_are_the_same_alone_and_in_a_batch(model: Model) -> None:
    start = Image.new("RGB", (40, 20), "red")
    many = model.generate("a red apple", n=3, size=SIZE, seed=1, start=start, keep_rows=1)
    options = Options(size=SIZE, start=start, keep_rows=1)
    alone = [p for event in model.draw([Job("a red apple", 1, 2)], options) for p in event.pictures]
    assert same(alone[0], many[2])


def test_what_cannot_be_completed_is_refused(model: Model) -> None:
    start = Image.new("RGB", (SIZE, SIZE))
    with pytest.raises(InputError, match="belong together"):
        model.generate("a red apple", size=SIZE, start=start)
    with pytest.raises(InputError, match="keep_rows is 4: the picture has 4 rows of codes, keep fewer"):
        model.generate("a red apple", size=SIZE, start=start, keep_rows=4)


def test_captions_are_written_on(model: Model) -> None:
    written = model.complete_caption("a red", n=4, seed=1)
    assert all(caption.startswith("a red") for caption in written)
    assert len(set(written)) > 1
    assert model.complete_caption("a red", n=2, seed=1) == written[:2]
    with pytest.raises(InputError, match="captions are written without"):
        model.complete_caption("a red", sampling=CodeSampling(guidance=2.0))
    with pytest.raises(InputError, match="leave room"):
        model.complete_caption("a red apple and another thing and " * 5)


def test_a_bundle_without_clip_draws_but_cannot_rerank(tmp_path: Path) -> None:
    without = {name: part for name, part in dalle1_parts().items() if name != "clip"}
    save_bundle(tmp_path / "bundle", name="blind", parts=without, card="#\n", family="dalle1")
    model = load(tmp_path / "bundle", precision="float32")
    (picture,) = model.generate("a red apple", size=SIZE, seed=1)
    assert picture.score is None
    with pytest.raises(InputError, match="has no CLIP"):
        model.generate("a red apple", size=SIZE, rerank=4)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    wrong = dalle1_parts()
    config = wrong["transformer"].source.config
    wrong["transformer"] = Part(Transformer(replace(config, vocabulary=99)), codes=CodeSampling())
    save_bundle(tmp_path / "codes", name="wrong", parts=wrong, card="#\n", family="dalle1")
    with pytest.raises(BundleError, match="draws 99 codes, its codec has 24"):
        load(tmp_path / "codes")
    wrong["transformer"] = Part(Transformer(replace(config, text_vocabulary=99)), codes=CodeSampling())
    save_bundle(tmp_path / "text", name="wrong", parts=wrong, card="#\n", family="dalle1")
    with pytest.raises(BundleError, match="tokenizer and transformer"):
        load(tmp_path / "text")


def test_another_familys_options_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="steps means nothing to tiny-dalle1"):
        model.generate("a red apple", size=SIZE, steps=4)


def test_eight_bits_draw_nearly_the_same(folder: Path, model: Model) -> None:
    """Weights are read in half the bytes; what differs is what rounding them changes."""
    light = load(folder, device="cpu", precision="int8")
    assert isinstance(light, Model)
    transformer = light.networks["transformer"]
    assert isinstance(transformer, Transformer)
    reference = model.bundle.model("transformer", dtype=torch.float32)
    assert isinstance(reference, Transformer)
    tokens = light.family.tokenizer.batch(["a red apple"], 24, full=True)
    codes = torch.arange(16)[None] % 24
    with torch.inference_mode():
        with autocast(light.device, light.precision):
            rounded = transformer(tokens.ids, tokens.mask, codes).codes.float()
        exact = reference(tokens.ids, tokens.mask, codes).codes
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.1
    (picture,) = light.generate("a red apple", size=SIZE, seed=1)
    assert picture.image.size == (SIZE, SIZE)
    with pytest.raises(InputError, match="unknown precision 'int4'"):
        load(folder, precision="int4")


def test_a_picture_is_drawn_again_by_its_metadata(model: Model, tmp_path: Path) -> None:
    _, picture = model.generate("a red apple", n=2, size=model.sizes[0], seed=5)
    path = picture.save(tmp_path / "picture.png")
    (again,) = model.like(path)
    assert same(again, picture)
    assert again.metadata == picture.metadata
