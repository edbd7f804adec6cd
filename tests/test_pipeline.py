"""Promises of the pipeline: seeds, batches, ranking, warnings, and refusals before anything is drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unclip
from support.pictures import ROUNDING, difference, holed, pixels, speckled
from support.tiny_bundles import parts_of
from unclip import pipeline
from unclip.bundle import Bundle, Part, save_bundle
from unclip.diffusion.defaults import DecoderSampling, PriorSampling, Sampling
from unclip.diffusion.samplers import Variance
from unclip.drawing import KEPT_PROMPT, Job, Options, Settings
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.given import Given, Known
from unclip.images import read_metadata, resize, to_tensor, to_uint8
from unclip.model import Model
from unclip.models.caption import CaptionConfig
from unclip.models.decoder import Decoder
from unclip.pipeline import Part as Together
from unclip.stages.decoder import Decoder as DecoderStage
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, finished


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    """In float32, so that a test says the same on every machine."""
    return unclip.load(tiny_bundle, device="cpu", precision="float32")


# --- seeds and batches ---


def test_a_seed_draws_the_same_pictures_again(model: Model) -> None:
    first, second = (model.generate("a red apple", n=2, size=64, seed=5) for _ in range(2))
    assert [difference(a, b) for a, b in zip(first, second, strict=True)] == [0, 0]
    assert difference(first[0], first[1]) > 20
    assert difference(first[0], model.generate("a red apple", size=64, seed=6)[0]) > 20
    assert difference(first[0], model.generate("빨간 사과", size=64, seed=5)[0]) > 0


def test_a_random_seed_is_told_and_draws_the_same_again(model: Model) -> None:
    picture, other = (model.generate("a red apple", size=64)[0] for _ in range(2))
    assert picture.seed != other.seed
    assert difference(picture, model.generate("a red apple", size=64, seed=picture.seed)[0]) == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [64, 256])
def test_picture_k_is_the_same_alone_and_in_any_batch(tiny_bundle: Path, precision: str, size: int) -> None:
    model = unclip.load(tiny_bundle, device="cpu", precision=precision)
    many = model.generate("a red apple", n=18, size=size, seed=1)  # more than one group
    few = model.generate("a red apple", n=3, size=size, seed=1)
    options = Options(size=size)
    for k in (0, 2, 17):
        # alone, and beside a stranger's longer prompt, first and last in the batch
        stranger = Job("ein roter Apfel, a green apple", 99, 7)
        mine = Job("a red apple", 1, k)
        alone = [p for event in model.draw([mine], options) for p in event.pictures]
        beside = [p for event in model.draw([stranger, mine], options) for p in event.pictures]
        assert difference(alone[0], many[k]) <= ROUNDING
        assert difference(beside[1], many[k]) <= ROUNDING
        if k < 3:
            assert difference(few[k], many[k]) <= ROUNDING


def test_an_upsampler_takes_as_many_grids_at_once_as_are_fast(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.generate("a red apple", n=3, seed=1)
    taken: list[int] = []
    hook = model.networks["upsampler-256"].register_forward_pre_hook(
        lambda _, given: taken.append(len(given[0]))
    )
    side = 256 // model.bundle.config("upsampler-256").patch
    monkeypatch.setattr("unclip.stages.networks.CELLS", 2 * side**2)
    parts = model.generate("a red apple", n=3, seed=1)
    hook.remove()
    assert taken[:4] == [2, 1, 2, 1]
    assert all(difference(a, b) <= ROUNDING for a, b in zip(whole, parts, strict=True))


def test_the_noise_of_a_picture_is_the_same_bits_in_any_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rounding does, the randomness is equal: drawn one picture at a time or all at once."""
    seen: dict[tuple[Job, str], list[bytes]] = {}
    original = Networks.noise

    def recording(self: Networks, streams: list[tuple[Job, str]], shape: tuple[int, ...]) -> object:
        draw = original(self, streams, shape)

        def noise() -> torch.Tensor:
            drawn = draw()
            for stream, row in zip(streams, drawn, strict=True):
                seen.setdefault(stream, []).append(row.numpy().tobytes())
            return drawn

        return noise

    monkeypatch.setattr(Networks, "noise", recording)
    model.generate("a red apple", n=3, seed=1, sampler="ancestral")
    together = seen.copy()
    seen.clear()
    for k in range(3):
        list(model.draw([Job("a red apple", 1, k)], Options(sampler="ancestral")))
    assert seen == together
    assert {stage for _, stage in seen} == {"prior-0", "prior-1", "decoder", "upsampler-256"}
    draws = [bits for row in seen.values() for bits in row]
    assert len(set(draws)) == len(draws)  # no stream repeats another


def test_more_candidates_keep_the_first_ones(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate with the larger dot product with the text embedding wins."""
    embeddings = {}
    original = DecoderStage.run

    def recording(self: DecoderStage, batch: Batch) -> object:
        embeddings[candidates] = batch.embeddings
        return original(self, batch)

    monkeypatch.setattr(DecoderStage, "run", recording)
    for candidates in (1, 2, 9):
        model.generate("a red apple", n=4, size=64, seed=3, candidates=candidates)
    text = model.clip.embed_texts("a red apple")
    similarity = {count: (drawn @ text.T).flatten() for count, drawn in embeddings.items()}
    assert (similarity[2] >= similarity[1] - 1e-5).all()
    assert (similarity[9] >= similarity[2] - 1e-5).all()
    assert (similarity[9] > similarity[1]).any()


# --- sizes and stages ---


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_every_size_is_drawn(model: Model, size: int) -> None:
    assert model.sizes == (64, 256, 512, 1024)
    (picture,) = model.generate("a red apple", size=size, seed=1)
    assert picture.image.size == (size, size)
    assert picture.image.mode == "RGB"
    if size == 512:
        large = model.generate("a red apple", size=1024, seed=1)[0]
        reduced = resize(to_tensor(large.image)[None], 512)[0]
        assert np.abs(to_uint8(reduced).astype(int) - pixels(picture)).max() <= ROUNDING


def test_events_count_every_stage_and_show_the_picture_growing(model: Model) -> None:
    events = list(model.stream(["a red apple", "빨간 사과"], n=9, size=256, seed=1))
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["prompt", "prior", "decoder", "upsampler-256", "pictures"]
    for stage in stages:
        own = [event for event in events if event.stage == stage]
        assert own[-1].step == own[-1].total == own[0].total
        steps = [event.step for event in own]
        assert steps == sorted(set(steps))
    assert all(event.seconds >= 0 for event in events)
    assert sum(len(event.pictures) for event in events) == 18
    sizes = {event.stage: {image.size for image in event.preview()} for event in events}
    assert sizes["prior"] == set()
    assert sizes["decoder"] == {(64, 64)}
    assert sizes["upsampler-256"] == {(256, 256)}


def test_stopping_to_read_stops_the_drawing_and_leaves_no_mode_behind(model: Model) -> None:
    events = model.stream("a red apple", seed=1)
    for event in events:
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        if event.stage == "decoder":
            break
    events.close()
    assert torch.is_grad_enabled()
    with pytest.raises(StopIteration):
        next(events)


def test_pictures_come_by_prompt_and_index(model: Model) -> None:
    pictures = model.generate(["a red apple", "빨간 사과"], n=2, size=64, seed=4)
    found = [(picture.prompt, picture.index, picture.seed) for picture in pictures]
    assert found == [("a red apple", 0, 4), ("a red apple", 1, 4), ("빨간 사과", 0, 4), ("빨간 사과", 1, 4)]


def test_rerank_keeps_the_best_of_many_and_enlarges_only_those(model: Model) -> None:
    prompts = ["a red apple", "빨간 사과"]
    everything = model.generate(prompts, n=20, size=256, seed=2)
    events = list(model.stream(prompts, n=3, rerank=20, size=256, seed=2))
    best = [picture for event in events for picture in event.pictures]
    for prompt in prompts:
        own = [picture for picture in best if picture.prompt == prompt]
        ranked = sorted((p for p in everything if p.prompt == prompt), key=lambda p: -p.score)
        assert [p.score for p in own] == pytest.approx([p.score for p in ranked[:3]], abs=1e-3)
        for picture in own:  # a picture keeps its index, so it can be drawn again without the others
            same = next(p for p in everything if (p.prompt, p.index) == (prompt, picture.index))
            assert difference(picture, same) <= ROUNDING
    enlarged = next(event.total for event in events if event.stage == "upsampler-256")
    assert enlarged == 2 * 3  # steps for one chunk of each prompt


def test_score_is_the_similarity_of_picture_and_prompt(model: Model) -> None:
    (picture,) = model.generate("a red apple", size=64, seed=1)
    assert picture.score == pytest.approx(
        model.clip.similarity(picture.image, "a red apple").item(), abs=1e-5
    )


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "analytic-dpm", "dpm++", "heun"])
def test_every_sampler_draws(model: Model, sampler: str) -> None:
    (picture,) = model.generate("a red apple", size=64, seed=1, sampler=sampler, steps=5)
    assert np.isfinite(pixels(picture)).all()
    assert picture.settings["sampler"] == sampler
    assert picture.settings["steps"] == "5"


def test_settings_change_the_picture(model: Model) -> None:
    plain = model.generate("a red apple", size=64, seed=1)[0]
    for changes in ({"guidance": 8.0}, {"prior_guidance": 8.0}, {"steps": 7}, {"steps": "fast27"}):
        assert difference(plain, model.generate("a red apple", size=64, seed=1, **changes)[0]) > 0, changes


def test_a_truncated_prompt_warns_where_it_was_cut(model: Model) -> None:
    prompt = "a red apple " * 6 + "and a worm"
    with pytest.warns(UnclipWarning, match=r"left out is '.*and a worm'"):
        model.generate([prompt, "a red apple"], size=64, seed=1)


def test_a_warning_points_at_the_line_that_asked_for_the_picture(model: Model) -> None:
    prompt = "a red apple " * 6 + "and a worm"
    asks = (
        lambda: model.generate(prompt, size=64),
        lambda: model.stream(prompt, size=64),
        lambda: model.edit(speckled(64), holed(64, 64, (0, 0, 32, 64)), prompt, size=64, steps=2),
    )
    for ask in asks:
        with pytest.warns(UnclipWarning, match="left out is") as warned:
            ask()
        assert [(each.filename, each.lineno) for each in warned] == [(__file__, ask.__code__.co_firstlineno)]


# --- refusals ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n is 0: choose from 1 to 100"),
        ({"n": 101}, "n is 101"),
        ({"n": 1.5}, "n is 1.5: give a whole number"),
        ({"n": True}, "n is True"),
        ({"size": 257}, "size 257 is not drawn: choose 64, 256, 512, 1024"),
        ({"sampler": "dim"}, "unknown sampler 'dim': choose ancestral"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 1001}, "1001 steps"),
        ({"steps": "many"}, "unknown steps 'many'"),
        ({"steps": "fast27", "sampler": "dpm++"}, "takes a plain count"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": -1}, "guidance is -1"),
        ({"prior_guidance": 51}, "prior_guidance is 51: choose from 0 to 50"),
        ({"candidates": 0}, "candidates is 0"),
        ({"n": 4, "rerank": 3}, "rerank is 3: choose from 4 to 1000"),
    ],
)
def test_a_wrong_setting_is_refused_when_asked_for(model: Model, settings: Settings, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        model.stream("a red apple", **settings)  # not read: refused at the call


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ([], "no prompt"),
        (["a", ""], "empty"),
        ("x" * 100_001, "100001"),
        ("\udcff", "stray"),
    ],
)
def test_a_wrong_prompt_is_refused_when_asked_for(model: Model, prompt: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.stream(prompt, size=64)


@pytest.mark.parametrize("extra", [0, 1, 6000])
def test_long_prompts_fit_the_metadata(model: Model, tmp_path: Path, extra: int) -> None:
    prompt = "🍎" * (KEPT_PROMPT + extra)
    with pytest.warns(UnclipWarning, match="longer than the 16 tokens"):
        (picture,) = model.generate(prompt, size=64, seed=1)
    for name in ("a.png", "a.jpg", "a.webp"):
        kept = read_metadata(picture.save(tmp_path / name))["prompt"]
        assert kept.startswith("🍎" * KEPT_PROMPT)
        assert (kept == prompt) == (extra == 0)
        assert (f"{len(prompt)} characters" in kept) == (extra > 0)


def test_a_file_that_is_altered_is_noticed_before_drawing(tiny_bundle_copy: Path) -> None:
    for name in ("upsampler-1024", "decoder"):
        path = tiny_bundle_copy / Bundle.load(tiny_bundle_copy).component(name).file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match="was altered"):
            unclip.load(tiny_bundle_copy).stream("a red apple", size=1024)


@pytest.mark.parametrize("reads", ["nothing", "clip", "captions"])
def test_decoders_read_captions_in_each_way(tiny_bundle: Path, tmp_path: Path, reads: str) -> None:
    whole = Bundle.load(tiny_bundle)
    own = CaptionConfig(whole.tokenizer().vocabulary, context=8, width=16, layers=1, heads=2)
    config = dataclasses.replace(
        whole.model("decoder").config,
        text_width=16 if reads == "clip" else None,
        caption=own if reads == "captions" else None,
        noisy_embedding=True,
    )
    sampling = DecoderSampling(steps=2, guidance=2.0, noise_level=0.5)
    decoder = Part(Decoder(config), whole.component("decoder").diffusion, sampling)
    parts = parts_of(whole) | {"decoder": decoder}
    model = Model(save_bundle(tmp_path / reads, name=reads, parts=parts, card=""))
    assert len(model.generate("a red apple", n=2, size=64, seed=1)) == 2
    if reads == "captions":
        with pytest.warns(UnclipWarning, match="longer than the 8 tokens"):
            model.generate("a red apple, a green apple", size=64, seed=1)


def test_a_bundle_that_stops_at_256_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    whole = Bundle.load(tiny_bundle)
    small = parts_of(whole, "upsampler-1024")
    model = Model(save_bundle(tmp_path / "small", name="small", parts=small, card=""))
    assert model.sizes == (64, 256)
    with pytest.raises(InputError, match="size 1024 is not drawn: choose 64, 256"):
        model.generate("a red apple", size=1024)
    gap = parts_of(whole, "upsampler-256")
    with pytest.raises(BundleError, match="upsampler-1024 enlarges nothing"):
        Model(save_bundle(tmp_path / "gap", name="gap", parts=gap, card=""))
    unsaid = parts_of(whole)
    unsaid["decoder"] = dataclasses.replace(unsaid["decoder"], sampling=None)
    with pytest.raises(BundleError, match="does not say how to sample its decoder"):
        Model(save_bundle(tmp_path / "unsaid", name="unsaid", parts=unsaid, card="")).generate("a")


def test_sampling_defaults_are_checked_when_a_bundle_is_made() -> None:
    for sampling, wrong, message in (
        (Sampling, {"sampler": "dim"}, "unknown sampler"),
        (Sampling, {"sampler": "heun", "eta": 0.5}, "eta 0.5 belongs to ddim"),
        (Sampling, {"sampler": "ddim", "variance": Variance.LARGE}, "variance large belongs to ancestral"),
        (DecoderSampling, {"noise_level": 2.0}, "noise_level"),
        (PriorSampling, {"candidates": 0}, "candidates"),
    ):
        with pytest.raises(InputError, match=message):
            sampling(steps=5, **wrong)


# --- pictures and CLIP ---


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_metadata_survives_a_file_and_can_be_left_out(model: Model, tmp_path: Path, name: str) -> None:
    (picture,) = model.generate('빨간 "사과" 🍎', size=64, seed=3)
    path = picture.save(tmp_path / name)
    found = read_metadata(path)
    assert found == picture.metadata
    assert found["prompt"] == '빨간 "사과" 🍎'
    assert (found["seed"], found["index"], found["model"]) == ("3", "0", "tiny")
    assert found["Software"] == f"unclip {unclip.__version__}"
    assert read_metadata(picture.save(tmp_path / name, metadata=False)) == {}
    with Image.open(path) as image:
        assert image.size == (64, 64)


def test_settings_and_options_have_the_same_names() -> None:
    assert set(Settings.__annotations__) == {field.name for field in dataclasses.fields(Options)}


def test_clip_embeds_texts_and_pictures(model: Model, tmp_path: Path) -> None:
    texts = model.clip.embed_texts(["a red apple", "빨간 사과", "a red apple"])
    assert texts.shape == (3, 16)
    assert torch.allclose(texts.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.equal(texts[0], texts[2])
    wide = Image.new("RGB", (90, 30), "red")
    wide.save(tmp_path / "wide.png")
    images = model.clip.embed_images([wide, tmp_path / "wide.png", str(tmp_path / "wide.png")])
    assert images.shape == (3, 16)
    assert torch.equal(images[0], images[1])
    similarity = model.clip.similarity([wide], ["a red apple", "빨간 사과"])
    assert similarity.shape == (1, 2)
    assert similarity.abs().max() <= 1
    with pytest.raises(InputError, match="no pictures"):
        model.clip.embed_images([])
    with pytest.raises(InputError, match="no texts"):
        model.clip.embed_texts([])


def test_a_text_is_read_alike_whatever_stands_beside_it(model: Model) -> None:
    alone = model.clip.read(["a red apple"])
    beside = model.clip.read(["a green apple and more", "a red apple", "a red apple"])
    assert torch.equal(beside.embedding[1], alone.embedding[0])
    length = alone.mask.shape[1]
    assert torch.equal(beside.sequence[2, :length], alone.sequence[0])
    assert not beside.mask[1, length:].any()


def test_public_names_are_there(tiny_bundle: Path) -> None:
    assert Model.load(tiny_bundle).bundle.name == "tiny"
    assert unclip.Picture is pipeline.Picture


# --- parts of several requests ---


def through(model: Model, part: Together) -> Together:
    return finished(model.advanced(part))


def test_parts_of_several_requests_join_and_draw_what_each_draws_alone(model: Model) -> None:
    """A draw, one into a picture and one of an embedding: in one batch from the decoder's boundary on."""
    keep = Image.new("L", (256, 256), 255)
    keep.paste(0, (64, 64, 192, 192))
    embedding = model.clip.embed_texts("a green apple")[0]
    asked = [
        [Job("a red apple", 1, 0), Job("a red apple", 1, 1)],
        [Job("a red apple", 2, 0, Given(known=Known(speckled(256), keep)))],
        [Job("", 3, 0, Given(embedding=embedding))],
    ]
    alone = [[p for event in model.draw(jobs, Options()) for p in event.pictures] for jobs in asked]
    parts = [part for jobs in asked for part in model.parts(jobs, Options())]
    assert not parts[0].joins(parts[2])  # one has a prior before it and the other none
    parts = [through(model, through(model, part)) for part in parts]
    assert all(parts[0].joins(part) for part in parts)
    together = Together.joined(parts)
    assert len(together) == 4
    calls = together.left[0].calls(together.batch.jobs)
    assert sorted(row for rows in calls for row in rows) == [0, 1, 2, 3]
    assert [0, 1] in calls
    while together.left:
        together = through(model, together)
    pictures = model.finished(together)
    expected = [picture for drawn in alone for picture in drawn]
    for one, other in zip(pictures, expected, strict=True):
        assert difference(one, other) <= ROUNDING
        assert one.metadata == other.metadata


def test_parts_that_compete_or_go_other_ways_do_not_join(model: Model) -> None:
    job = Job("a red apple", 1, 0)
    (plain,), (steps,) = model.parts([job], Options()), model.parts([job], Options(steps=4))
    (ranked,) = model.parts([job, Job("a red apple", 1, 1)], Options(rerank=2))
    assert not plain.joins(steps)
    assert not plain.joins(ranked)
    assert plain.joins(model.parts([Job("빨간 사과", 7, 3)], Options())[0])
