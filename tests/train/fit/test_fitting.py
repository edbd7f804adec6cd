"""Promises of a fit: two commands from a folder to pictures, in its time, and on again when stopped."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import unclip
from support.toy_fit import STEPS, draw_captioned, few_steps
from unclip.adapters import open_bundle
from unclip.bundle import Bundle
from unclip.config import from_dict
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.records import Split
from unclip.errors import DataError, InputError, Interrupted
from unclip.manifest import Styles
from unclip.nn.low_rank import attention_weights
from unclip.train import loop
from unclip.train.fit import writing
from unclip.train.fit.corpus import KEPT
from unclip.train.fit.fitting import Fit
from unclip.train.fit.plan import Plan
from unclip.train.state import newest_step


def finished(work: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as stop:
        return stop.value


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with few_steps():
        yield


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve captioned shapes. Do not change it."""
    return draw_captioned(tmp_path_factory.mktemp("fit") / "shapes")


def fit(sources: Path, out: Path, base: Path, **settings: Any) -> Fit:
    return Fit([sources], out, base=str(base), workers=1, **{"say": ignored, **settings})


def ignored(text: str) -> None:
    """Takes no notice."""


def whole(work: Fit) -> Plan:
    plan: Plan = finished(work.plan())
    finished(work.gather(plan))
    work.train(plan)
    finished(work.finish(plan))
    return plan


@pytest.fixture(scope="module")
def fitted(shapes: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole fit. Do not change it."""
    out = tmp_path_factory.mktemp("fit") / "mine"
    whole(fit(shapes, out, tiny_bundle, command="unclip fit shapes"))
    return out


def test_a_fit_is_a_model_that_draws(fitted: Path) -> None:
    (picture,) = unclip.load(fitted).generate("a red circle", size=64, seed=1)
    assert picture.image.size == (64, 64)


def test_prior_and_decoder_are_others_and_all_else_is_the_bundles(fitted: Path, tiny_bundle: Path) -> None:
    before, now = Bundle.load(tiny_bundle).components, Bundle.load(fitted).components
    changed = {name for name in before if before[name].sha256 != now[name].sha256}
    assert changed == {"prior", "decoder"}
    assert before["decoder"].sampling == now["decoder"].sampling


def test_the_card_says_what_was_fitted_to_what(fitted: Path) -> None:
    card = (fitted / "bundle" / "README.md").read_text()
    assert card.startswith("# mine\n")
    assert "unclip fit shapes" in card
    assert "Fitted by `unclip fit` to 12 pictures, 2 of which were held out." in card
    assert "clip are those of the bundle `tiny`" in card
    assert "It is tiny, fitted to 12 pictures" in card
    assert "unknown, of the weights" in card or "the pictures they are of have unknown" in card


def test_the_report_shows_before_now_and_the_nearest_own_picture(fitted: Path) -> None:
    page = (fitted / "report" / "index.html").read_text()
    assert "<th>tiny<th>fitted<th>the nearest of your pictures" in page
    assert page.count("<img") == 4 * 3 + 2  # and of two captions the held-out picture
    lines = (fitted / "report" / "REPORT.md").read_text()
    assert "nearer to one of your pictures" in lines
    assert lines.count("![](row-") == 4 == len(list((fitted / "report").glob("row-*.jpg")))


def test_what_is_held_out_is_not_learned_from(fitted: Path) -> None:
    learned, judged = (Corpus(fitted / "corpus", split) for split in (Split.TRAIN, Split.UNSEEN_CONCEPTS))
    assert (len(learned), len(judged)) == (10, 2)
    assert not {*learned.column("key")} & {*judged.column("key")}


def test_drawings_of_a_bundle_with_styles_are_mixed_in_and_say_them(
    shapes: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    styled = Path(shutil.copytree(tiny_bundle, tmp_path / "styled"))
    manifest = json.loads((styled / "bundle.json").read_text())
    manifest["styles"] = {"known": ["flat", "3d"], "clear": ["flat"]}
    (styled / "bundle.json").write_text(json.dumps(manifest))
    work = fit(shapes, tmp_path / "out", styled)
    plan = finished(work.plan())
    assert (plan.kept, plan.share) == (8, 0.5)
    finished(work.gather(plan))
    train = Corpus(tmp_path / "out" / "corpus")
    kept = [k for k, source in enumerate(train.column("source")) if source == KEPT]
    assert len(kept) == 8
    assert all("flat" in train.name(k, "ko").casefold() or "플랫" in train.name(k, "ko") for k in kept)
    assert train.weights(None, None, {KEPT: plan.share})[kept].sum() == pytest.approx(0.5)


def test_all_prompts_are_drawn_as_the_pictures_unless_captions_have_words_in_common(
    fitted: Path, tiny_bundle: Path
) -> None:
    base = Bundle.load(tiny_bundle)
    base.manifest = replace(base.manifest, styles=Styles(("flat",), ("flat",)))
    plan = from_dict(Plan, json.loads((fitted / "fit.json").read_text())["plan"])
    assert writing.styles(base, plan) == Styles(("flat",), ())
    named = replace(plan, common="sks cup")
    assert writing.styles(base, named) == Styles(("flat",), ("flat",), ("sks cup",))


def test_without_a_time_each_stage_takes_the_steps_of_the_plan(fitted: Path) -> None:
    assert [newest_step(fitted / "run" / stage) for stage in ("prior", "decoder")] == [STEPS, STEPS]


def test_the_same_command_again_has_nothing_to_do(fitted: Path, shapes: Path, tiny_bundle: Path) -> None:
    again = fit(shapes, fitted, tiny_bundle)
    plan = finished(again.plan())
    assert again.done
    assert plan == from_dict(Plan, json.loads((fitted / "fit.json").read_text())["plan"])


def test_a_fit_that_was_stopped_goes_on(
    shapes: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def signalled(stop: threading.Event) -> Iterator[None]:
        stop.set()
        yield

    first = fit(shapes, tmp_path, tiny_bundle)
    plan = finished(first.plan())
    finished(first.gather(plan))
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="start the same command again"):
        patch.setattr(loop, "stop_signals", signalled)
        first.train(plan)
    assert newest_step(tmp_path / "run" / "prior") == 1
    second = fit(shapes, tmp_path, tiny_bundle)
    assert not second.done
    assert second.left(plan) < plan.training + plan.rest
    assert whole(second) == plan
    assert newest_step(tmp_path / "run" / "prior") == STEPS
    assert second.done


def test_adapters_change_the_attention_alone_and_lie_apart_as_well(
    shapes: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    plan = whole(fit(shapes, tmp_path / "mine", tiny_bundle, lora=2))
    assert plan.low_rank
    about = json.loads((tmp_path / "mine" / "lora" / "adapters.json").read_text())
    assert (about["bundle"], about["rank"], set(about["sha256"])) == ("tiny", 2, {"prior", "decoder"})
    merged, apart = Bundle.load(tmp_path / "mine"), open_bundle(tiny_bundle, tmp_path / "mine")
    before = Bundle.load(tiny_bundle)
    for stage in ("prior", "decoder"):
        old, now, too = (
            one.model(stage, dtype=torch.float32).state_dict() for one in (before, merged, apart)
        )
        for name in now:
            torch.testing.assert_close(now[name], too[name], atol=2e-2, rtol=2e-2)  # stored in bfloat16
        beside = {name for name, _, _ in attention_weights(merged.model(stage))}
        assert all(torch.equal(old[name], too[name]) for name in old if name not in beside)


def test_other_pictures_begin_a_fit_anew_and_the_old_one_is_kept(
    fitted: Path, shapes: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out, more = (Path(shutil.copytree(one, tmp_path / one.name)) for one in (fitted, shapes))
    (more / "green-circle-thin.svg").unlink()
    told: list[str] = []
    again = fit(more, out, tiny_bundle, say=told.append)
    finished(again.prepare())
    assert "your pictures, the bundle to begin with, or --lora have changed" in told[0]
    assert (out / "before" / "bundle" / "bundle.json").is_file()
    assert not again.done
    assert not (out / "run").exists()


def test_the_time_of_the_plan_is_the_time_that_was_given(
    shapes: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    plan = finished(fit(shapes, tmp_path, tiny_bundle, hours=0.1).plan())
    assert plan.training + plan.rest == pytest.approx(360)
    assert min(plan.steps.values()) > STEPS


def test_training_ends_when_the_time_is_over(shapes: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    work = fit(shapes, tmp_path, tiny_bundle, hours=1.0)
    plan = finished(work.plan())
    finished(work.gather(plan))
    document = json.loads((tmp_path / "fit.json").read_text())
    (tmp_path / "fit.json").write_text(json.dumps({**document, "closing": 5.0}))
    began = time.monotonic()
    work.hours = (began - work.began + 15.0) / 3600  # so little is left
    work.train(plan)
    assert 4 < time.monotonic() - began < 60  # of 10 s: a machine that does other work is no failure
    finished(work.finish(plan))
    assert work.done


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"hours": 0}, InputError, "hours: got 0, allowed is a number above 0"),
        ({"hours": 1e-5}, InputError, r"there is no time to learn in: give --hours 0\.\d+ or more"),
    ],
)
def test_a_time_in_which_nothing_can_be_learned_is_refused(
    shapes: Path, tiny_bundle: Path, tmp_path: Path, settings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        finished(fit(shapes, tmp_path, tiny_bundle, **settings).plan())


def test_a_bundle_of_another_family_is_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pictograms-dalle1 is of the family dalle1: `unclip fit` takes"):
        fit(shapes, tmp_path, Path("pictograms-dalle1"))


def test_too_few_pictures_are_refused(shapes: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("red-circle-thin.svg", "blue-square-thin.svg"):
        shutil.copy(shapes / name, few)
        (few / name).with_suffix(".txt").write_text(name.partition("-thin")[0].replace("-", " "))
    with pytest.raises(DataError, match="2 pictures that can be learned from: give at least 3"):
        finished(fit(few, tmp_path / "out", tiny_bundle).plan())


def test_a_corpus_is_taken_as_it_is(fitted: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    work = fit(fitted / "pictures", tmp_path / "out", tiny_bundle)
    folder = finished(work.prepare())
    assert folder.pictures == 12 == len(Corpus(fitted / "pictures", EVERYTHING))
    assert not (tmp_path / "out" / "pictures").exists()
