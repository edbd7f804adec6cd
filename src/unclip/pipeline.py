"""Prompt to pictures: the one loop that Python, command line and server share (seam 6 of the design).

How each family draws, which stages in which order, is in `families`; the stages are in `stages`. Here is what
is around them: checks, groups, counting, time, networks that are let go, finished pictures.

Picture k of seed s takes all its noise from streams of its own (seam 3): so it is the same alone and in any
batch, but for what the matrix products' kernels, chosen by batch size, round differently; a model that is
`exact` computes each picture by itself, and its pictures are the same to the bit.
"""

from __future__ import annotations

import importlib
import math
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack

from PIL import Image
from torch import Tensor

from unclip.adapters import open_bundle
from unclip.bundle import Bundle
from unclip.drawing import Event, Job, Options, Picture, Settings, check_prompt, fresh_seed
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, InputError, listed, shown, warn
from unclip.families import Family
from unclip.given import IDLE, KEPT, NOTHING, OWN_STYLE, Given, NoisedPicture, Upper
from unclip.images import Source, open_image, resize, to_pil
from unclip.keywords import spelled_out
from unclip.languages import named, unread
from unclip.manifest import FAMILIES
from unclip.policy import NONE, Policy
from unclip.runtime import own_defaults
from unclip.stages import known
from unclip.stages.networks import Networks, Where
from unclip.stages.painting import Painting, Unchanged
from unclip.stages.stage import Batch, Estimate, Result, Stage, chunks
from unclip.styling import check_style, styled
from unclip.translation import Translate, Translator

if TYPE_CHECKING:
    from unclip.policy.guard import Guard

DEFAULT_SIZE = 256  # what is large enough to look at and quick to draw
PICTURES = "pictures"  # the stage in which finished pictures appear


class Piece(NamedTuple):
    """A piece of work that is done, before it is counted and timed."""

    stage: str
    estimate: Estimate = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, eq=False)
class Route:
    """The way of the pictures of one request.

    Attributes:
        stages: all that they go through.
        size: side in pixels of the finished pictures.
        competes: whether the best of them alone go on, so that no others may come between.
    """

    stages: tuple[Stage, ...]
    size: int
    competes: bool = False


@dataclass(frozen=True, eq=False)
class Part:
    """Jobs that go through the stages together, perhaps of several requests.

    Attributes:
        batch: the jobs, and what is known of them by now.
        routes: of each job.
        left: the stages that are to come.
    """

    batch: Batch
    routes: tuple[Route, ...]
    left: tuple[Stage, ...]

    def __len__(self) -> int:
        return len(self.batch)

    def rows(self, rows: Sequence[int]) -> Part:
        """Some of the jobs."""
        return replace(self, batch=self.batch.rows(rows), routes=tuple(self.routes[row] for row in rows))

    def joins(self, other: Part) -> bool:
        """Can the two go on together? They can where the same stages are left, and nobody competes."""
        competes = any(route.competes for route in (*self.routes, *other.routes))
        return not competes and self.left == other.left and self.batch.joins(other.batch)

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> Part:
        """Several as one, all of which join the first."""
        batch = Batch.joined([part.batch for part in parts])
        return cls(batch, tuple(route for part in parts for route in part.routes), parts[0].left)


class Pipeline:
    """A loaded bundle: draws pictures from text.

    Args:
        bundle: where the weights come from.
        translate, policy, where: as of `unclip.load`.

    Attributes:
        guard: refuses what the policy does not allow; None where all is allowed.
        family: how it draws.
        networks: where they compute, and which are held.
        device, precision: where the networks compute, and in what type.
        sizes: sides in pixels that can be asked for, smallest first.

    Raises:
        BundleError: the bundle's family draws no pictures, or its parts do not fit each other.
        InputError: an unknown device or precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        translate: Translate | None = None,
        policy: str | Path | Policy | None = None,
        **where: Unpack[Where],
    ) -> None:
        place = FAMILIES[bundle.family].draws
        if not place:
            known = listed(name for name, kin in FAMILIES.items() if kin.draws)
            raise BundleError(
                f"bundle {bundle.name} is of the family {bundle.family}, which does not draw pictures from "
                f"text: those that do are {known}"
            )
        module, name = place.split(":")
        family: type[Family] = getattr(importlib.import_module(module), name)
        self.bundle, self.networks = bundle, Networks(bundle, family.forms, **where)
        self.device, self.precision = self.networks.device, self.networks.precision
        self.translator = None if translate is None else Translator(translate)
        self.guard = _guard(bundle.manifest.policy or NONE if policy is None else policy)
        self._translations: dict[str, str] = {}
        self._told: set[str] = set()  # what prompts are written in that has been warned of
        with self.networks.settled():
            self.family = family(self.networks)
        self.sizes = self.family.sizes

    def __repr__(self) -> str:
        bundle, precision = self.bundle, self.networks.precision_name
        return (
            f"<{type(self).__name__} {bundle.name}, family {bundle.family}, weights {bundle.identity}, "
            f"{precision} on {self.device}, {listed(self.sizes)} px>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or one in another process, reads its networks anew: packed weights cannot be copied."""
        networks = self.networks
        options: dict[str, Any] = {
            "device": str(networks.device),
            "precision": networks.precision_name,
            "offload": networks.offload,
            "exact": networks.exact,
            "translate": None if self.translator is None else self.translator.translate,
            "policy": NONE if self.guard is None else self.guard.policy,
            "lora": self.bundle.lora,
        }
        return partial(type(self).load, self.bundle.folder, **options), ()

    @classmethod
    def load(cls, source: str | Path | None = None, lora: str | Path | None = None, **options: Any) -> Self:
        """As `unclip.load`."""
        return cls(open_bundle(source, lora), **options)

    @property
    def default_size(self) -> int:
        """Side in pixels of the pictures where none is asked for: 256, or what comes nearest to it."""
        return min(self.sizes, key=lambda size: abs(size - DEFAULT_SIZE))

    @property
    def clip(self) -> ClipEmbedder:
        """Embeds texts and pictures. Raises InputError where the bundle has no CLIP."""
        if self.family.clip is None:
            raise InputError(f"{self.bundle.name} has no CLIP: choose a bundle with one")
        return self.family.clip

    def size(self, asked: int | None) -> int:
        """The side in pixels that is drawn, `asked` or the default. Raises InputError for another."""
        size = self.default_size if asked is None else asked
        if isinstance(size, (str, bool, float)) or size not in self.sizes:
            raise InputError(f"size {shown(size)} is not drawn: choose {listed(self.sizes)}")
        return size

    def lengths(self, prompts: Sequence[str]) -> Sequence[int]:
        """The length of each prompt; prompts of the same length are drawn in fewer batches."""
        return self.family.lengths(prompts)

    # --- drawing ---

    @spelled_out(Settings, Options)
    def generate(self, prompt: str | Sequence[str], **settings: Unpack[Settings]) -> list[Picture]:
        """Draw pictures.

        Args:
            prompt: what to draw, or several prompts that each get `n` pictures.
            settings: see `Options`.

        Returns:
            The pictures of the first prompt, then of the second, ...; of one prompt by index, or with
            `rerank` the best first.

        Raises:
            InputError: an empty prompt, or a setting outside its range.
        """
        return pictures_of(self.stream(prompt, **settings))

    @spelled_out(Settings, generate, Options)
    def stream(self, prompt: str | Sequence[str], **settings: Unpack[Settings]) -> Iterator[Event]:
        """As `generate`, telling of every step; pictures come with the event that finishes them.

        Input is checked when this is called, the drawing happens while the events are read. Stopping to read
        them stops the drawing.
        """
        prompts: list[Any] = list(prompt) if isinstance(prompt, (list, tuple, Iterator)) else [prompt]
        return self.asked(prompts, settings)

    def asked(self, prompts: Sequence[str], settings: Settings, given: Given = NOTHING) -> Iterator[Event]:
        """As `stream`, of several prompts, all with the same things given."""
        chosen: dict[str, Any] = {**settings}
        options = Options.of(**{**chosen, "size": self.size(chosen.get("size"))})
        seed, count = fresh_seed(options.seed), options.rerank or options.n
        jobs = [Job(text, seed, index, given) for text in prompts for index in range(count)]
        return self.draw(jobs, options)

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        """As `stream`, for any mixture of prompts, seeds, indices and what is given.

        The options' `seed` is not used, and `n` only with `rerank`: the best `n` jobs of each prompt and seed
        are kept.
        """
        parts = self.parts(jobs, options)
        events = timed(self._work(parts), sum(map(pieces, parts), Counter[str]()))
        return events if self.guard is None else self.guard.watched(events, _tell_withheld)

    def parts(self, jobs: Sequence[Job], options: Options) -> list[Part]:
        """As `draw`, but nothing is drawn: whoever asks takes the parts from stage to stage (`advanced`).

        A server does so with the requests of many people: between two stages it joins parts that have the
        same stages left.
        """
        self._check(jobs, options)
        self.check_prompts([job.prompt for job in jobs])
        given = {"init": options.init, "start": options.start}
        self.check_pictures({name: [image] for name, image in given.items() if image is not None})
        jobs = self._translated(jobs)
        self.check_prompts([job.text for job in jobs])
        self._warn_of_texts(jobs)
        with self.networks.settled():
            jobs = self._with_pictures(jobs, options)
            jobs = styled(jobs, options.style, self.bundle.styles, self.family.truncated)
            self.family.check(options, jobs)
            parts = list(self._parts(jobs, options))
            self.networks.check(
                dict.fromkeys(name for part in parts for stage in part.left for name in stage.components)
            )
        return parts

    def _check(self, jobs: Sequence[Job], options: Options) -> None:
        """Refuse what cannot be drawn, and warn of prompts that are too long, before anything is drawn."""
        if not jobs:
            raise InputError("no prompt given: say what to draw")
        family, asked = self.family, options.given
        for job in jobs:
            if job.prompt or job.given.embedding is None:
                check_prompt(job.prompt)
        for name in sorted(asked - family.honours):
            raise InputError(
                f"{name} means nothing to {self.bundle.name}, of the family {self.bundle.family}: leave it "
                f"out (it knows {listed(sorted(family.honours))})"
            )
        for given in {id(job.given): job.given for job in jobs}.values():
            for kind in sorted(given.kinds):
                if kind not in family.takes:
                    raise family.refusal(kind)
                idle, why = IDLE.get(kind, ((), ""))
                for name in sorted(asked.intersection(idle)):
                    raise InputError(f"{name}: {why}")
                if "style" in asked:
                    raise InputError(f"style: {OWN_STYLE}")
            if given.known is not None and given.known.image.width != options.size:
                side = given.known.image.width
                raise InputError(f"size {options.size}: the picture to fill in has {side} pixels a side")
        self.size(options.size)
        check_style(options.style, self.bundle.styles, self.bundle.name)

    def check_prompts(self, prompts: Sequence[str], part: str = "prompt") -> None:
        """Raises PolicyError for the first prompt that the policy refuses."""
        if self.guard is not None:
            self.guard.check_prompts(list(dict.fromkeys(filter(None, prompts))), part)

    def check_pictures(self, given: Mapping[str, Sequence[Source]]) -> None:
        """Raises PolicyError for the first picture, by the name it is called by, that the policy refuses."""
        if self.guard is not None:
            self.guard.check_pictures(given)

    def translated(self, texts: Sequence[str]) -> list[str]:
        """Texts as the translator gives them, each asked for once; as they are without a translator.

        Raises UnclipError where it fails, see `Translator`.
        """
        if self.translator is None:
            return list(texts)
        new = [text for text in dict.fromkeys(texts) if text.strip() and text not in self._translations]
        if new:
            self._translations.update(zip(new, self.translator(new), strict=True))
        return [self._translations.get(text, text) for text in texts]

    def _translated(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs, each given the translation of its prompt where there is a translator."""
        if self.translator is None:
            return jobs
        texts = self.translated([job.prompt for job in jobs])
        return [
            replace(job, given=replace(job.given, translation=text))
            if job.prompt and job.given.translation is None
            else job
            for job, text in zip(jobs, texts, strict=True)
        ]

    def _warn_of_texts(self, jobs: Sequence[Job]) -> None:
        """Warn of prompts that are too long, and once of those in a language that is not read."""
        family, texts = self.family, list(dict.fromkeys(job.text for job in jobs))
        for text in texts:
            written = unread(text, self.bundle.languages)
            if written is not None and written not in self._told:
                self._told.add(written)
                name, reads = self.bundle.name, named(self.bundle.languages)
                warn(
                    f"the prompt {_shortened(text)!r} is in {written}, and {name} reads {reads}: the picture "
                    "may have nothing to do with it; --translate (translate of unclip.load) puts prompts "
                    "through a program of your own"
                )
        for rest in family.truncated(texts):
            if rest is not None:
                message = f"the prompt is longer than the {family.context} tokens that are read: left out is "
                warn(f"{message}{_shortened(rest)!r}")

    def _with_pictures(self, jobs: Sequence[Job], options: Options) -> Sequence[Job]:
        """The jobs, each given the pictures that the options name for all."""
        changes: dict[str, Any] = {}
        if options.init is not None:
            changes["start"] = NoisedPicture.of(options.init, options.strength, options.fit)
        if options.start is not None and options.keep_rows is not None:
            changes["upper"] = Upper(open_image(options.start), options.keep_rows)
        if not changes:
            return jobs
        return [replace(job, given=replace(job.given, **changes)) for job in jobs]

    def _parts(self, jobs: Sequence[Job], options: Options) -> Iterator[Part]:
        """Jobs that go through the stages together: those that compete, else a number at a time.

        Raises InputError for what cannot be done.
        """

        def fills(job: Job) -> bool:
            return self.family.apart and job.given.known is not None

        stages = {
            own: self.family.stages(options, [job for job in jobs if fills(job) is own])
            for own in {fills(job) for job in jobs}
        }
        together: dict[tuple[Any, ...], list[Job]] = {}
        for job in jobs:
            ways = [stage.way(job) for stage in stages[fills(job)] if isinstance(stage, Painting)]
            if options.sampler is not None and any(way.rounds for way in ways):
                raise InputError(
                    f"sampler {options.sampler!r}: to fill in, each step is taken several times, which is "
                    "ancestral sampling: leave it out"
                )
            unchanged = any(not way.steps for way in ways)
            competes = () if options.rerank is None else (job.prompt, job.seed)
            together.setdefault((fills(job), unchanged, *competes), []).append(job)
        for (own, unchanged, *_), some in together.items():
            left = (Unchanged(options.size),) if unchanged else stages[own]
            route = Route(left, options.size, competes=options.rerank is not None or unchanged)
            if options.rerank is not None and unchanged:
                some = some[: options.n]
            for group in chunks(some, self.networks.group if options.rerank is None else len(some)):
                yield Part(Batch(tuple(group)), (route,) * len(group), left)

    def _work(self, parts: Sequence[Part]) -> Generator[Piece, None, None]:
        """Draw the parts one after the other."""
        for part in parts:
            yield from self._drawn(part)
        self.networks.keep(())

    def _drawn(self, part: Part) -> Generator[Piece, None, None]:
        """Take a part through the stages that are left, in smaller ones where a stage takes fewer at once."""
        if not part.left:
            yield Piece(PICTURES, part.batch.images, self.finished(part))
            return
        for rows in chunks(range(len(part)), part.left[0].at_once or len(part)):
            after = yield from self.advanced(part.rows(rows))
            yield from self._drawn(after)

    def advanced(self, part: Part) -> Generator[Piece, None, Part]:
        """Take a part, of no more jobs than its next stage takes at once, through that stage.

        Returns:
            The pieces of the stage's work; the generator returns the part behind it. Stopping to read them
            stops the work between two steps.
        """
        stage = part.left[0]
        if stage.components:
            self.networks.keep(stage.components)
        batch = yield from told(stage, part.batch, self.networks)
        return Part(batch, part.routes[: len(batch)], part.left[1:])

    def finished(self, part: Part) -> tuple[Picture, ...]:
        """The pictures of a part that has no stage left, with what they came from.

        Raises:
            BundleError: what was drawn, or its score, are no finite numbers.
        """
        images = part.batch.images  # (B, 3, S, S) in [-1, 1]
        assert images is not None  # the stages before have made them
        scores = part.batch.scores or (None,) * len(part)
        said = (score for score in scores if score is not None)
        if not all(map(math.isfinite, [*map(float, images.aminmax()), *said])):
            raise BundleError(
                f"bundle {self.bundle.name}: what it draws are no finite numbers, so its weights or settings "
                "are broken: install or pull it again"
            )
        with self.networks.settled():
            rows = zip(part.batch.jobs, part.routes, images, scores, strict=True)
            return tuple(self._picture(*row) for row in rows)

    def _picture(self, job: Job, route: Route, image: Tensor, score: float | None) -> Picture:
        """A picture (3, S, S) in [-1, 1] at the size that was asked for, with what it came from."""
        settings = {"size": str(route.size), **self.networks.settings}
        for stage in route.stages:
            settings |= stage.settings(job)
        unchanged = any(isinstance(stage, Unchanged) for stage in route.stages)
        picture = Picture(
            image=to_pil(resize(image[None], route.size)[0]),
            prompt=job.prompt,
            seed=job.seed,
            index=job.index,
            score=score,
            model=self.bundle.name,
            identity=self.bundle.identity,
            settings=settings | job.given.texts,
            kept=Image.new("L", (route.size, route.size), KEPT) if unchanged else None,
        )
        return known.finished(job, picture)


def told(stage: Stage, batch: Batch, networks: Networks) -> Generator[Piece, None, Batch]:
    """The pieces of a stage's work; the generator returns the batch as the stage leaves it."""
    work = stage.run(batch)
    while True:
        try:
            with networks.settled():  # what is drawn does not depend on what the user has set
                estimate = next(work)
        except StopIteration as stop:
            return stop.value
        yield Piece(stage.name, estimate if stage.shows else None)


def _guard(policy: str | Path | Policy) -> Guard | None:
    """Refuses what a policy does not allow; None where it allows all.

    Raises InputError where there is no such policy, or an extra is missing that its rules need.
    """
    if policy == NONE:  # no list of terms and no detector is read
        return None
    from unclip.policy.guard import Guard

    guard = Guard(policy if isinstance(policy, Policy) else Policy.named(policy))
    if guard.policy.refuses_nothing:
        return None
    guard.check_applied()
    if guard.pictures.unapplied:
        warn(guard.said())
    return guard


def _tell_withheld(withheld: object) -> None:
    warn(str(withheld))


def timed(work: Generator[Piece, None, Result], totals: Mapping[str, int]) -> Generator[Event, None, Result]:
    """Events of the pieces of a work, counted and timed; the generator returns what the work does."""
    done: Counter[str] = Counter()
    while True:
        started = time.perf_counter()
        try:
            piece = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        done[piece.stage] += max(1, len(piece.pictures))
        step, total, seconds = done[piece.stage], totals[piece.stage], time.perf_counter() - started
        yield Event(piece.stage, step, total, seconds, piece.pictures, piece.estimate)


def pictures_of(events: Iterator[Event]) -> list[Picture]:
    """All that a drawing finishes."""
    return [picture for event in events for picture in event.pictures]


def pieces(part: Part) -> Counter[str]:
    """The pieces of work that each stage has with a part, and the pictures that come out."""
    totals: Counter[str] = Counter()
    with own_defaults():
        _count(part.left, part.batch.jobs, totals)
    return totals


def _count(stages: Sequence[Stage], jobs: Sequence[Job], totals: Counter[str]) -> None:
    """Add the pieces of work that the stages have with these jobs, and the pictures that come out."""
    if not stages:
        totals[PICTURES] += len(jobs)
        return
    stage = stages[0]
    for part in chunks(jobs, stage.at_once or len(jobs)):
        totals[stage.name] += stage.steps(part)
        _count(stages[1:], stage.left(part), totals)


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
