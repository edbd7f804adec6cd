"""A bundle's networks while it draws: where they compute, which are held, and the noise they take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.drawing import Job
from unclip.errors import InputError
from unclip.nn.int8 import quantise_weights_
from unclip.nn.packed import can_pack, pack_weights_
from unclip.runtime import (
    autocast,
    machine_of_bits,
    noise_generator,
    own_defaults,
    pick_device,
    pick_precision,
    return_freed_memory,
)

GROUP = 16  # pictures that go through all stages together: those of a long list appear as they are done
PIXELS = 8 * 256 * 256  # pixels in one call of a network that draws, what keeps a CPU below 1 GB
CELLS = 16 * 64 * 64  # of its own grid that a network takes in one step: a CPU is slower outside its cache
ACCELERATOR = 16  # times as much on an accelerator
EXACT = "float32"  # the precision of exact pictures
INT8 = "int8"  # a precision of networks that draw codes: weights in eight bits, products in the device's own


class Form(StrEnum):
    """The layout of a network's weights in memory; where none is named they are packed for many rows."""

    PLAIN = "plain"  # as they are: gradients go through
    FEW_ROWS = "few-rows"  # packed for few rows, or in eight bits


class Where(TypedDict, total=False):
    """Keywords that say where and how networks compute, as of `unclip.load`."""

    device: str | None
    precision: str | None
    offload: bool
    exact: bool


class Call(NamedTuple):
    """One evaluation of a guided network.

    Attributes:
        network: called with x, label and `condition`.
        x: (B, C, S, S).
        label: (B,) of each row's own step.
        condition: tensors (B, ...), in dataclasses and tuples; None where there is nothing to be told.
    """

    network: nn.Module
    x: Tensor
    label: Tensor
    condition: Any


class Networks:
    """The networks of a bundle, each read when it is first needed.

    Args:
        bundle: where the weights come from.
        forms: how the weights of a component lie in memory.
        device, precision, offload, exact: as of `unclip.load`.

    Attributes:
        share: computes a call together with those of others, as a server does, or gives None where it does
            not; None computes each by itself.

    Raises:
        InputError: an unknown device or precision, eight bits where no network draws codes, or another
            precision than float32 with `exact`.
    """

    def __init__(
        self,
        bundle: Bundle,
        forms: Mapping[str, Form],
        *,
        device: str | None = None,
        precision: str | None = None,
        offload: bool = False,
        exact: bool = False,
    ) -> None:
        if exact and precision not in (None, EXACT):
            raise InputError(f"precision {precision!r}: exact pictures are computed in {EXACT}, leave it out")
        if exact:
            precision = EXACT
        self.bundle, self.forms, self.offload, self.exact = bundle, forms, offload, exact
        self.eight_bits = precision == INT8 and Form.FEW_ROWS in forms.values()
        self.device = pick_device(device)
        self.precision = pick_precision(self.device, None if self.eight_bits else precision)
        self.held: dict[str, nn.Module] = {}
        self.share: Callable[[Call], Tensor | None] | None = None

    def __getitem__(self, name: str) -> nn.Module:
        """A component's network."""
        if self.offload:
            return_freed_memory()  # of the network, or the step, before
        if name not in self.held:
            model, form = (
                self.bundle.model(name, dtype=self.precision, device=self.device),
                self.forms.get(name),
            )
            if form is Form.FEW_ROWS and self.eight_bits:
                model = quantise_weights_(model)
            elif form is not Form.PLAIN and can_pack(self.device, self.precision):
                model = pack_weights_(model, few_rows=form is Form.FEW_ROWS)
            self.held[name] = model
        return self.held[name]

    def check(self, names: Collection[str]) -> None:
        """Are their files there and whole? To be asked before the drawing. Raises BundleError if not."""
        if self.offload:
            self.bundle.verify(*names)
        else:
            for name in names:
                self[name]

    def keep(self, names: Collection[str]) -> None:
        """With `offload` all other networks go, and are read again when they are needed."""
        if self.offload:
            self.held = {name: model for name, model in self.held.items() if name in names}

    def let_go(self, name: str) -> None:
        """With `offload` this network goes."""
        self.keep(self.held.keys() - {name})

    @property
    def precision_name(self) -> str:
        """The precision as `unclip.load` takes it."""
        return INT8 if self.eight_bits else str(self.precision).removeprefix("torch.")

    @property
    def settings(self) -> dict[str, str]:
        """The texts that a picture's metadata hold of how its networks computed."""
        exact = {"exact": machine_of_bits(self.device)} if self.exact else {}
        return {"precision": self.precision_name, **exact}

    def settled(self) -> AbstractContextManager[None]:
        """Nothing that a user has set for torch changes what is drawn; it must not span a `yield`."""
        return own_defaults(self.exact)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Networks compute in their precision and record nothing, while it lasts or in what it decorates.

        It must not span a `yield`: inference mode would hold for whoever reads the events.
        """
        with torch.inference_mode(), autocast(self.device, self.precision):
            yield

    def called(self, call: Call) -> Tensor:
        """The output (B, C, S, S) of a call, float32, perhaps computed with those of others."""
        shared = None if self.share is None else self.share(call)
        return self.computed(call) if shared is None else shared

    def computed(self, call: Call) -> Tensor:
        """As `called`, computed now and by itself."""
        with self.computing():
            output: Tensor = call.network(call.x, call.label, condition=call.condition)
            return output.float()

    def at_once(self, most: int) -> int:
        """The number of rows that go through a network in one call, where it could take `most`.

        Kernels are chosen by the number of rows, and round differently: exact pictures go one by one.
        """
        return 1 if self.exact else max(1, most)

    @property
    def group(self) -> int:
        """The number of pictures that go through all stages together."""
        return self.at_once(GROUP)

    def pictures(self, side: int) -> int:
        """The number of pictures of a side that go through a network in one call."""
        pixels = PIXELS if self.device.type == "cpu" else PIXELS * ACCELERATOR
        return self.at_once(min(GROUP, pixels // side**2))

    def grids(self, side: int) -> int:
        """The number of grids of a side that a network takes in one step; it holds little between steps."""
        cells = CELLS if self.device.type == "cpu" else CELLS * ACCELERATOR
        return self.at_once(cells // side**2)

    def noise(self, streams: Sequence[tuple[Job, str]], shape: tuple[int, ...]) -> Callable[[], Tensor]:
        """Standard normal noise (B, *shape), each row from its job's own stream of that name."""
        generators = generators_of(streams)

        def noise() -> Tensor:
            rows = [torch.randn(shape, generator=generator) for generator in generators]
            return torch.stack(rows).to(self.device)

        return noise


def generators_of(streams: Sequence[tuple[Job, str]]) -> list[torch.Generator]:
    """The generators of jobs' streams: those of another picture where a job shares its noise."""
    return [
        noise_generator(job.seed, job.index if job.given.shared is None else job.given.shared, stream)
        for job, stream in streams
    ]
