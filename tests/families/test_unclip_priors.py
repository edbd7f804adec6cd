"""Promises of unCLIP's priors: each by its name, the same picture alone and in any batch, plain refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.pictures import ROUNDING, difference
from support.tiny_bundles import parts_of
from unclip import cli
from unclip.bundle import Bundle, Part, save_bundle
from unclip.drawing import Job, Options, Prior, Settings
from unclip.errors import BundleError, InputError
from unclip.evaluate.stages import Stages
from unclip.images import read_metadata
from unclip.model import Model
from unclip.stages.stage import Batch, finished

PROMPTS = ["a red apple", "a green apple a red apple", "빨간 사과"]


@pytest.fixture(scope="module")
def model(two_priors_bundle: Path) -> Model:
    return Model.load(two_priors_bundle, device="cpu", precision="float32")


def without(bundle: Path, folder: Path, *names: str) -> Model:
    """The bundle without some of its components."""
    save_bundle(folder, name="less", parts=parts_of(Bundle.load(bundle), *names), card="")
    return Model.load(folder, device="cpu", precision="float32")


def test_each_prior_draws_its_own_picture_and_diffusion_where_none_is_named(model: Model) -> None:
    usual = model.generate("a red apple", size=64, seed=1)[0]
    drawn = {
        prior: model.generate("a red apple", size=64, seed=1, prior=prior)[0]
        for prior in ("diffusion", "ar", "none")
    }
    assert difference(usual, drawn["diffusion"]) == 0
    assert min(difference(usual, drawn[prior]) for prior in ("ar", "none")) > ROUNDING
    assert difference(drawn["ar"], drawn["none"]) > ROUNDING
    assert [picture.settings["prior"] for picture in drawn.values()] == ["diffusion", "ar", "none"]
    assert drawn["ar"].settings["prior_guidance"] == "2"
    assert "candidates" not in drawn["none"].settings


@pytest.mark.parametrize("prior", ["ar", "none"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_picture_is_the_same_alone_and_in_any_batch(
    two_priors_bundle: Path, prior: str, precision: str
) -> None:
    model = Model.load(two_priors_bundle, device="cpu", precision=precision)
    how = model.family.prior(Options(prior=prior))

    def embeddings(jobs: list[Job]) -> torch.Tensor:
        text = model.clip.read([job.prompt for job in jobs])
        found = finished(how.run(Batch(tuple(jobs), text=text))).embeddings
        assert found is not None
        return found

    jobs = [Job(prompt, 5, index) for prompt in PROMPTS for index in range(3)]
    together = embeddings(jobs)
    alone = torch.cat([embeddings([job]) for job in jobs[::2]])
    # a code that rounding moves goes to its neighbour: a 32nd of the reach of one component
    assert (together[::2] - alone).abs().max() < (1e-5 if precision == "float32" else 0.05)
    assert torch.equal(together, embeddings(jobs))


def test_pictures_of_the_ar_prior_differ_by_seed_and_index(model: Model) -> None:
    first, second = model.generate("a red apple", n=2, size=64, seed=1, prior="ar")
    (other,) = model.generate("a red apple", size=64, seed=2, prior="ar")
    (again,) = model.generate("a red apple", size=64, seed=1, prior="ar")
    assert difference(first, again) <= ROUNDING
    assert min(difference(first, second), difference(first, other)) > ROUNDING


def test_guidance_and_candidates_reach_the_ar_prior(model: Model) -> None:
    usual: Settings = {"n": 3, "size": 64, "seed": 1, "prior": "ar"}
    plain = model.generate("a red apple", candidates=1, **usual)
    guided = model.generate("a red apple", candidates=1, prior_guidance=8.0, **usual)
    best = model.generate("a red apple", candidates=8, **usual)
    assert best[0].settings["candidates"] == "8"
    for others in (guided, best):
        assert max(map(difference, plain, others)) > ROUNDING


def test_of_several_candidates_the_one_nearest_to_the_text_is_kept(two_priors_bundle: Path) -> None:
    model = Stages(Model.load(two_priors_bundle, device="cpu", precision="float32"))
    text = model.model.clip.embed_texts(PROMPTS).numpy()
    fits = []
    for candidates in (1, 4):
        how = model.prior(Prior.AR, candidates=candidates)
        found = finished(model.imagine(PROMPTS, 3, "prior", how))
        fits.append((found * text).sum(axis=1))
    assert (fits[1] >= fits[0] - 1e-5).all()  # the first candidate is the same
    assert (fits[1] > fits[0] + 1e-3).any()


def test_without_a_prior_the_decoder_draws_from_the_text_embedding(model: Model) -> None:
    job = Job("a red apple", 4, 2)
    options = Options(size=64, prior="none")
    (event,) = [event for event in model.draw([job], options) if event.pictures]
    given = {job: model.clip.embed_texts("a red apple")[0]}
    (wanted,) = [event for event in model.draw_embeddings(given, Options(size=64)) if event.pictures]
    assert difference(event.pictures[0], wanted.pictures[0]) <= ROUNDING


def test_events_count_the_codes(model: Model) -> None:
    events = list(model.stream(PROMPTS, size=64, seed=1, prior="ar"))
    steps = [(event.step, event.total) for event in events if event.stage == "prior"]
    total = steps[0][1]
    assert total % 6 == 0  # six codes for each batch of like length
    assert steps == [(step, total) for step in range(1, total + 1)]
    assert all(event.stage != "prior" for event in model.stream(PROMPTS, size=64, seed=1, prior="none"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": "gan"}, "unknown prior 'gan': choose diffusion, ar, none"),
        ({"prior": "none", "candidates": 2}, "mean nothing with prior 'none'"),
        ({"prior": "none", "prior_guidance": 2.0}, "mean nothing with prior 'none'"),
        ({"prior": "ar", "candidates": 65}, "candidates is 65"),
    ],
)
def test_what_cannot_be_is_refused(model: Model, settings: Settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.stream("a red apple", size=64, **settings)


def test_a_prior_that_the_bundle_lacks_is_refused(tiny_bundle: Path) -> None:
    model = Model.load(tiny_bundle)
    with pytest.raises(InputError, match="prior 'ar': tiny has none, choose diffusion, none"):
        model.stream("a red apple", size=64, prior="ar")


def test_an_ar_prior_alone_is_the_usual_one(two_priors_bundle: Path, tmp_path: Path) -> None:
    model = without(two_priors_bundle, tmp_path / "ar", "prior")
    (picture,) = model.generate("a red apple", size=64, seed=1)
    assert picture.settings["prior"] == "ar"


def test_without_any_prior_text_is_drawn_when_none_is_asked_for(
    two_priors_bundle: Path, tmp_path: Path
) -> None:
    model = without(two_priors_bundle, tmp_path / "none", "prior", "ar-prior")
    with pytest.raises(InputError, match="has no prior.*with prior 'none'"):
        model.stream("a red apple", size=64)
    (picture,) = model.generate("a red apple", size=64, seed=1, prior="none")
    assert picture.settings["prior"] == "none"


def test_embeddings_that_are_given_need_no_prior(model: Model) -> None:
    given = {Job("", 1, 0): torch.ones(16) / 4}
    with pytest.raises(InputError, match="prior: no prior draws where embeddings are given"):
        model.draw_embeddings(given, Options(size=64, prior="ar"))


def test_an_ar_prior_without_its_way_of_drawing_is_refused(two_priors_bundle: Path, tmp_path: Path) -> None:
    whole = Bundle.load(two_priors_bundle)
    parts = {name: Part(whole.path(name)) for name in ("clip", "decoder", "ar-prior")}
    parts["tokenizer"] = Part(whole.tokenizer())
    save_bundle(tmp_path / "bare", name="bare", parts=parts, card="")
    with pytest.raises(BundleError, match="does not say how its ar-prior draws codes"):
        Model.load(tmp_path / "bare").stream("a red apple", size=64)


def test_the_command_line_names_the_prior(
    two_priors_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "a red apple", "--model", str(two_priors_bundle), "--size", "64", "--seed", "1"]
    assert cli.main([*command, "--prior", "ar", "--out", str(tmp_path / "a.png")]) == 0
    assert read_metadata(tmp_path / "a.png")["prior"] == "ar"
    capsys.readouterr()
    assert cli.main([*command, "--prior", "gan"]) == 2
    assert "unknown prior 'gan'" in capsys.readouterr().err
