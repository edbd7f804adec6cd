"""The one thread that owns the models: it takes the jobs of many requests through the stages together.

Jobs join at the boundary of a stage: whatever waits before the same stage of the same bundle, and would be in
one call of its network, goes through it in one batch. Where a network paints from noise, a batch that comes
later joins those that are under way at whatever step they are (`flights`): its rows go into the same calls,
with steps of their own. The oldest goes first, but lets those catch up that will then share its calls, where
that takes no longer than what is left of it.

The verbs are the model's own. The model that they are given draws nothing itself: `Shared.draw` hands the
jobs in, and waits for what comes of them by telling of `WAITING`.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from unclip.drawing import Event, Job, Options, Picture
from unclip.errors import UnclipWarning, is_out_of_memory
from unclip.model import Model
from unclip.pipeline import PICTURES, Part, Piece, Route, pieces
from unclip.serve.flights import Flight, Joined, can_fly, step
from unclip.serve.memory import free_bytes
from unclip.serve.models import Models
from unclip.serve.worker import Cancelled, Observe, OutOfMemory, Result, Task
from unclip.stages.painting import Painting
from unclip.stages.stage import Stage, chunks

WAITING = Event("waiting", 0, 0, 0.0)
IDLE_SECONDS = 1.0  # between two looks at whether to stop


@dataclass(frozen=True, eq=False)
class Waiting:
    """A part before its next stage; `alone` after it failed in company."""

    part: Part
    bundle: str
    arrived: tuple[int, int]
    alone: bool = False


class Shared(Model):
    """A model whose jobs are drawn together with those of other requests."""

    def __init__(self, model: Model, hand_in: Callable[[list[Part]], Iterator[Event]]) -> None:
        vars(self).update(vars(model))
        self._told = set()  # everybody is warned, not only who comes first
        self._hand_in = hand_in

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        return self._hand_in(self.parts(jobs, options))


class Scheduler(threading.Thread):
    """The worker (`worker.Worker`) of this process.

    Args:
        models: the bundles.
        observe: hears of each batch: the stage, its rows, and the seconds that it took.
    """

    def __init__(self, models: Models, observe: Observe = lambda stage, rows, seconds: None) -> None:
        super().__init__(name="unclip-scheduler", daemon=True)
        self.models = models
        self._observe = observe
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._waiting: list[Waiting] = []
        self._tasks: list[Task] = []
        self._postponed: deque[Task] = deque()  # until another bundle may be let go for theirs
        self._owners: dict[Route, Task] = {}
        self._stopping = False
        self._flights: list[Flight] = []  # of one model and one network
        self._joined = Joined()
        self._step_seconds: dict[tuple[str, str], float] = {}  # of a bundle's stage, as they were last
        self._last_seconds = 0.0  # of the last batch
        self._turn = False  # of a verb's own work, beside batches

    # --- for other threads ---

    def submit(self, task: Task) -> None:
        """Draw a task; it hears of its end whatever happens."""
        task.arrived = next(self._numbers)
        self._commands.put(lambda: self._begin(task))

    def cancel(self, task: Task) -> None:
        """End a task before the next step that it would take. What has ended is left as it is."""
        task.cancelled = True
        self._commands.put(lambda: None)

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """Do something with a model between two steps."""
        future: Future[Result] = Future()

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        self._commands.put(command)
        return future

    def with_model(self, bundle: str, work: Callable[[Model], Result]) -> Future[Result]:
        """Do something with a model, loaded now if it is not, between two steps."""
        return self.call(lambda: work(self.models.get(bundle)))

    def load(self, bundle: str) -> Future[None]:
        """Have a bundle read its networks, between two steps."""
        return self.call(lambda: self.models.load(bundle))

    def unload(self, bundle: str) -> Future[None]:
        """Let a bundle's networks go, between two steps."""
        return self.call(lambda: self.models.unload(bundle))

    @property
    def loaded(self) -> Collection[str]:
        """Names of the bundles whose networks are in memory."""
        return tuple(self.models.loaded)

    def stop(self) -> None:
        """End the thread when nothing is left to draw."""
        self._stopping = True
        self._commands.put(lambda: None)

    # --- the thread ---

    def run(self) -> None:
        while not (self._stopping and not self._tasks and not self._postponed and self._commands.empty()):
            try:
                self._work()
            except Exception as error:  # what nobody has foreseen ends what is there, and not the server
                self._waiting.clear()
                self._land_all()
                for task in list(self._tasks):
                    self._end(task, error)

    def _work(self) -> None:
        """Do what others ask for, then one thing of what there is to draw."""
        self._obey(wait=not self._tasks and not self._postponed)
        self._take_up()
        movable = next((task for task in self._tasks if not task._waits), None)
        waiting = self._next()
        ahead: list[Waiting | Flight] = [*self._flights] if waiting is None else [waiting]
        if movable is not None and all(movable.arrived <= one.arrived[0] for one in ahead):
            self._move(movable)
        elif movable is not None and self._turn:
            self._turn = False
            self._move(movable, self._last_seconds)
        elif waiting is not None:
            self._turn = True
            self._through(waiting)
        elif self._flights:
            self._turn = True
            self._step()

    def _next(self) -> Waiting | None:
        """The oldest that waits, or what shall catch up with it; None where those under way are to go on."""
        if not self._waiting:
            return None
        ordered = sorted(self._waiting, key=lambda waiting: waiting.arrived)
        boards = next((waiting for waiting in ordered if self._may_board(waiting)), None)
        if boards is not None:
            return boards
        oldest, *younger = ordered
        if any(flight.arrived < oldest.arrived for flight in self._flights):
            return next((waiting for waiting in ordered if self._may_catch_up(waiting)), None)
        stage, count = oldest.part.left[0], len(oldest.part)
        count += sum(len(other.part) for other in younger if self._together_with(oldest, other))
        if oldest.alone or count >= (stage.at_once or self._group(oldest)):
            return oldest
        patience = self._seconds(oldest, len(oldest.part.left), unknown=math.inf)
        for flight in self._flights:
            before = len(flight.part.left) - len(oldest.part.left)
            if (
                before > 0
                and flight.bundle == oldest.bundle
                and flight.part.left[before:] == oldest.part.left
                and not any(route.competes for route in (*oldest.part.routes, *flight.part.routes))
                and self._left(flight, before) <= patience
            ):
                return None
        for other in younger:
            before = len(other.part.left) - len(oldest.part.left)
            behind = replace(other.part, left=other.part.left[max(before, 0) :])
            if (
                before > 0
                and other.bundle == oldest.bundle
                and not other.alone
                and oldest.part.left == behind.left
                and not any(route.competes for route in (*oldest.part.routes, *behind.routes))
                and self._seconds(other, before) <= patience
            ):
                return other
        return oldest

    def _may_board(self, waiting: Waiting) -> bool:
        """Can a batch that waits join those under way now?"""
        stage = waiting.part.left[0]
        return self._has_seats(waiting, stage) and len(stage.calls(waiting.part.batch.jobs)) == 1

    def _may_catch_up(self, waiting: Waiting) -> bool:
        """Can it soon, when stages that take no longer than what is left for those are done?"""
        for before, stage in enumerate(waiting.part.left):
            if before and self._has_seats(waiting, stage):
                left = max(self._left(flight, 1, unknown=math.inf) for flight in self._flights)
                return self._seconds(waiting, before) <= left
        return False

    def _has_seats(self, waiting: Waiting, stage: Stage) -> bool:
        """Is it before the stage that others are under way through, and is there room for its rows?"""
        if not self._flights or waiting.alone:
            return False
        first = self._flights[0]
        networks = first.model.networks
        if (waiting.bundle, stage.name) != (first.bundle, first.stage.name) or not can_fly(stage, networks):
            return False
        taken = sum(len(flight.part) for flight in self._flights)
        most = networks.pictures(stage.side(None)) if isinstance(stage, Painting) else 0
        return taken + len(waiting.part) <= most and self.models.get(waiting.bundle) is first.model

    def _together_with(self, one: Waiting, other: Waiting) -> bool:
        return one.bundle == other.bundle and not other.alone and one.part.joins(other.part)

    def _group(self, waiting: Waiting) -> int:
        """The most pictures that go through stages together."""
        return self.models.get(waiting.bundle).networks.group

    def _left(self, flight: Flight, stages: int, unknown: float = 0.0) -> float:
        """The time that is left of a flight, and of the stages behind it."""
        step = self._step_seconds.get((flight.bundle, flight.stage.name), unknown)
        behind = Waiting(replace(flight.part, left=flight.part.left[1:]), flight.bundle, flight.arrived)
        return step * (flight.steps - flight.done) + self._seconds(behind, stages - 1)

    def _seconds(self, waiting: Waiting, stages: int, unknown: float = 0.0) -> float:
        """The time that the next stages of a part take; `unknown` where one was not measured yet."""
        jobs, total = waiting.part.batch.jobs, 0.0
        for stage in waiting.part.left[:stages]:
            if steps := stage.steps(jobs):
                total += self._step_seconds.get((waiting.bundle, stage.name), unknown) * steps
        return total

    def _obey(self, wait: bool = False) -> None:
        """Do what other threads have asked for, and end what is cancelled."""
        try:
            while True:
                self._commands.get(block=wait, timeout=IDLE_SECONDS if wait else None)()
                wait = False
        except queue.Empty:
            pass
        for task in [task for task in self._tasks if task.cancelled]:
            self._end(task, Cancelled("cancelled"))

    def _take_up(self) -> None:
        """Begin what was postponed, as far as that can be, in its order."""
        while self._postponed and (self._postponed[0].cancelled or not self._swaps(self._postponed[0])):
            self._begin(self._postponed.popleft(), again=True)

    def _swaps(self, task: Task) -> bool:
        """Would its bundle take the room of one that draws something?"""
        leaving = self.models.leaving(task.bundle)
        return any(other.bundle in leaving for other in self._tasks)

    def _begin(self, task: Task, again: bool = False) -> None:
        if task.cancelled:
            task.end(Cancelled("cancelled"))
            return
        if not again and (self._postponed or self._swaps(task)):
            self._postponed.append(task)
            return
        self._tasks.append(task)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UnclipWarning)
                model = self.models.get(task.bundle)
                if task.prompt:
                    (task.tokens,) = model.lengths([task.prompt])
                task._events = task.begin(Shared(model, lambda parts: self._handed_in(task, parts)))
            task.warnings = [str(one.message) for one in said if issubclass(one.category, UnclipWarning)]
        except Exception as error:
            self._end(task, error)

    def _move(self, task: Task, most_seconds: float = math.inf) -> None:
        """Have a verb do its own work, until it waits for pictures, is done, or has had its time."""
        assert task._events is not None  # it was begun
        until = time.perf_counter() + most_seconds
        try:
            for event in task._events:
                if event.stage == WAITING.stage:
                    task._waits = True
                    return
                task._finished += event.pictures
                task.seconds += event.seconds
                task.tell(event)
                self._obey()
                if task.cancelled or time.perf_counter() > until:
                    return
        except Exception as error:
            self._end(task, error)
        else:
            self._end(task, task._finished)

    def _end(self, task: Task, outcome: Sequence[Picture] | Exception) -> None:
        if task not in self._tasks:
            return
        self._tasks.remove(task)
        self._owners = {route: owner for route, owner in self._owners.items() if owner is not task}
        self._waiting = [kept for waiting in self._waiting if (kept := self._wanted(waiting)) is not None]
        if isinstance(task._events, Generator):
            task._events.close()
        task.end(outcome)

    def _handed_in(self, task: Task, parts: list[Part]) -> Iterator[Event]:
        """Let parts wait for their first stage; the events are what comes of them.

        Raises OutOfMemory where there is none for a picture of their size.
        """
        parts = [small for part in parts for small in self._fitting(part, task.bundle)]
        for part in parts:
            self._owners |= dict.fromkeys(part.routes, task)
            self._waiting.append(Waiting(part, task.bundle, (task.arrived, next(self._numbers))))
        expected = sum((pieces(part) for part in parts), Counter())[PICTURES]

        def come() -> Iterator[Event]:
            left = expected
            while left:
                if task._failure is not None:
                    raise task._failure
                if not task._inbox:
                    yield WAITING
                    continue
                event = task._inbox.popleft()
                left -= len(event.pictures)
                yield event

        return come()

    def _fitting(self, part: Part, bundle: str) -> list[Part]:
        """A part as it is, or in smaller ones where there is not memory for all of it. Raises OutOfMemory."""
        model, size = self.models.get(bundle), max(route.size for route in part.routes)
        free, each = free_bytes(model.device), self.models.needed(bundle, size)
        if free is None or each * min(len(part), model.networks.pictures(size)) <= free:
            return [part]
        if each > free:
            raise OutOfMemory(
                f"a picture of {size} px takes about {each // 10**6} MB, and {free // 10**6} MB are free: "
                "ask for a smaller one"
            )
        if part.batch.read is not None or any(route.competes for route in part.routes):
            return [part]  # what is read or chosen of a batch as a whole cannot be taken apart
        return [part.rows(rows) for rows in chunks(range(len(part)), free // each)]

    def _wanted(self, waiting: Waiting) -> Waiting | None:
        """Without the jobs of tasks that have ended."""
        part = waiting.part
        rows = [row for row, route in enumerate(part.routes) if route in self._owners]
        if not rows:
            return None
        # what is read of a batch as a whole cannot be taken apart
        return waiting if part.batch.read is not None else replace(waiting, part=part.rows(rows))

    # --- one stage ---

    def _together(self, oldest: Waiting) -> Part:
        """The parts that go through the next stage with the oldest one; the rest waits."""
        part, stage = oldest.part, oldest.part.left[0]
        self._waiting.remove(oldest)
        whole = oldest.alone or part.batch.read is not None or any(route.competes for route in part.routes)
        most = stage.at_once or (len(part) if whole else self._group(oldest))
        if whole:
            rows = list(range(len(part)))
        else:
            mates = [
                waiting
                for waiting in sorted(self._waiting, key=lambda waiting: waiting.arrived)
                if self._together_with(oldest, waiting)
            ]
            self._waiting = [waiting for waiting in self._waiting if waiting not in mates]
            part = Part.joined([part, *(mate.part for mate in mates)])
            rows = next(rows for rows in stage.calls(part.batch.jobs) if 0 in rows)
        rows = rows[:most]
        if rest := sorted(set(range(len(part))) - set(rows)):
            left = part.rows(rest)
            arrived = min(self._owners[route].arrived for route in left.routes)
            self._waiting.append(replace(oldest, part=left, arrived=(arrived, next(self._numbers))))
        return part.rows(rows)

    def _through(self, oldest: Waiting) -> None:
        """Take the oldest part, and what joins it, through its next stage, or let it take its first step."""
        part, model = self._together(oldest), self.models.get(oldest.bundle)
        under_way = not self._flights or self._has_seats(replace(oldest, part=part), part.left[0])
        if not oldest.alone and under_way and can_fly(part.left[0], model.networks):
            self._flights.append(Flight(part, model, oldest.bundle, oldest.arrived))
            return
        stage, began = part.left[0], time.perf_counter()
        try:
            steps, done = stage.steps(part.batch.jobs), 0
            work = model.advanced(part)
            while True:
                started = time.perf_counter()
                try:
                    piece = next(work)
                except StopIteration as stop:
                    after: Part = stop.value
                    break
                done += 1
                self._tell(part, piece, done, steps, time.perf_counter() - started)
                self._obey()
                if not any(route in self._owners for route in part.routes):
                    work.close()
                    return
            self._behind(after, model, oldest.bundle, oldest.arrived[0])
        except Exception as error:
            self._failed(oldest.bundle, part, error)
        else:
            self._step_seconds[oldest.bundle, stage.name] = (time.perf_counter() - began) / max(1, done)
        finally:
            self._last_seconds = time.perf_counter() - began
            self._observe(stage.name, len(part), self._last_seconds)

    def _behind(self, after: Part, model: Model, bundle: str, arrived: int) -> None:
        """A part has gone through a stage: it is finished, or waits for the next one."""
        kept = self._wanted(Waiting(after, bundle, (arrived, next(self._numbers))))
        if kept is not None and not kept.part.left:
            self._finish(kept.part, model)
        elif kept is not None:
            self._waiting.append(kept)

    def _step(self) -> None:
        """Have all that are under way take a step."""
        flights, began = list(self._flights), time.perf_counter()
        rows = sum(len(flight.part) for flight in flights)
        told = step(flights, self._joined)
        self._last_seconds = time.perf_counter() - began
        self._step_seconds[flights[0].bundle, flights[0].stage.name] = self._last_seconds
        for flight, outcome in told:
            seconds = self._last_seconds * len(flight.part) / rows
            flight.seconds += seconds
            if isinstance(outcome, Piece):
                flight.done += 1
                self._tell(flight.part, outcome, flight.done, flight.steps, seconds)
                continue
            self._flights.remove(flight)
            self._observe(flight.stage.name, flight.most, flight.seconds)
            if isinstance(outcome, Exception):
                self._failed(flight.bundle, flight.part, outcome)
            else:
                self._behind(outcome, flight.model, flight.bundle, flight.arrived[0])
        self._obey()
        for flight in list(self._flights):
            if not any(route in self._owners for route in flight.part.routes):
                self._flights.remove(flight)
                flight.end()

    def _land_all(self) -> None:
        while self._flights:
            self._flights.pop().end()

    def _tell(self, part: Part, piece: Piece, done: int, steps: int, seconds: float) -> None:
        """Tell the owners of a batch's jobs of a step."""
        rows: dict[Task, list[int]] = {}
        for row, route in enumerate(part.routes):
            if route in self._owners:
                rows.setdefault(self._owners[route], []).append(row)
        estimate = piece.estimate if piece.estimate is not None and len(piece.estimate) == len(part) else None
        for task, own in rows.items():
            share = None if estimate is None else estimate[own]
            task._inbox.append(
                Event(piece.stage, done, steps, seconds * len(own) / len(part), estimate=share)
            )
            task._waits = False
            self._move(task)

    def _finish(self, part: Part, model: Model) -> None:
        pictures = model.finished(part)
        tasks = dict.fromkeys(self._owners[route] for route in part.routes)
        for picture, route in zip(pictures, part.routes, strict=True):
            self._owners[route]._inbox.append(Event(PICTURES, 1, 1, 0.0, (picture,)))
        for task in tasks:
            task._waits = False
            self._move(task)

    def _failed(self, bundle: str, part: Part, error: Exception) -> None:
        """Try again what failed in company, each owner's alone, or each picture where memory ran out."""
        owners = [self._owners.get(route) for route in part.routes]
        rows: dict[object, list[int]] = {}
        for row, owner in enumerate(owners):
            if owner is not None:
                key: object = (owner, row) if is_out_of_memory(error) else owner
                rows.setdefault(key, []).append(row)
        divisible = part.batch.read is None and not any(route.competes for route in part.routes)
        if len(rows) > 1 and divisible:
            for own in rows.values():
                owner = owners[own[0]]
                assert owner is not None
                arrived = (owner.arrived, next(self._numbers))
                self._waiting.append(Waiting(part.rows(own), bundle, arrived, alone=True))
            return
        if is_out_of_memory(error):
            error = OutOfMemory("out of memory: ask for a smaller picture")
        for owner in {owner for owner in owners if owner is not None}:
            owner._failure, owner._waits = error, False
            owner._inbox.clear()
            self._move(owner)
