"""Jobs while they are alive: let in, drawn, told of, kept or forgotten.

All of it runs in the event loop's thread; what reads or writes files goes to a worker thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

from unclip.catalogue import available_bundles
from unclip.drawing import Event, Picture, fresh_seed
from unclip.errors import BundleError, InputError, PolicyError
from unclip.images import ImageFormat
from unclip.policy import EVERYTHING, Policy
from unclip.policy.guard import Guard, in_force
from unclip.runtime import return_freed_memory
from unclip.serve.addresses import URL_SECONDS, Addresses
from unclip.serve.admission import Admission
from unclip.serve.contract import Asked
from unclip.serve.errors import ApiError
from unclip.serve.fields import Quality, ResponseFormat
from unclip.serve.folders import Folders
from unclip.serve.jobs import Job, State, Stored, new_id
from unclip.serve.live import Live
from unclip.serve.log import log
from unclip.serve.metrics import Metrics
from unclip.serve.models import Models, first_picture
from unclip.serve.outgoing import LABELLED, Marking
from unclip.serve.pulls import Pulls
from unclip.serve.scheduler import Scheduler
from unclip.serve.store import Store
from unclip.serve.verbs import allowed, begun, settings_of, work_of
from unclip.serve.worker import Cancelled, Observe, Task, Worker

SWEEP_SECONDS = 60.0
MADE_OF = ("image", "init", "start")  # fields whose pictures are parents of what is drawn
LAST = 0.99  # of the way, until it is there

Result = TypeVar("Result")


@dataclass(frozen=True)
class Keeping:
    """Retention of pictures.

    Attributes:
        days: in the library; None is for ever.
        bytes: of all of them; None is no bound.
        bin_days: after they were deleted.
    """

    days: float | None = None
    bytes: int | None = None
    bin_days: float = 7.0


class Service:
    """The jobs of a server.

    Args:
        models: the bundles.
        worker: makes what draws, told of the bundles and of who hears of batches.
        store: where jobs and pictures are kept.
        admission: bounds.
        keeping: how long.
        public_url: how clients reach it; None is where they have come to.
        log_prompts: whether the log may say what is drawn.
        marking: what its pictures say of where they came from.
        folders: those that may be searched.
        pulls: fetches published models; None refuses it.
        policy: what may be drawn, as it was chosen; None is `default`, and what a bundle's card asks for.
        default: of what may be drawn.
    """

    def __init__(
        self,
        models: Models,
        store: Store,
        *,
        worker: Callable[[Models, Observe], Worker] = Scheduler,
        admission: Admission | None = None,
        keeping: Keeping = Keeping(),
        public_url: str | None = None,
        log_prompts: bool = False,
        marking: Marking = LABELLED,
        folders: Folders | None = None,
        pulls: Pulls | None = None,
        policy: Policy | None = None,
        default: Policy = EVERYTHING,
    ) -> None:
        self.models, self.store = models, store
        self.policy, self.default = policy, default
        self._guards: dict[str, Guard] = {}
        self.admission, self.keeping = admission or Admission(), keeping
        self.public_url, self.log_prompts = public_url, log_prompts
        self.marking = marking
        self.folders, self.pulls = folders or Folders((), store.folder), pulls
        if pulls is not None:
            pulls.fetched = self._fetched
        self.metrics = Metrics(self.admission)
        self.worker = worker(models, self.metrics.batch)
        self.live: dict[str, Live] = {}
        self.ready = self.draining = False
        self.addresses = Addresses(store.folder / "secret", public_url)
        self._sweeper: asyncio.Task[None] | None = None
        self._ends: set[asyncio.Task[None]] = set()

    # --- life ---

    async def start(self) -> None:
        """Start the worker, take up what a killed server left, and draw a first picture."""
        self._loop = asyncio.get_running_loop()
        for name in self.models.bundles:
            await asyncio.to_thread(lambda guard: guard.pictures, self.guard(name))  # reads the networks
        self.worker.start()
        for job in await asyncio.to_thread(self.store.unfinished):
            await self._resume(job)
        self._sweeper = asyncio.create_task(self._sweep())

    async def warm(self) -> None:
        """Draw a picture with the first bundle: a server is ready when it has drawn one."""
        done = self._loop.create_future()

        def end(outcome: Sequence[Picture] | Exception) -> None:
            self._loop.call_soon_threadsafe(done.set_result, outcome)

        self.worker.submit(Task(self.models.first, first_picture, end=end))
        outcome = await done
        if isinstance(outcome, Exception):
            raise outcome
        self.ready = True

    async def stop(self) -> None:
        """Draw what somebody waits for; what is kept is drawn after the next start."""
        self.draining = True
        if self.pulls is not None:
            self.pulls.stop()
        await asyncio.to_thread(self.folders.stop)  # it needs the worker still
        if self._sweeper is not None:
            self._sweeper.cancel()
        for live in list(self.live.values()):
            if live.kept and live.task is not None:
                live.task.end = lambda outcome: None  # it stays queued
                self.worker.cancel(live.task)
        self.worker.stop()
        await asyncio.to_thread(self.worker.join)
        if self._ends:
            await asyncio.wait(self._ends)
        self.store.close()

    def is_on_disk(self, name: str) -> bool:
        """Can a bundle of this name be served, though it is not by now?"""
        return name in available_bundles()

    def _fetched(self, name: str) -> None:
        """A bundle stands: it is served, if it draws."""
        with suppress(BundleError):
            self.models.add(name)

    async def _sweep(self) -> None:
        while True:
            keeping = self.keeping
            await asyncio.to_thread(self.store.sweep, keeping.days, keeping.bytes, keeping.bin_days)
            # under load each thread's arena keeps what it once held: some 5 MB more a minute, for hours
            await asyncio.to_thread(return_freed_memory)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _resume(self, job: Job) -> None:
        pictures = await asyncio.to_thread(self.store.given, job.id)
        try:
            asked = _asked(job.request, pictures)
            work = work_of(asked, self.models.abilities[asked.bundle])
        except (ApiError, KeyError, TypeError, ValueError) as error:
            told = (
                ApiError.of(error)
                if isinstance(error, ApiError)
                else ApiError(
                    500,
                    "the job cannot be drawn by this version, or its model is not served",
                    code="model_error",
                )
            )
            await asyncio.to_thread(self.store.end, job.id, State.FAILED, (), told.document["error"])
            return
        self._begin(Live(job.id, asked, job.owner, "", True, work, self.admission.work, job.created))

    # --- jobs ---

    async def submit(
        self,
        asked: Asked,
        owner: str,
        who: str,
        *,
        kept: bool = False,
        idempotency: str | None = None,
        patience: float | None = None,
    ) -> Live | Job:
        """Let a job in; one of its idempotency key that is over comes back as it was kept.

        Raises:
            ApiError: what cannot be drawn, or too much to do.
        """
        if self.draining:
            raise ApiError(503, "the server is stopping", code="stopping", headers={"retry-after": "5"})
        abilities = self.models.abilities[asked.bundle]
        settings_of(asked, abilities)
        await self._check_policy(asked)
        work = work_of(asked, abilities)
        fingerprint = _fingerprint(asked, _document(asked)) if idempotency is not None else None
        # a worker that dies, or a server, draws it again, and it is the same picture
        asked = replace(asked, settings={"seed": fresh_seed(), **asked.settings})
        self.admission.enter(who, work, patience)
        live = Live(
            *(new_id("job"), asked, owner, who, kept or idempotency is not None, work),
            self.admission.work - work,
        )
        try:
            job = Job(
                id=live.id,
                owner=owner,
                verb=asked.verb,
                bundle=asked.bundle,
                prompt=asked.prompt,
                kept=live.kept,
                request=_document(asked),
                idempotency=idempotency,
                fingerprint=fingerprint,
                created=live.created,
            )
            found = await asyncio.to_thread(self.store.add, job, asked.pictures if live.kept else None)
        except BaseException:
            self.admission.leave(who, work)
            raise
        if found.id != live.id:
            self.admission.leave(who, work)
            if found.fingerprint != fingerprint:
                message = "this idempotency key came with another request: take a new one"
                raise ApiError(400, message, code="idempotency_key_reused")
            return self.live.get(found.id) or found
        self._begin(live)
        return live

    def guard(self, bundle: str) -> Guard:
        """The rules of what a bundle may draw here."""
        if bundle not in self._guards:
            asked = self.models.bundles[bundle].manifest.policy
            self._guards[bundle] = Guard(in_force(self.policy, self.default, asked))
        return self._guards[bundle]

    async def _check_policy(self, asked: Asked) -> None:
        """Refuse a prompt or a picture, before any work. Raises ApiError."""
        guard = self.guard(asked.bundle)
        if guard.policy.refuses_nothing:
            return
        try:
            for part in ("prompt", "origin"):
                text = asked.prompt if part == "prompt" else asked.settings.get(part, "")
                await asyncio.to_thread(guard.check_prompts, [text], part)
            given = {name: asked.pictures[name] for name in MADE_OF if name in asked.pictures}
            await asyncio.to_thread(guard.check_pictures, given)
        except PolicyError as error:
            raise ApiError.of(error) from None
        except InputError as error:
            raise ApiError.of(error, params=MADE_OF) from None

    def _begin(self, live: Live) -> None:
        if live.who == "":  # taken up after a restart: it was let in once
            self.admission.jobs += 1
            self.admission.work += live.work
            self.admission._each[""] += 1
        abilities = self.models.abilities[live.asked.bundle]
        post = self._loop.call_soon_threadsafe

        def tell(event: Event) -> None:
            post(self._heard, live, event)

        def end(outcome: Sequence[Picture] | Exception) -> None:
            post(self._over, live, outcome)

        asked = live.asked
        live.task = Task(
            asked.bundle,
            partial(allowed, self.guard(asked.bundle).policy, asked, partial(begun, asked, abilities)),
            prompt=asked.prompt,
            every_estimate=asked.partials > 0,
            tell=tell,
            end=end,
        )
        self.live[live.id] = live
        live.told = self._told(live)
        self.worker.submit(live.task)

    def _heard(self, live: Live, event: Event) -> None:
        live.state, live.stage = State.RUNNING, event.stage
        live.step, live.total = event.step, event.total
        work, steps = self._shares(live, event)
        live.fraction = max(live.fraction, min(LAST, work))
        if event.estimate is not None:
            estimate = event.estimate[:1]
            # whoever streams partial pictures has them looked at; of a preview nobody does
            live.preview = None if self.guard(live.asked.bundle).pictures else estimate
            count, most = len(live.partials), live.asked.partials
            if count < most and steps >= (count + 1) / (most + 1):
                live.partials.append(estimate)
        live.notify()

    def _shares(self, live: Live, event: Event) -> tuple[float, float]:
        """The finished share, by pixels times steps and by the steps that show something alone."""
        abilities, asked = self.models.abilities[live.asked.bundle], live.asked
        done = event.step / max(1, event.total)
        if event.estimate is None:
            return (live.fraction if abilities.steps["generate"] else done), 0.0
        size = abilities.default_size if asked.size is None else asked.size[0]
        painted = [(abilities.first, max(1, abilities.steps.get(asked.verb, 1)))]
        painted += abilities.larger.get(size, ())
        work, steps = sum(side**2 * count for side, count in painted), sum(count for _, count in painted)
        work_behind = steps_behind = 0
        for side, count in painted:
            if side == event.estimate.shape[-1]:
                behind = work_behind + side**2 * count * done
                return behind / work, (steps_behind + count * done) / steps
            work_behind, steps_behind = work_behind + side**2 * count, steps_behind + count
        return live.fraction, 0.0

    def _over(self, live: Live, outcome: Sequence[Picture] | Exception) -> None:
        task = asyncio.ensure_future(self._finish(live, outcome))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _finish(self, live: Live, outcome: Sequence[Picture] | Exception) -> None:
        assert live.task is not None
        live.warnings, live.tokens = list(live.task.warnings), live.task.tokens
        if isinstance(outcome, Exception):
            live.error = ApiError.of(outcome, params=_params(live.asked))
            state = State.CANCELLED if isinstance(outcome, Cancelled) else State.FAILED
            if live.error.status == 500:
                log("failed", job=live.id, error=repr(outcome))
        else:
            state, asked = State.DONE, live.asked
            live.pictures = list(outcome)
            if asked.verb == "generate" and "rerank" not in asked.settings:
                live.pictures.sort(key=lambda picture: picture.index)
            self.admission.measured(live.work, live.task.seconds)
            state = await self._withhold(live)
        try:
            await asyncio.to_thread(self._keep, live, state)
        except Exception as error:
            log("failed", job=live.id, error=repr(error))
            state, live.error = State.FAILED, ApiError(500, "the server cannot write: see its log")
        live.state = state  # only now: whoever sees it looks for the pictures
        self.admission.leave(live.who, live.work)
        if live.state is State.DONE and live.who:  # one taken up after a restart came long ago
            self.admission.came(live.kind, live.told, time.time() - live.created)
        self.metrics.job(live.asked.verb, live.state, time.time() - live.created)
        said = {"prompt": live.asked.prompt} if self.log_prompts else {}
        seconds = round(time.time() - live.created, 3)
        log("job", job=live.id, verb=live.asked.verb, state=str(live.state), seconds=seconds, **said)
        live.fraction = 1.0 if live.state is State.DONE else live.fraction
        live.preview = None
        live.ended.set()
        live.notify()
        self.live.pop(live.id, None)

    async def _withhold(self, live: Live) -> State:
        """Take out of what was drawn what the policy does not allow, before anybody sees or keeps it."""
        guard = self.guard(live.asked.bundle)
        live.warnings += guard.policy.notes([live.asked.prompt])
        try:
            live.pictures, live.withheld = await asyncio.to_thread(guard.sifted, live.pictures)
            guard.check_any(len(live.pictures), live.withheld)
        except Exception as error:  # what could not be looked at is not let out
            live.pictures, live.error = [], ApiError.of(error)
            if live.error.status == 500:
                log("failed", job=live.id, error=repr(error))
            return State.FAILED
        live.warnings += map(str, live.withheld)
        return State.DONE

    def _keep(self, live: Live, state: State) -> None:
        """Write what a job drew, and that it is over; in a worker thread."""
        by_address = live.asked.response_format is ResponseFormat.URL
        if state is State.DONE and (live.kept or by_address):
            expires = None if live.kept else time.time() + URL_SECONDS
            live.stored = [
                self._written(live, position, picture, expires)
                for position, picture in enumerate(live.pictures)
            ]
        error = None if live.error is None else live.error.document["error"]
        self.store.end(live.id, state, live.stored, error, [one.document for one in live.withheld])

    def _written(self, live: Live, position: int, picture: Picture, expires: float | None) -> Stored:
        id = f"pic_{live.id.removeprefix('job_')}_{position}"
        data = self.marking.file(picture, live.asked)
        given = [file for name in MADE_OF for file in live.asked.pictures.get(name, ())]
        parents = self.store.named(live.owner, [hashlib.sha256(file).hexdigest() for file in given])
        kind = live.asked.output_format
        return Stored(
            id=id,
            job=live.id,
            owner=live.owner,
            position=position,
            file=self.store.write(id, kind.value, data),
            format=kind.value,
            bytes=len(data),
            width=picture.image.width,
            height=picture.image.height,
            seed=picture.seed,
            number=picture.index,
            score=picture.score,
            prompt=picture.prompt,
            bundle=picture.model,
            settings=dict(picture.settings),
            created=time.time(),
            expires=expires,
            digest=hashlib.sha256(data).hexdigest(),
            parents=parents,
        )

    def cancel(self, live: Live) -> None:
        """End a job before its next step."""
        if live.task is not None and not live.ended.is_set():
            self.worker.cancel(live.task)

    def seconds_left(self, live: Live) -> float:
        """An estimate of when a job will be done."""
        if live.state is State.QUEUED:
            return self.admission.expected(live.kind, self._told(live))
        own = self.admission.seconds(round(live.work * (1 - live.fraction)))
        return self.admission.expected(live.kind, own)

    def _told(self, live: Live) -> float:
        """Seconds that the work tells, of a job that has not begun and of what is ahead of it."""
        ahead = self.admission.queued(min(live.ahead, self.admission.work - live.work))
        return ahead + self.admission.seconds(live.work)

    def ahead(self, live: Live) -> int:
        """Jobs that came earlier and are not over."""
        return sum(other.created < live.created for other in self.live.values())

    async def with_model(self, bundle: str, work: Callable[[Any], Result]) -> Result:
        """Do something with a model, between two steps of what is drawn."""
        return await asyncio.wrap_future(self.worker.with_model(bundle, work))


def _params(asked: Asked) -> tuple[str, ...]:
    return ("prompt", "size", "mask", "image", "picture", "seed", *asked.settings, "n", "images")


def _document(asked: Asked) -> dict[str, Any]:
    """A request as JSON, but for its pictures."""
    found = {item.name: getattr(asked, item.name) for item in fields(asked) if item.name != "pictures"}
    return {**found, "settings": dict(asked.settings), "echoed": dict(asked.echoed)}


def _asked(document: Mapping[str, Any], pictures: Mapping[str, tuple[bytes, ...]]) -> Asked:
    """Read a document that `_document` wrote."""
    asked = Asked(**document)
    return replace(
        asked,
        pictures=pictures,
        size=None if asked.size is None else (asked.size[0], asked.size[1]),
        quality=Quality(asked.quality),
        response_format=ResponseFormat(asked.response_format),
        output_format=ImageFormat(asked.output_format),
    )


def _fingerprint(asked: Asked, document: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(asked.pictures):
        for data in asked.pictures[name]:
            digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()
