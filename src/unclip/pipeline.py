"""Prompt to pictures: the one path that Python, command line and server share (seam 6 of the design).

Here is what all families have in common: jobs, groups, noise, events. How each family draws is in `families`,
the networks are in `models`, the arithmetic in `diffusion`, the files in `bundle`.

Picture k of seed s takes all its noise from streams of its own (seam 3): so it is the same alone and in any
batch, but for what the matrix products' kernels, chosen by batch size, round differently.
"""

from __future__ import annotations

import importlib
import secrets
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, Unpack

import torch
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.diffusion.defaults import Sampling
from unclip.drawing import Event, Job, Options, Picture, Settings
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.images import resize, to_pil
from unclip.models.code_sampling import CodeSampling
from unclip.nn.packed import can_pack, with_packed_weights
from unclip.runtime import noise_generator, pick_device, pick_precision, return_freed_memory

__all__ = ["Event", "Job", "Options", "Picture", "Pipeline", "Settings", "load"]

DEFAULT_SIZE = 256  # what is large enough to look at and quick to draw
GROUP = 16  # pictures that go through all stages together: those of a long list appear as they are done
PIXELS = 8 * 256 * 256  # pixels in one call of a network that draws, what keeps a CPU below 1 GB
CELLS = 16 * 64 * 64  # of its own grid that a network takes in one step: a CPU is slower outside its cache
ACCELERATOR = 16  # times as much on an accelerator

# The class that draws each family of bundles; imported when a bundle of the family is loaded.
FAMILIES = {
    "unclip": ("unclip.families.unclip", "UnCLIP"),
    "dalle1": ("unclip.families.dalle1", "Dalle1"),
    "dalle-mini": ("unclip.families.dalle_mini", "DalleMini"),
    "adm": ("unclip.families.adm", "ADM"),
    "glide": ("unclip.families.glide", "Glide"),
}

PICTURES = "pictures"  # the stage in which finished pictures appear


class Done(NamedTuple):
    """A piece of work that is done, before it is counted and timed."""

    stage: str
    estimate: Tensor | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Options put together with the bundle's defaults.

    Attributes:
        options: what was asked for.
        sampling: of the components that draw, by name.
        upsamplers: the components that enlarge, in their order.
        settings: what the pictures' metadata say of it.
        codes: how codes are drawn, in a family that draws them one by one.
    """

    options: Options
    sampling: Mapping[str, Sampling] = field(default_factory=dict)
    upsamplers: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    codes: CodeSampling | None = None


def load(
    source: str | Path | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    offload: bool = False,
) -> Pipeline:
    """Load a bundle to draw with.

    Args:
        source: a bundle's name or folder; None is the shipped one.
        device: "cpu", "cuda", "cuda:N" or "mps"; None is CUDA where there is one.
        precision: "float32", "bfloat16" or "float16"; None is bfloat16 where the device computes in it.
        offload: let each network go when its stage is done: memory for the largest and not for all, and they
            are read again for the next pictures.

    Raises:
        BundleError: there is no such bundle, a file of it is missing or altered, or its family does not draw.
        InputError: an unknown device or precision, or `offload` where the family needs all at once.
    """
    bundle = Bundle.load(source)
    if bundle.family not in FAMILIES:
        raise BundleError(
            f"bundle {bundle.name} is of the family {bundle.family}, which does not draw pictures from text: "
            f"those that do are {listed(FAMILIES)}"
        )
    module, name = FAMILIES[bundle.family]
    drawer: type[Pipeline] = getattr(importlib.import_module(module), name)
    if offload and not drawer.offloads:
        raise InputError(
            f"bundle {bundle.name}, of the family {bundle.family}, is not offloaded: leave it out"
        )
    model = drawer(bundle, device=device, precision=precision)
    model.offload = offload
    return model


class Pipeline(ABC):
    """A loaded bundle: draws pictures from text.

    A family says what it honours (`honours`), which sizes there are, how options and defaults make a plan,
    and how the work is done; everything around that is here.

    Attributes:
        bundle: where the weights came from.
        device, precision: where and in what type the networks compute.
        offload: whether a network is let go when its stage is done.
        _context: tokens of a prompt that are read, its start and end included.
    """

    family: ClassVar[str]
    honours: ClassVar[frozenset[str]]  # fields of `Options`, beside n, size and seed, that mean something
    guides: ClassVar[frozenset[str]] = frozenset()  # components whose gradients are taken
    offloads: ClassVar[bool] = False  # whether it can do with one network at a time
    offload: bool = False
    _context: int

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        if bundle.family != self.family:
            raise BundleError(f"bundle {bundle.name} is of the family {bundle.family}, not {self.family}")
        self.bundle = bundle
        self.device = pick_device(device)
        self.precision = pick_precision(self.device, precision)
        self._models: dict[str, nn.Module] = {}

    @classmethod
    def load(cls, source: str | Path | None = None, **options: str | None) -> Self:
        """As `unclip.load`, for a bundle that must be of this family."""
        return cls(Bundle.load(source), **options)

    # --- what a family says ---

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Sides in pixels that can be asked for, smallest first."""

    @abstractmethod
    def _plan(self, options: Options) -> Plan:
        """Options and defaults put together. Raises InputError for what cannot be done."""

    @abstractmethod
    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        """How many pieces of work each stage will have."""

    @abstractmethod
    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        """Draw the groups one after the other, telling of every piece of work."""

    @abstractmethod
    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        """What of each prompt will not be read; None where all of it is."""

    @property
    def default_size(self) -> int:
        """Side in pixels of the pictures where none is asked for: 256, or what comes nearest to it."""
        return min(self.sizes, key=lambda size: abs(size - DEFAULT_SIZE))

    # --- drawing ---

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
        return [picture for event in self.stream(prompt, **settings) for picture in event.pictures]

    def stream(self, prompt: str | Sequence[str], **settings: Unpack[Settings]) -> Iterator[Event]:
        """As `generate`, telling of every step; pictures come with the event that finishes them.

        Input is checked when this is called, the drawing happens while the events are read. Stopping to read
        them stops the drawing.
        """
        chosen: dict[str, Any] = {**settings}
        if chosen.get("size") is None:
            chosen["size"] = self.default_size
        options = Options(**chosen)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seed = secrets.randbelow(2**32) if options.seed is None else options.seed
        count = options.rerank or options.n
        jobs = [Job(text, seed, index) for text in prompts for index in range(count)]
        return self.draw(jobs, options)

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        """As `stream`, for any mixture of prompts, seeds and indices (a server's requests, for example).

        The options' `seed` is not used, and `n` only with `rerank`: the best `n` jobs of each prompt and seed
        are kept.
        """
        for job in jobs:
            _check_prompt(job.prompt)
        if not jobs:
            raise InputError("no prompt given: say what to draw")
        for name in options.given - self.honours:
            raise InputError(
                f"{name} means nothing to {self.bundle.name}, of the family {self.family}: leave it out "
                f"(it knows {listed(sorted(self.honours))})"
            )
        if options.size not in self.sizes:
            raise InputError(f"size {options.size} is not drawn: choose {listed(self.sizes)}")
        plan = self._plan(options)
        self._warn_of_long_prompts(list(dict.fromkeys(job.prompt for job in jobs)))
        return self._timed(jobs, plan)

    def _warn_of_long_prompts(self, prompts: Sequence[str]) -> None:
        for rest in self._truncated(prompts):
            if rest is not None:
                message = f"the prompt is longer than the {self._context} tokens that are read: left out is "
                warnings.warn(f"{message}{_shortened(rest)!r}", UnclipWarning, stacklevel=4)

    def _timed(self, jobs: Sequence[Job], plan: Plan) -> Iterator[Event]:
        """Count and time the pieces of work."""
        groups = _groups(jobs, plan.options.rerank is not None)
        totals = self._totals(groups, plan)
        done: Counter[str] = Counter()
        started = time.perf_counter()
        for piece in self._work(groups, plan):
            done[piece.stage] += max(1, len(piece.pictures))
            seconds = time.perf_counter() - started
            yield Event(
                piece.stage, done[piece.stage], totals[piece.stage], seconds, piece.pictures, piece.estimate
            )
            started = time.perf_counter()

    # --- what families share ---

    def _finish(
        self, jobs: Sequence[Job], images: Tensor, scores: Sequence[float | None], plan: Plan
    ) -> tuple[Picture, ...]:
        """Pictures (B, 3, H, W) in [-1, 1] at the size that was asked for, with what they came from."""
        images = resize(images, plan.options.size)
        return tuple(
            Picture(
                image=to_pil(image),
                prompt=job.prompt,
                seed=job.seed,
                index=job.index,
                score=score,
                model=self.bundle.name,
                identity=self.bundle.identity,
                settings=plan.settings,
            )
            for job, image, score in zip(jobs, images, scores, strict=True)
        )

    def _model(self, name: str) -> nn.Module:
        """A component's network, read when it is first needed."""
        if self.offload:
            return_freed_memory()  # of the network, or the step, before
        if name not in self._models:
            model = self.bundle.model(name, dtype=self.precision, device=self.device)
            self._models[name] = self._ready(name, model)
        return self._models[name]

    def _ready(self, name: str, model: nn.Module) -> nn.Module:
        """A component's network as it draws fastest."""
        if name in self.guides or not can_pack(self.device, self.precision):
            return model
        return with_packed_weights(model)

    def _let_go(self, name: str) -> None:
        """A component's stage is done: with `offload` its network goes, and is read again when needed."""
        if self.offload:
            self._models.pop(name, None)

    def _chunk(self, size: int) -> int:
        """How many pictures of a side go through a network in one call."""
        pixels = PIXELS if self.device.type == "cpu" else PIXELS * ACCELERATOR
        return max(1, min(GROUP, pixels // size**2))

    def _at_once(self, side: int) -> int:
        """How many grids of that side a network takes in one step; what it holds between steps is little."""
        cells = CELLS if self.device.type == "cpu" else CELLS * ACCELERATOR
        return max(1, cells // side**2)

    def _noise(self, streams: Sequence[tuple[Job, str]], shape: tuple[int, ...]) -> Callable[[], Tensor]:
        """Standard normal noise (B, *shape), each row from its job's own stream of that name."""
        generators = [noise_generator(job.seed, job.index, stage) for job, stage in streams]

        def noise() -> Tensor:
            rows = [torch.randn(shape, generator=generator) for generator in generators]
            return torch.stack(rows).to(self.device)

        return noise


def _groups(jobs: Sequence[Job], rerank: bool) -> list[list[Job]]:
    """Jobs that go through the stages together: with `rerank` those that compete, else `GROUP` at a time."""
    if not rerank:
        return chunks(jobs, GROUP)
    competing: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        competing.setdefault((job.prompt, job.seed), []).append(job)
    return list(competing.values())


Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """The items in lists of at most `size` (at least 1), in their order."""
    size = max(1, size)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise InputError("the prompt is empty: say what to draw")
    if len(prompt) > Options.LONGEST_PROMPT:
        raise InputError(
            f"the prompt has {len(prompt)} characters: at most {Options.LONGEST_PROMPT} are allowed"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt is not text: it has a stray {prompt[error.start]!r}") from error


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def listed(values: Iterable[object]) -> str:
    """Values for a message, "a, b, c"."""
    return ", ".join(map(str, values))
