"""The way in which each family draws: its stages in their order, sizes, defaults, and what it honours.

A family is a file of this folder with one class, named in `manifest.FAMILIES`. To write one, say what
`Family` leaves open; everything around that is in `pipeline.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder
from unclip.errors import InputError
from unclip.given import TAKEN_BY, Inversion, Kind, Known
from unclip.models.code_sampling import CodeSampling
from unclip.stages.decoder import Inverting
from unclip.stages.networks import Form, Networks
from unclip.stages.stage import Stage
from unclip.tokenizer import Tokenizer


class Family(ABC):
    """A bundle of one family, ready to say how it draws.

    Attributes:
        honours: fields of `Options`, beside n, size and seed, that mean something.
        takes: what can be given with a job.
        apart: whether what draws into pictures goes through other stages than the rest.
        forms: how the weights of components lie in memory.
        sizes: sides in pixels that can be asked for, smallest first.
        tokenizer: cuts the prompts; None where they are no texts.
        context: tokens of a prompt that are read, its start and end included.
        clip: embeds texts and pictures; None where the bundle has no CLIP.
        fills_in: whether a network was trained to fill in.
    """

    honours: ClassVar[frozenset[str]]
    takes: ClassVar[frozenset[Kind]] = frozenset()
    apart: ClassVar[bool] = False
    forms: ClassVar[Mapping[str, Form]] = {}
    sizes: tuple[int, ...]
    tokenizer: Tokenizer | None = None
    context: int = 0
    clip: ClipEmbedder | None = None
    fills_in: bool = False

    def __init__(self, networks: Networks) -> None:
        self.networks, self.bundle = networks, networks.bundle

    @abstractmethod
    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        """The stages that jobs go through; where the family is `apart`, they all fill in, or none does.

        Raises InputError for what cannot be done.
        """

    def check(self, options: Options, jobs: Sequence[Job]) -> None:
        """Refuses, with InputError, what is wrong with jobs and what the other checks let pass."""
        return

    def truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        """The end of each prompt that will not be read; None where all of it is."""
        if self.tokenizer is None:
            return [None] * len(prompts)
        return self.tokenizer.batch(prompts, self.context).truncated

    def lengths(self, prompts: Sequence[str]) -> Sequence[int]:
        """The length of each prompt; prompts of the same length are drawn in fewer batches."""
        return [len(prompt) for prompt in prompts]

    # --- what only some can do ---

    def check_known(self, known: Known) -> None:
        """Refuses, with InputError, a picture that cannot be drawn into."""
        if Kind.KNOWN not in self.takes:
            raise self.refusal(Kind.KNOWN)

    def inverting(self, inversion: Inversion) -> Inverting:
        """The stage that finds the noise that pictures are drawn from; refused here."""
        raise self.refusal(Kind.NOISE)

    @property
    def principal_components(self) -> tuple[Tensor, Tensor] | None:
        """Mean (E,) and principal components (K, E) of embeddings that the bundle brings; None without."""
        return None

    def complete_caption(self, beginning: str, n: int, seed: int, sampling: CodeSampling) -> list[str]:
        """Captions written on; refused here."""
        raise InputError(f"{self._named} does not write texts: choose a bundle of the family dalle1")

    def refusal(self, kind: Kind) -> InputError:
        """For what the stages of this family cannot be given."""
        return InputError(f"{self._named} cannot be given {kind.value}: choose a bundle {TAKEN_BY[kind]}")

    @property
    def _named(self) -> str:
        return f"{self.bundle.name}, of the family {self.bundle.family},"
