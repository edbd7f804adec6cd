"""Drawing on many machines: a worker that hands its tasks to the replicas of a Ray Serve deployment.

Nothing of Ray's is reached by clients: admission, jobs, streaming and cancelling stay with this process, and
Ray's router sends a task to the one of two replicas, taken by chance, that has fewer. A replica is a process
with a `Scheduler` of its own, so batches are made as on one machine.

A task whose replica dies is drawn again elsewhere; its seed came with it, so the picture is the same.
`ray_cluster.settle` is to be called before this file is imported.
https://docs.ray.io/en/latest/serve/model_composition.html
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
import torch
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from unclip.drawing import Event, Picture
from unclip.errors import UnclipError
from unclip.images import from_uint8, to_uint8
from unclip.model import Model
from unclip.ray_cluster import HERE, ClusterError, connect
from unclip.serve.cluster import DEFAULT_SIZE, Size
from unclip.serve.errors import ApiError
from unclip.serve.log import log
from unclip.serve.models import Models, first_picture
from unclip.serve.scheduler import Scheduler
from unclip.serve.worker import Begin, Cancelled, Observe, Task

NAME = "unclip"  # of the application and of its deployment
AT_ONCE = 16  # tasks of one replica; what is beyond waits in this process
NEWS_SECONDS = 0.1  # between two messages of a replica about a task
MOST_DEATHS = 3  # of replicas that a task was with, after which it is not drawn again
SUSPECT_DEATHS = 2  # after which it is drawn when no other such task is: one cannot take the others with it
WATCH_SECONDS = 1.0  # between two looks at how many replicas run
DRAIN_SECONDS = 600.0  # that a replica that is to go has for what it draws
HEALTH_SECONDS = 10.0  # between two of Ray's questions whether a replica lives

Result = TypeVar("Result")


class ReplicaError(ClusterError):
    """Replicas cannot be had, or one failed in a way that none of its tasks is to blame for."""


@dataclass(frozen=True)
class Order:
    """A task as it is sent to a replica."""

    bundle: str
    begin: Begin
    prompt: str
    every_estimate: bool


@dataclass(frozen=True)
class End:
    """The end of a task, as a replica tells of it; see `Task`."""

    outcome: Sequence[Picture] | Exception
    warnings: Sequence[str]
    tokens: int
    seconds: float


@dataclass(frozen=True)
class News:
    """A message of a replica about a task.

    Attributes:
        events: since the last message.
        batches: of this replica, for `Observe`, since any message.
        loaded: names of the bundles that are in its memory.
        end: in the last message.
    """

    events: Sequence[Event]
    batches: Sequence[tuple[str, int, float]]
    loaded: Sequence[str]
    end: End | None = None


class Replica:
    """A process of the deployment: it draws a first picture, then whatever comes.

    Args:
        make: makes the bundles, of the names or folders that they have on its machine.
        identities: of the bundles that the server has, by name.

    Raises:
        ReplicaError: a bundle has other weights here.
    """

    def __init__(self, make: Callable[[], Models], identities: dict[str, str]) -> None:
        self._models = make()
        for name, identity in identities.items():
            if self._models.bundles[name].identity != identity:
                raise ReplicaError(f"bundle {name} is another one here: install the same on every machine")
        self._batches: list[tuple[str, int, float]] = []
        self._scheduler = Scheduler(self._models, lambda *batch: self._batches.append(batch))
        for _ in first_picture(self._models.get(self._models.first)):
            pass
        self._scheduler.start()

    async def draw(self, order: Order) -> AsyncIterator[News]:
        """Draw a task; whoever stops to read ends it."""
        loop, stirred, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        events: list[Event] = []
        outcomes: list[Sequence[Picture] | Exception] = []

        def hear(event: Event) -> None:
            events.append(event)
            stirred.set()

        def finish(outcome: Sequence[Picture] | Exception) -> None:
            outcomes.append(outcome)
            stirred.set()
            ended.set()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(hear, _light(event))

        def end(outcome: Sequence[Picture] | Exception) -> None:
            loop.call_soon_threadsafe(finish, _portable(outcome))

        task = Task(order.bundle, order.begin, prompt=order.prompt, tell=tell, end=end)
        self._scheduler.submit(task)
        try:
            over = None
            while over is None:
                await stirred.wait()
                stirred.clear()
                if outcomes:
                    over = End(outcomes[0], task.warnings, task.tokens, task.seconds)
                told, events[:] = list(events), ()
                batches, self._batches = self._batches, []
                seen = told if order.every_estimate else _newest(told)
                yield News(seen, batches, tuple(self._models.loaded), over)
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), NEWS_SECONDS)
        finally:
            self._scheduler.cancel(task)

    async def with_model(self, bundle: str, work: Callable[[Model], Any]) -> Any:
        """The result of `work`, or the error that it raises, as a value: Ray wraps those that are raised."""
        try:
            return await asyncio.wrap_future(self._scheduler.with_model(bundle, work))
        except Exception as error:
            return Raised(_portable(error))

    async def load(self, bundle: str) -> Any:
        """Have a bundle read its networks."""
        return await asyncio.wrap_future(self._scheduler.load(bundle))

    def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica that raises."""
        if not self._scheduler.is_alive():
            raise ReplicaError("the scheduler's thread has ended")


@dataclass(frozen=True)
class Raised:
    """An error on its way."""

    error: Exception


def _light(event: Event) -> Event:
    """An event with no more of its estimate than is looked at: the levels (1, S, S, 3) of one, uint8."""
    estimate = None if event.estimate is None else torch.from_numpy(to_uint8(event.estimate[:1]))
    return replace(event, estimate=estimate, pictures=())  # the pictures come at the end


def _whole(event: Event) -> Event:
    """An event that `_light` made, with its estimate (1, 3, S, S) in [-1, 1]."""
    return event if event.estimate is None else replace(event, estimate=from_uint8(event.estimate.numpy()))


def _newest(events: Sequence[Event]) -> list[Event]:
    """Events, of which the last one alone keeps its estimate."""
    return [replace(event, estimate=None) for event in events[:-1]] + list(events[-1:])


def _portable(outcome: Any) -> Any:
    """An outcome that can be sent: an error that is not ours may not be read on the other side."""
    if isinstance(outcome, Exception) and not isinstance(outcome, (UnclipError, ApiError)):
        log("failed", error=repr(outcome))
        return RuntimeError(f"{type(outcome).__name__}: {outcome}")
    return outcome


class Replicas:
    """A worker (`worker.Worker`) whose tasks are drawn by replicas.

    Args:
        models: the bundles as this process knows them; it never reads their networks.
        observe: hears of the replicas' batches.
        make: makes them anew in each replica.
        address: of a Ray cluster, "host:port" or "auto"; `HERE` makes one on this machine, which nothing
            outside of it reaches.
        size: how many replicas, and how large.

    Raises:
        ReplicaError: there is no such cluster.
    """

    def __init__(
        self,
        models: Models,
        observe: Observe,
        *,
        make: Callable[[], Models],
        address: str = HERE,
        size: Size = DEFAULT_SIZE,
    ) -> None:
        self._make, self._address, self._size = make, address, size
        self._identities = {name: bundle.identity for name, bundle in models.bundles.items()}
        self._observe = observe
        connect(address, size.replicas * size.cores, size.replicas * size.gpus)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="unclip-replicas", daemon=True)
        self._drawings: dict[Task, asyncio.Task[Sequence[Picture] | Exception]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._handle: Any = None
        self._failure: Exception | None = None
        self._alone = asyncio.Lock()
        self._stopping = False
        self.running = 0
        self.loaded: Collection[str] = ()

    # --- for other threads ---

    def start(self) -> None:
        """Have the replicas started; tasks wait until the first of them is there."""
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Draw a task; it hears of its end whatever happens."""
        self._loop.call_soon_threadsafe(self._begin, task)

    def cancel(self, task: Task) -> None:
        """End a task before the next step that it would take."""
        task.cancelled = True
        self._loop.call_soon_threadsafe(self._cancel, task)

    def with_model(self, bundle: str, work: Callable[[Model], Result]) -> Future[Result]:
        """Do something with a model of one of the replicas."""
        return self._call("with_model", bundle, work)

    def load(self, bundle: str) -> Future[None]:
        """Have one of the replicas read a bundle's networks; the others do when they draw with it."""
        return self._call("load", bundle)

    def unload(self, bundle: str) -> Future[None]:
        """Refused: a replica lets a bundle go when another needs the room."""
        future: Future[None] = Future()
        message = "replicas cannot be told to unload: give them --memory, and the longest unused goes first"
        future.set_exception(ApiError(400, message, param="model", code="unsupported_value"))
        return future

    def stop(self) -> None:
        """End when nothing is left to draw."""
        self._stopping = True
        self._loop.call_soon_threadsafe(lambda: None)

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def is_alive(self) -> bool:
        """Does a replica run?"""
        return self._thread.is_alive() and self.running > 0

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._deploy()
        except Exception as error:
            log("failed", error=repr(error))
            self._failure = ReplicaError(f"replicas cannot be started: {error}")
        try:
            self._loop.run_until_complete(self._watch())
        finally:
            self._disconnect()

    def _deploy(self) -> None:
        size = self._size
        serve.start(proxy_location="Disabled")  # the clients come to us, and nothing of Ray listens for them
        deployment = serve.deployment(
            Replica,
            name=NAME,
            num_replicas=size.replicas,
            max_ongoing_requests=AT_ONCE,
            max_queued_requests=-1,  # admission bounds what waits
            graceful_shutdown_timeout_s=DRAIN_SECONDS,
            health_check_period_s=HEALTH_SECONDS,
            ray_actor_options={
                "num_cpus": size.cores,
                "num_gpus": size.gpus,
            },
        )
        target = serve.RunTarget(deployment.bind(self._make, self._identities), name=NAME, route_prefix=None)
        (self._handle,) = serve.run_many([target], wait_for_applications_running=False)

    def _disconnect(self) -> None:
        with suppress(Exception):  # the cluster may be gone
            if self._handle is not None and self._address != HERE:
                serve.delete(NAME)
        ray.shutdown()  # and with it a cluster that was made here

    async def _watch(self) -> None:
        """Count the replicas that run, until all is drawn."""
        while not (self._stopping and not self._drawings and not self._calls):
            if self._failure is None:
                with suppress(RayError, RayServeException):
                    self._look(await asyncio.to_thread(serve.status))
            await asyncio.sleep(WATCH_SECONDS if not self._stopping else NEWS_SECONDS)

    def _look(self, status: Any) -> None:
        application = status.applications.get(NAME)
        deployment = None if application is None else application.deployments.get(NAME)
        self.running = 0 if deployment is None else deployment.replica_states.get("RUNNING", 0)
        if application is not None and application.status == "DEPLOY_FAILED" and not self.running:
            said = application.message if deployment is None else deployment.message
            self._failure = ReplicaError(f"no replica starts: {said[-1000:]}")
            for drawing in list(self._drawings.values()):
                drawing.cancel()

    def _begin(self, task: Task) -> None:
        drawing = self._loop.create_task(self._drawn(task))
        self._drawings[task] = drawing

        def end(drawing: asyncio.Task[Sequence[Picture] | Exception]) -> None:
            del self._drawings[task]
            if drawing.cancelled():
                task.end(self._failure or Cancelled("cancelled"))
            else:
                failure = drawing.exception()
                task.end(failure if isinstance(failure, Exception) else drawing.result())

        drawing.add_done_callback(end)

    def _cancel(self, task: Task) -> None:
        if task in self._drawings:
            self._drawings[task].cancel()

    async def _drawn(self, task: Task) -> Sequence[Picture] | Exception:
        """The outcome of a task, which is drawn again where its replica dies."""
        for deaths in range(MOST_DEATHS):
            if task.cancelled:
                return Cancelled("cancelled")
            if self._failure is not None:
                return self._failure
            try:
                async with self._alone if deaths >= SUSPECT_DEATHS else nullcontext():
                    end = await self._read(task)
            except RayTaskError as error:  # ours, in a replica that lives
                return ReplicaError(str(error))
            except (RayError, RayServeException) as error:
                log("replica_lost", error=type(error).__name__, times=deaths + 1)
            else:
                task.warnings, task.tokens, task.seconds = list(end.warnings), end.tokens, end.seconds
                return end.outcome
        return ReplicaError(f"{MOST_DEATHS} replicas have died while they drew this")

    async def _read(self, task: Task) -> End:
        """The end of a task, as one replica draws it. Raises RayError where that dies."""
        order = Order(task.bundle, task.begin, task.prompt, task.every_estimate)
        answers = self._handle.options(method_name="draw", stream=True).remote(order)
        try:
            async for news in answers:
                self.loaded = news.loaded
                for batch in news.batches:
                    self._observe(*batch)
                for event in news.events:
                    task.tell(_whole(event))
                if news.end is not None:
                    return news.end
        except asyncio.CancelledError:
            answers.cancel()
            raise
        raise ReplicaError("a replica ended a task without a word")

    def _call(self, method: str, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()

        async def called() -> None:
            try:
                if self._failure is not None:
                    raise self._failure
                found = await self._handle.options(method_name=method).remote(*arguments)
            except Exception as error:
                future.set_exception(error)
            else:
                if isinstance(found, Raised):
                    future.set_exception(found.error)
                else:
                    future.set_result(found)

        def begin() -> None:
            call = self._loop.create_task(called())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

        self._loop.call_soon_threadsafe(begin)
        return future
