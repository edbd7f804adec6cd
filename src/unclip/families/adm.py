"""ADM: a class -> a picture, guided by a classifier of noised pictures, enlarged by a network like it.

Sections 4 and 5 of 2105.05233, drawn as guided-diffusion draws: with the ancestral sampler the gradient
shifts each step's mean, with the others epsilon. Only glue.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import Bundle
from unclip.diffusion.defaults import ClassifierSampling, Sampling
from unclip.diffusion.denoiser import Denoiser, threshold
from unclip.diffusion.guidance import classifier, mean_shifted
from unclip.drawing import Event, Job, Options
from unclip.errors import BundleError, InputError
from unclip.families.diffusion import DiffusionPipeline, sampled, upsampler_chain
from unclip.models.adm import ADM as Network
from unclip.models.adm import ADMConfig, Classifier, ClassifierConfig
from unclip.pipeline import PICTURES, Done, Plan, chunks
from unclip.runtime import autocast

BASE, CLASSIFIER = "adm", "classifier"
ANYTHING = "anything"  # the prompt of a model that has no classes


class ADM(DiffusionPipeline):
    """A loaded bundle of the family "adm".

    A prompt is a class: its number ("207" or "class 207"), or its name where the bundle has names; a model
    without classes draws "anything", or with a classifier what it is guided to.
    """

    family = "adm"
    honours = frozenset({"steps", "guidance", "sampler"})
    guides = frozenset({CLASSIFIER})
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self._config: ADMConfig = bundle.config(BASE)
        self._first = self._config.image_size
        self._chain = self._find_chain()
        self._classes = self._config.classes
        if CLASSIFIER in bundle.components:
            guide: ClassifierConfig = bundle.config(CLASSIFIER)
            if guide.image_size != self._config.image_size or self._classes not in (None, guide.classes):
                raise BundleError(
                    f"bundle {bundle.name}: its classifier tells {guide.classes} classes at "
                    f"{guide.image_size} px, its model draws {self._classes} at {self._config.image_size} px"
                )
            self._classes = guide.classes

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        for job in jobs:
            if job.prompt.strip():  # what is wrong with an empty one is said for all families
                self._class_of(job.prompt)
        return super().draw(jobs, options)

    # --- plan ---

    def _find_chain(self) -> dict[int, str]:
        """The upsamplers that lead from the base's size upwards, by the size that each one draws."""
        others: dict[str, ADMConfig] = {
            name: self.bundle.config(name)
            for name, component in self.bundle.components.items()
            if component.kind == "adm" and name != BASE
        }
        sizes = {name: (config.low_size or 0, config.image_size) for name, config in others.items()}
        return upsampler_chain(self.bundle, self._first, sizes)

    def _plan(self, options: Options) -> Plan:
        guided = CLASSIFIER in self.bundle.components
        if options.guidance is not None and not guided:
            raise InputError(f"guidance needs a classifier, and {self.bundle.name} has none: leave it out")
        sampling = cast(ClassifierSampling, self._asked(BASE, options, options.guidance))
        self._schedule(BASE, sampling)  # refuses steps that cannot be taken
        upsamplers = self._upsamplers(options.size)
        self.bundle.verify(BASE, *upsamplers, *([CLASSIFIER] if guided else []))
        settings = {
            "size": str(options.size),
            "steps": str(sampling.steps),
            "sampler": sampling.sampler,
            "guidance": f"{sampling.guidance if guided else 0:g}",
        }
        return Plan(options, {BASE: sampling}, upsamplers, settings)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return [None] * len(prompts)

    def _class_of(self, prompt: str) -> int | None:
        """The class that a prompt names; None for `ANYTHING` where the model itself has no classes.

        Raises:
            InputError: it names none; the message says what there is.
        """
        text = " ".join(prompt.split()).casefold()
        if self._config.classes is None and text == ANYTHING:
            return None
        if self._classes is None:
            raise InputError(
                f"{self.bundle.name} has no classes and draws what it was trained on: ask for {ANYTHING!r}"
            )
        number = text.removeprefix("class").strip()
        if number.isdecimal() and int(number) < self._classes:
            return int(number)
        names: dict[str, int] = {}
        for i, label in enumerate(self._config.labels):
            names.setdefault(label.casefold(), i)
        for i, label in enumerate(self._config.labels):
            for synonym in label.split(","):
                names.setdefault(synonym.strip().casefold(), i)
        if text in names:
            return names[text]
        near = difflib.get_close_matches(text, names, n=3)
        hint = f", or {' or '.join(map(repr, near))}" if near else ""
        kinds = "a name or a number" if names else "a number (the bundle has no names of classes)"
        last = self._classes - 1
        raise InputError(f"no class {prompt!r}: give {kinds} from 0 to {last}, such as 'class {last}'{hint}")

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        for group in groups:
            steps = self._steps(BASE, plan.sampling[BASE])
            totals[BASE] += steps * len(chunks(group, self._chunk(self._config.image_size)))
            for name in plan.upsamplers:
                steps = self._steps(name, self._sampling(name))
                totals[name] += steps * len(chunks(group, self._last_chunk(plan)))
            totals[PICTURES] += len(group)
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        for group in groups:
            drawn = []
            for jobs in chunks(group, self._chunk(self._config.image_size)):
                sampling = cast(ClassifierSampling, plan.sampling[BASE])
                drawn.append((yield from self._paint(jobs, sampling)))
            self._let_go(BASE)
            self._let_go(CLASSIFIER)
            small = torch.cat(drawn)  # (B, 3, S, S)
            for rows in chunks(range(len(group)), self._last_chunk(plan)):
                jobs, images = [group[row] for row in rows], small[rows]
                for name in plan.upsamplers:
                    images = yield from self._draw_larger(name, jobs, images)
                yield Done(PICTURES, images, self._finish(jobs, images, [None] * len(jobs), plan))

    def _paint(self, jobs: Sequence[Job], sampling: ClassifierSampling) -> Generator[Done, None, Tensor]:
        """Draw pictures of the jobs' classes, (B, 3, S, S)."""
        size = self._config.image_size
        inner = self._conditional(BASE, jobs, sampling)
        if CLASSIFIER in self.bundle.components and sampling.guidance:
            inner = self._guided_by_class(inner, jobs, sampling)
        noise = self._noise([(job, BASE) for job in jobs], (3, size, size))
        x = yield from sampled(BASE, inner, sampling, noise)
        return x.clamp(-1, 1)

    def _conditional(
        self, name: str, jobs: Sequence[Job], sampling: Sampling, low: Tensor | None = None
    ) -> Denoiser:
        """A component that draws, given its classes and what it enlarges, with its threshold."""
        network = cast(Network, self._model(name))
        classes = None
        if network.config.classes is not None:
            classes = torch.tensor([self._class_of(job.prompt) for job in jobs], device=self.device)  # (B,)
        given = partial(network, classes=classes, low=low)
        inner = self._denoiser(name, self._schedule(name, sampling), given)
        return threshold(inner, sampling.threshold, sampling.limit, sampling.percentile)

    def _guided_by_class(
        self, inner: Denoiser, jobs: Sequence[Job], sampling: ClassifierSampling
    ) -> Denoiser:
        network = cast(Classifier, self._model(CLASSIFIER))
        wanted = [self._class_of(job.prompt) for job in jobs]
        classes = torch.tensor([0 if number is None else number for number in wanted], device=self.device)
        scale = torch.tensor([0.0 if number is None else sampling.guidance for number in wanted])

        def log_probability(x: Tensor, label: Tensor) -> Tensor:
            with autocast(self.device, self.precision):
                return network.log_probability(x, label, classes)

        def steer(denoiser: Denoiser) -> Denoiser:
            return classifier(denoiser, log_probability, scale)

        return mean_shifted(inner, steer) if sampling.sampler == "ancestral" else steer(inner)

    def _draw_larger(self, name: str, jobs: Sequence[Job], low: Tensor) -> Generator[Done, None, Tensor]:
        """The pictures (B, 3, h, h) as the upsampler `name` draws them larger.

        One of ADM's own is given their 8-bit form, as published.
        """
        if self.bundle.component(name).kind == "upsampler":
            return (yield from self._enlarge(name, jobs, low))
        sampling, size = self._sampling(name), self.bundle.config(name).image_size
        levels = ((low + 1) * 127.5).floor()  # guided-diffusion's scripts cut the fraction off
        inner = self._conditional(name, jobs, sampling, levels / 127.5 - 1)
        noise = self._noise([(job, name) for job in jobs], (3, size, size))
        x = yield from sampled(name, inner, sampling, noise)
        self._let_go(name)
        return x.clamp(-1, 1)
