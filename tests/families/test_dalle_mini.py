"""Promises of the family "dalle-mini": seeds, batches, refusals by name, warnings.

That it draws min-dalle's pictures is promised in `tests/checkpoints/test_dalle_mini.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unclip
from support.pictures import pixels, same
from support.tiny_bundles import dalle_mini_parts
from unclip.bundle import Part, save_bundle
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.model import Model
from unclip.models.vqgan import VQGAN, VQGANConfig
from unclip.stages import codes as code_stages

SIZE = 6  # pixels: 3 x 3 codes of 2 x 2


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    return dalle_mini_parts(tmp_path_factory.mktemp("tokenizer"))


def saved(folder: Path, parts: dict[str, Part]) -> Path:
    save_bundle(folder, name="tiny-mini", parts=parts, card="# t\n", family="dalle-mini", dtype=None)
    return folder


@pytest.fixture(scope="module")
def model(parts: dict[str, Part], tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = saved(tmp_path_factory.mktemp("bundles") / "tiny", parts)
    model = unclip.load(folder, device="cpu", precision="float32")
    assert isinstance(model, Model)
    return model


def test_a_seed_draws_the_same_pictures_again(model: Model) -> None:
    first, second = (model.generate("a red apple", n=2, size=SIZE, seed=5) for _ in range(2))
    assert [np.array_equal(pixels(a), pixels(b)) for a, b in zip(first, second, strict=True)] == [True, True]
    assert first[0].image.size == (SIZE, SIZE)
    assert not same(first[0], first[1])
    assert not same(first[0], model.generate("a red apple", size=SIZE, seed=6)[0])
    assert not same(first[0], model.generate("blue", size=SIZE, seed=5)[0])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_picture_k_is_the_same_alone_and_in_any_batch(
    model: Model, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = model.generate("a red apple", n=18, size=SIZE, seed=1, guidance=guidance)
    options = Options(size=SIZE, guidance=guidance)
    for k in (0, 2, 17):
        mine, stranger = Job("a red apple", 1, k), Job("blue sky", 99, 7)
        alone = [p for event in model.draw([mine], options) for p in event.pictures]
        beside = [p for event in model.draw([stranger, mine], options) for p in event.pictures]
        assert same(alone[0], many[k])
        assert same(beside[1], many[k])
    monkeypatch.setattr(code_stages, "CACHE_BYTES", 1)  # room for one picture at a time
    assert all(
        same(a, b)
        for a, b in zip(
            model.generate("a red apple", n=3, size=SIZE, seed=1, guidance=guidance), many[:3], strict=True
        )
    )


def test_every_setting_changes_the_picture(model: Model) -> None:
    plain = model.generate("a red apple", size=SIZE, seed=1)[0]
    assert plain.score is None
    assert dict(plain.settings) == {
        "size": str(SIZE),
        "precision": "float32",
        "guidance": "3",
        "temperature": "1",
        "top_k": "40",
        "top_p": "1",
    }
    for changes in ({"guidance": 8.0}, {"temperature": 0.2}, {"top_k": 1}, {"top_p": 0.1}):
        other = model.generate("a red apple", size=SIZE, seed=1, **changes)[0]
        assert not same(plain, other), changes


def test_with_one_code_to_choose_from_the_seed_means_nothing(model: Model) -> None:
    first, second = (model.generate("a red apple", size=SIZE, seed=seed, top_k=1)[0] for seed in (1, 2))
    assert same(first, second)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 20}, "steps means nothing to tiny-mini, of the family dalle-mini"),
        ({"sampler": "ddim"}, "sampler means nothing"),
        ({"rerank": 4}, "rerank means nothing"),
        ({"candidates": 4}, "candidates means nothing"),
        ({"prior_guidance": 4.0}, "it knows guidance, style, temperature, top_k, top_p"),
        ({"size": 256}, "size 256 is not drawn: choose 6"),
        ({"top_k": 51}, "top_k is 51: there are 50 codes"),
        ({"top_k": 0}, "top_k is 0: choose from 1"),
        ({"temperature": 0.0}, "temperature is 0.0: choose from 0.01"),
    ],
)
def test_what_cannot_be_honoured_is_refused(model: Model, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.stream("a red apple", **({"size": SIZE} | settings))


def test_the_events_count_what_is_done(model: Model) -> None:
    events = list(model.stream(["a red apple", "blue"], n=2, size=SIZE, seed=1))
    assert [(e.step, e.total) for e in events if e.stage == "codes"] == [(i + 1, 9) for i in range(9)]
    assert [(e.step, e.total) for e in events if e.stage == "prompt"] == [(1, 1)]
    last = events[-1]
    assert (last.stage, last.step, last.total, len(last.pictures)) == ("pictures", 4, 4, 4)
    assert len(last.preview()) == 4


def test_what_is_not_read_of_a_prompt_is_said(model: Model) -> None:
    with pytest.warns(UnclipWarning, match="left out is 'red red'"):
        model.stream("abcdefgh red red", size=SIZE)
    with (
        pytest.warns(UnclipWarning, match="is in Hangul letters, and tiny-mini reads English"),
        pytest.warns(UnclipWarning, match="nothing of the prompt '빨간 사과' is read: tiny-mini knows ASCII"),
    ):
        model.stream("빨간 사과", size=SIZE)


def test_codes_that_the_codec_lacks_are_refused(parts: dict[str, Part], tmp_path: Path) -> None:
    codec = VQGAN(VQGANConfig(vocabulary=49, channels=32, multipliers=(1, 1), blocks=1, attention=()))
    folder = saved(tmp_path / "bundle", parts | {"codec": Part(codec)})
    with pytest.raises(BundleError, match="its transformer draws 50 codes, its codec has 49"):
        unclip.load(folder, device="cpu", precision="float32")


def test_a_bundle_that_does_not_say_how_to_draw_is_refused(parts: dict[str, Part], tmp_path: Path) -> None:
    folder = saved(tmp_path / "bundle", parts | {"transformer": Part(parts["transformer"].source)})
    with pytest.raises(BundleError, match="does not say how to draw codes"):
        unclip.load(folder, device="cpu", precision="float32").stream("red", size=SIZE)


def test_offloaded_networks_draw_the_same_and_are_let_go(
    model: Model, parts: dict[str, Part], tmp_path: Path
) -> None:
    folder = saved(tmp_path / "bundle", parts)
    lean = unclip.load(folder, device="cpu", precision="float32", offload=True)
    pictures = lean.generate("a red apple", n=2, size=SIZE, seed=5)
    kept = model.generate("a red apple", n=2, size=SIZE, seed=5)
    assert all(same(a, b) for a, b in zip(pictures, kept, strict=True))
    assert lean.networks.held == {}


def test_it_draws_in_bfloat16(tmp_path_factory: pytest.TempPathFactory, parts: dict[str, Part]) -> None:
    folder = saved(tmp_path_factory.mktemp("bundles") / "half", parts)
    half = unclip.load(folder, device="cpu", precision="bfloat16")
    drawn = half.generate("a red apple", n=2, size=SIZE, seed=5)
    assert [picture.image.size for picture in drawn] == [(SIZE, SIZE)] * 2


def test_a_picture_is_drawn_again_by_its_metadata(model: Model, tmp_path: Path) -> None:
    _, picture = model.generate("a red apple", n=2, size=model.sizes[0], seed=5)
    path = picture.save(tmp_path / "picture.png")
    (again,) = model.like(path)
    assert same(again, picture)
    assert again.metadata == picture.metadata
