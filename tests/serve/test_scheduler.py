"""Promises of the scheduler: pictures are the same in any company, and nobody's end touches a mate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.pictures import ROUNDING, difference, holed, speckled
from unclip.drawing import Event, Picture
from unclip.errors import InputError
from unclip.manipulate.editing import edit
from unclip.manipulate.outpaint import Margins, outpaint
from unclip.manipulate.variations import blend, vary
from unclip.model import Model
from unclip.pipeline import Part, pictures_of
from unclip.serve import scheduler
from unclip.serve.models import Models
from unclip.serve.scheduler import Scheduler
from unclip.serve.worker import Cancelled, OutOfMemory, Task

PATIENCE = 300.0
Begin = Callable[[Model], Iterator[Event]]


@pytest.fixture
def models(tiny_bundle: Path) -> Models:
    return Models.of([str(tiny_bundle)], device="cpu", precision="float32")


class Company:
    """Tasks that are submitted to one scheduler, and how they ended."""

    def __init__(self, models: Models) -> None:
        self.batches: list[tuple[str, int]] = []
        self.ends: dict[int, Sequence[Picture] | Exception] = {}
        self.heard: dict[int, list[Event]] = {}
        self.tasks: list[Task] = []
        self.scheduler = Scheduler(models, lambda stage, rows, _: self.batches.append((stage, rows)))

    def __enter__(self) -> Company:
        self.scheduler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.scheduler.stop()
        self.scheduler.join(PATIENCE)
        assert not self.scheduler.is_alive()

    def add(
        self,
        begin: Begin,
        on_event: Callable[[Event], None] = lambda event: None,
        bundle: str = "tiny",
    ) -> Task:
        number = len(self.tasks)
        self.heard[number] = []

        def tell(event: Event) -> None:
            self.heard[number].append(event)
            on_event(event)

        def end(outcome: Sequence[Picture] | Exception) -> None:
            assert number not in self.ends  # told once
            self.ends[number] = outcome

        task = Task(bundle, begin, tell=tell, end=end)
        self.tasks.append(task)
        self.scheduler.submit(task)
        return task

    def wait(self) -> list[Sequence[Picture] | Exception]:
        until = time.monotonic() + PATIENCE
        while len(self.ends) < len(self.tasks) and time.monotonic() < until:
            time.sleep(0.005)
        return [self.ends[number] for number in range(len(self.tasks))]

    def held(self) -> threading.Event:
        """Keeps the thread from drawing until it is set: so that tasks meet."""
        free = threading.Event()
        self.scheduler.call(lambda: free.wait(PATIENCE))
        return free


PICTURE, MASK = speckled(256), holed(256, 256, (64, 64, 192, 160))
KINDS: list[Begin] = [
    lambda model: model.stream("a red apple", n=3, seed=1, size=256),
    lambda model: model.stream("빨간 사과", n=1, seed=2, size=64),
    lambda model: model.stream("ein roter Apfel, a green apple", seed=3, size=512, steps=5),
    lambda model: model.stream("a red apple", n=1, seed=4, size=256, guidance=5.0),
    lambda model: model.stream("a green apple", n=2, rerank=5, seed=5, size=256),
    lambda model: edit(model, PICTURE, MASK, "a red apple", n=2, seed=6, steps=3),
    lambda model: edit(model, speckled(90, 70), holed(90, 70, (9, 9, 40, 40)), "an apple", seed=7, steps=2),
    lambda model: vary(model, PICTURE, n=2, seed=8, steps=3, size=256),
    lambda model: vary(model, PICTURE, strength=0.5, seed=9, steps=3, size=64),
    lambda model: blend(model, [PICTURE, MASK], frames=3, seed=10, steps=3, size=64),
    lambda model: outpaint(model, speckled(64), "a red apple", Margins(left=20), seed=11, steps=2),
    lambda model: model.stream("a red apple", seed=12, size=64, init=PICTURE, strength=0.5),
]


@pytest.mark.parametrize("seed", range(2))
def test_pictures_are_the_same_alone_and_in_any_company(models: Models, seed: int) -> None:
    """All verbs, of all sizes, arriving at random."""
    model, chance = models.get("tiny"), random.Random(seed)
    kinds = chance.sample(range(len(KINDS)), len(KINDS))
    with Company(models) as company:
        for kind in kinds:
            company.add(KINDS[kind])
            time.sleep(chance.choice((0.0, 0.0, 0.01, 0.1)))
        ends = company.wait()
    for kind, end in zip(kinds, ends, strict=True):
        assert not isinstance(end, Exception), (kind, end)
        expected = pictures_of(KINDS[kind](model))
        assert len(end) == len(expected)
        pairs = zip(*(sorted(some, key=lambda p: p.index) for some in (end, expected)), strict=True)
        for one, other in pairs:
            assert difference(one, other) <= ROUNDING, kind
            assert one.metadata.keys() == other.metadata.keys()
            assert (one.seed, one.index) == (other.seed, other.index)


def test_a_draw_an_edit_and_a_variation_share_the_calls_of_every_network(models: Models) -> None:
    with Company(models) as company:
        free = company.held()
        for kind in (0, 5, 7):
            company.add(KINDS[kind])
        free.set()
        company.wait()
    assert ("upsampler-256", 7) in company.batches  # 3 + 2 + 2
    assert ("decoder", 7) in company.batches  # though an edit takes other steps than a draw


def test_a_task_that_comes_in_mid_stage_joins_those_that_are_at_other_steps(models: Models) -> None:
    """It arrives when another is at step 5 of its decoder."""
    calls: list[set[float]] = []  # the labels of each call, which say the steps
    network = models.get("tiny").networks["decoder"]
    hook = network.register_forward_pre_hook(lambda _, given: calls.append(set(given[1].tolist())))
    with Company(models) as company:

        def at_step_5(event: Event) -> None:
            if event.stage == "decoder" and event.step == 5 and len(company.tasks) == 1:
                company.add(lambda model: model.stream("a green apple", seed=2, size=64, steps=12))

        free = company.held()
        company.add(lambda model: model.stream("a red apple", seed=1, n=2, size=256, steps=20), at_step_5)
        free.set()
        first, second = company.wait()
    hook.remove()
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    both = [labels for labels in calls if len(labels) == 2]
    assert len(both) == 12  # every step of the second is in a call of the first
    assert len(calls) == 20
    model = models.get("tiny")
    alone = model.generate("a red apple", seed=1, n=2, size=256, steps=20)
    alone += model.generate("a green apple", seed=2, size=64, steps=12)
    assert all(difference(a, b) <= ROUNDING for a, b in zip((*first, *second), alone, strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_random_arrivals_within_one_stage_leave_every_picture_as_it_is_alone(
    models: Models, seed: int
) -> None:
    """Noise and conditioning are bit-equal: float32 pictures differ by what kernels round alone."""
    model, chance = models.get("tiny"), random.Random(seed)
    asked: list[dict[str, Any]] = []
    for number in range(6):
        fields = {"seed": number, "n": chance.randint(1, 3), "steps": chance.randint(4, 12)}
        sampler = chance.choice(["ancestral", "ddim", "heun", "dpm++"])
        guidance = {"guidance": 1.0} if chance.random() < 0.2 else {}
        asked.append({**fields, "sampler": sampler, **guidance})
    with Company(models) as company:
        for fields in asked:
            company.add(lambda model, fields=fields: model.stream("a red apple", size=64, **fields))
            time.sleep(chance.random() * 0.02)
        ends = company.wait()
    for fields, end in zip(asked, ends, strict=True):
        assert not isinstance(end, Exception), end
        for one, other in zip(end, model.generate("a red apple", size=64, **fields), strict=True):
            assert difference(one, other) <= ROUNDING, fields
            assert one.metadata == other.metadata
    assert max(rows for stage, rows in company.batches if stage == "decoder") > 3  # they met


@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler-256"])
def test_a_cancelled_task_ends_before_the_next_step_and_leaves_its_mates_alone(
    models: Models, stage: str
) -> None:
    (expected,) = models.get("tiny").generate("a red apple", seed=1)
    with Company(models) as company:
        free = company.held()
        company.add(lambda model: model.stream("a red apple", seed=1))
        seen: list[Event] = []

        def on_event(event: Event) -> None:
            seen.append(event)
            if event.stage == stage:
                company.scheduler.cancel(doomed)

        doomed = company.add(lambda model: model.stream("a red apple", n=2, seed=2), on_event)
        free.set()
        mate, cancelled = company.wait()
    assert isinstance(cancelled, Cancelled)
    assert [event.stage for event in seen].count(stage) == 1
    assert not isinstance(mate, Exception)
    assert difference(mate[0], expected) <= ROUNDING


def test_a_task_alone_that_is_cancelled_stops_the_network(models: Models) -> None:
    calls = []
    hook = models.get("tiny").networks["decoder"].register_forward_pre_hook(lambda *_: calls.append(1))
    with Company(models) as company:
        task = company.add(
            lambda model: model.stream("a red apple", seed=2, steps=200, size=64),
            lambda event: company.scheduler.cancel(task) if event.stage == "decoder" else None,
        )
        company.wait()
    hook.remove()
    assert len(calls) < 6


def test_what_is_wrong_is_refused_and_told_to_its_task_alone(models: Models) -> None:
    with Company(models) as company:
        company.add(lambda model: model.stream("", size=64))
        company.add(lambda model: model.stream("a red apple", size=63))
        company.add(lambda model: model.stream("a red apple", size=64, seed=1))
        first, second, third = company.wait()
    assert isinstance(first, InputError)
    assert isinstance(second, InputError)
    assert not isinstance(third, Exception)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_without_memory_for_all_they_are_drawn_one_by_one(
    models: Models, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model = models.get("tiny")
    expected = model.generate("a red apple", n=2, seed=1)
    original = Model.advanced

    def scarce(self: Model, part: Part) -> Any:
        if part.left[0].name == "decoder" and len(part) > 1:
            raise error
        return (yield from original(self, part))

    monkeypatch.setattr(Model, "advanced", scarce)
    with Company(models) as company:
        free = company.held()
        company.add(lambda model: model.stream("a red apple", n=2, seed=1))
        company.add(lambda model: model.stream("a red apple", seed=2))
        free.set()
        first, second = company.wait()
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    assert [rows for stage, rows in company.batches if stage == "decoder"][1:] == [1, 1, 1]
    assert all(difference(a, b) <= ROUNDING for a, b in zip(first, expected, strict=True))


def test_a_call_that_has_no_memory_for_all_is_computed_for_each_of_them(models: Models) -> None:
    rows: list[int] = []

    def scarce(_: Any, given: tuple[Any, ...]) -> None:
        rows.append(len(given[0]))
        if len(given[0]) > 2:  # of one picture there are two, with guidance
            raise MemoryError

    model = models.get("tiny")
    expected = [model.generate("a red apple", seed=seed, size=64, steps=seed + 2)[0] for seed in (1, 2)]
    with Company(models) as company:
        free = company.held()
        for seed in (1, 2):  # of different steps, so that they are no one batch

            def begin(model: Model, seed: int = seed) -> Iterator[Event]:
                return model.stream("a red apple", seed=seed, size=64, steps=seed + 2)

            company.add(begin)
        hook = model.networks["decoder"].register_forward_pre_hook(scarce)
        free.set()
        ends = company.wait()
    hook.remove()
    assert max(rows) == 4
    for end, other in zip(ends, expected, strict=True):
        assert not isinstance(end, Exception)
        assert difference(end[0], other) <= ROUNDING


def test_one_picture_without_memory_fails_clearly_and_alone(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Model.advanced

    def scarce(self: Model, part: Part) -> Any:
        if any(job.seed == 2 for job in part.batch.jobs) and part.left[0].name == "decoder":
            raise MemoryError
        return (yield from original(self, part))

    monkeypatch.setattr(Model, "advanced", scarce)
    with Company(models) as company:
        free = company.held()
        company.add(lambda model: model.stream("a red apple", seed=1))
        company.add(lambda model: model.stream("a red apple", seed=2))
        free.set()
        first, second = company.wait()
    assert not isinstance(first, Exception)
    assert isinstance(second, OutOfMemory)


def test_a_failure_in_company_fails_the_one_that_fails_alone(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Model.advanced

    def broken(self: Model, part: Part) -> Any:
        if any(job.seed == 2 for job in part.batch.jobs) and part.left[0].name == "upsampler-256":
            raise ValueError("broken")
        return (yield from original(self, part))

    monkeypatch.setattr(Model, "advanced", broken)
    with Company(models) as company:
        free = company.held()
        for seed in (1, 2, 3):
            company.add(lambda model, seed=seed: model.stream("a red apple", seed=seed))
        free.set()
        first, second, third = company.wait()
    assert not isinstance(first, Exception)
    assert isinstance(second, ValueError)
    assert not isinstance(third, Exception)


def test_events_tell_of_every_stage_and_show_ones_own_picture(models: Models) -> None:
    with Company(models) as company:
        free = company.held()
        company.add(lambda model: model.stream("a red apple", n=2, seed=1))
        company.add(lambda model: model.stream("a red apple", n=1, seed=2))
        free.set()
        company.wait()
    alone = [event.estimate for event in models.get("tiny").stream("a red apple", n=2, seed=1)]
    heard = [event.estimate for event in company.heard[0]]
    assert [event.stage for event in company.heard[0]][:1] == ["prompt"]
    last = next(one for one in reversed(heard) if one is not None)
    other = next(one for one in reversed(alone[:-1]) if one is not None)
    assert last.shape == other.shape == (2, 3, 256, 256)
    assert (last - other).abs().max() < 0.02
    for event in company.heard[0]:
        assert 1 <= event.step <= max(1, event.total)


def test_memory_bounds_the_bundles_that_are_loaded_and_the_oldest_goes_first(
    tiny_bundle: Path, two_priors_bundle: Path
) -> None:
    both = [str(tiny_bundle), str(two_priors_bundle)]
    models = Models.of(both, ["other=two-priors"], device="cpu", memory=1)
    assert models.named("other") == "two-priors"
    assert models.named("nope") is None
    models.get("tiny")
    models.get("two-priors")
    assert list(models.loaded) == ["two-priors"]
    roomy = Models.of(both, device="cpu", memory=10**9)
    roomy.get("tiny")
    roomy.get("two-priors")
    assert list(roomy.loaded) == ["tiny", "two-priors"]


def test_a_bundle_that_draws_is_not_let_go_for_another_and_each_has_its_turn(
    tiny_bundle: Path, two_priors_bundle: Path
) -> None:
    names = ("tiny", "two-priors")
    folders = [str(tiny_bundle), str(two_priors_bundle)]
    models = Models.of(folders, device="cpu", precision="float32", memory=1)
    apart: list[tuple[str, list[str]]] = []
    with Company(models) as company:
        free = company.held()
        for number in range(6):
            name = names[number % 2]

            def hear(event: Event, name: str = name) -> None:
                apart.append((name, list(models.loaded)))

            company.add(lambda model, seed=number: model.stream("a cat", seed=seed, size=64), hear, name)
        free.set()
        ends = company.wait()
    assert all(loaded == [name] for name, loaded in apart)
    roomy = Models.of(folders, device="cpu", precision="float32")
    for number, end in enumerate(ends):
        assert not isinstance(end, Exception), end
        (expected,) = roomy.get(names[number % 2]).generate("a cat", seed=number, size=64)
        assert difference(end[0], expected) <= ROUNDING


def test_what_there_is_no_memory_for_is_told_before_it_is_drawn_and_alone(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = models.needed("tiny", 1024), models.needed("tiny", 64)
    assert large > 100 * small > 10**6
    monkeypatch.setattr(scheduler, "free_bytes", lambda device: 2 * small)
    with Company(models) as company:
        company.add(lambda model: model.stream("a red apple", seed=1, size=1024))
        company.add(lambda model: model.stream("a red apple", seed=1, n=5, size=64))
        first, second = company.wait()
    assert isinstance(first, OutOfMemory)
    assert "a picture of 1024 px takes about" in str(first)
    assert not [rows for stage, rows in company.batches if stage.startswith("upsampler")]
    assert not isinstance(second, Exception)
    expected = models.get("tiny").generate("a red apple", seed=1, n=5, size=64)
    pairs = zip(sorted(second, key=lambda picture: picture.index), expected, strict=True)
    assert all(difference(a, b) <= ROUNDING for a, b in pairs)


def test_what_is_served_goes_through_the_translator(tiny_bundle: Path) -> None:
    texts = {"빨간 사과": "a red apple"}
    models = Models.of([str(tiny_bundle)], device="cpu", precision="float32", translate=texts.__getitem__)
    (picture,) = models.get("tiny").generate("빨간 사과", size=64, seed=1)
    assert (picture.prompt, picture.settings["translation"]) == ("빨간 사과", "a red apple")
    with pytest.raises(InputError, match="is no program that is here"):
        Models.of([str(tiny_bundle)], translate="no-such-program")


def test_exact_pictures_are_the_same_bits_in_any_company(tiny_bundle: Path) -> None:
    models = Models.of([str(tiny_bundle)], device="cpu", exact=True)
    with Company(models) as company:
        free = company.held()
        for seed in (1, 2, 3):
            company.add(lambda model, seed=seed: model.stream("a red apple", seed=seed))
        company.add(lambda model: edit(model, PICTURE, MASK, "a red apple", seed=4, steps=2))
        free.set()
        ends = company.wait()
    model = models.get("tiny")
    expected = [model.generate("a red apple", seed=seed)[0] for seed in (1, 2, 3)]
    expected += model.edit(PICTURE, MASK, "a red apple", seed=4, steps=2)
    for end, other in zip(ends, expected, strict=True):
        assert not isinstance(end, Exception)
        assert end[0].image.tobytes() == other.image.tobytes()


def test_a_failure_that_nobody_foresaw_ends_what_is_there_and_not_the_server(models: Models) -> None:
    def fails(event: Event) -> None:
        raise KeyError("listener")

    with Company(models) as company:
        company.add(lambda model: model.stream("a red apple", seed=1, size=64), fails)
        while not company.ends:
            time.sleep(0.01)
        company.add(lambda model: model.stream("a red apple", seed=1, size=64))
        first, second = company.wait()
    assert isinstance(first, KeyError)
    assert not isinstance(second, Exception)
