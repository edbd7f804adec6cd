"""A bundle drawing in bulk: whole pictures of any family, and the stages of unCLIP one by one."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from unclip.diffusion.defaults import Sampling
from unclip.drawing import Job, Options, Prior
from unclip.errors import UnclipWarning
from unclip.evaluate.encoder import Step
from unclip.families.decoding import DECODER
from unclip.families.imagining import PriorSampling
from unclip.families.unclip import UnCLIP
from unclip.images import from_uint8, to_uint8
from unclip.pipeline import Done, Pipeline, chunks

AT_ONCE = 64  # captions that go through one stage together
Result = TypeVar("Result")


def draw(
    model: Pipeline, prompts: Sequence[str], seed: int, label: str, options: Options, first: int = 0
) -> Generator[Step, None, np.ndarray]:
    """One picture of each prompt, uint8 (N, S, S, 3) at the options' size.

    Picture k takes the noise of index `first` + k of the seed, whatever its prompt: the same in every
    language. Prompts of like length are drawn together, which changes nothing but the time.
    """
    jobs = [Job(prompt, seed, first + k) for k, prompt in enumerate(prompts)]
    lengths = model.clip.lengths(prompts) if isinstance(model, UnCLIP) else [len(p) for p in prompts]
    order = sorted(range(len(jobs)), key=lambda k: lengths[k])
    pictures = np.zeros((len(jobs), options.size, options.size, 3), np.uint8)
    done = 0
    with warnings.catch_warnings():
        # a caption that is longer than the bundle reads is judged by what the bundle makes of its beginning
        warnings.simplefilter("ignore", UnclipWarning)
        events = model.draw([jobs[k] for k in order], options)
    for event in events:
        for picture in event.pictures:
            pictures[picture.index - first] = np.asarray(picture.image)
            done += 1
        if event.pictures:
            yield label, done, len(jobs)
    return pictures


class Stages(UnCLIP):
    """unCLIP with its stages laid open."""

    def imagine(
        self,
        prompts: Sequence[str],
        seed: int,
        label: str,
        prior: Prior | None = None,
        sampling: PriorSampling = None,
    ) -> Generator[Step, None, np.ndarray]:
        """Image embeddings, float32 (N, E), as `paint` takes them; picture k has index k.

        With `sampling` a prior draws so; without, `prior` as it usually does, or the bundle's usual one.
        """
        how = sampling or self.prior_sampling(Options(prior=prior))
        rows = []
        for batch in self._batches(prompts):
            text = self.clip.read([prompts[k] for k in batch], self._context)
            jobs = [Job(prompts[k], seed, k) for k in batch]
            rows.append(_result(self._imagine(jobs, text, how)).cpu())
            yield label, sum(map(len, rows)), len(prompts)
        return self._sorted(prompts, torch.cat(rows)).numpy()

    def paint(
        self,
        prompts: Sequence[str],
        embeddings: np.ndarray,
        seed: int,
        label: str,
        sampling: Sampling | None = None,
    ) -> Generator[Step, None, np.ndarray]:
        """Pictures of the decoder from embeddings (N, E) and captions, uint8 (N, S, S, 3).

        Embeddings are of length one where `unit` says so.
        """
        given = torch.from_numpy(embeddings).to(self.device)
        rows = []
        for batch in self._batches(prompts):
            text = self.clip.read([prompts[k] for k in batch], self._context)
            jobs = [Job(prompts[k], seed, k) for k in batch]
            rows.append(
                _result(self._paint(jobs, text, given[batch], sampling or self._sampling(DECODER))).cpu()
            )
            yield label, sum(map(len, rows)), len(prompts)
        return to_uint8(self._sorted(prompts, torch.cat(rows)))

    def enlarge(self, name: str, low: np.ndarray, seed: int, label: str) -> Generator[Step, None, np.ndarray]:
        """Pictures uint8 (N, S, S, 3) enlarged by an upsampler, uint8 (N, 4 S, 4 S, 3)."""
        rows: list[np.ndarray] = []
        side = low.shape[1]
        target = next(size for size, chain in self._chain.items() if chain == name)
        for batch in chunks(range(len(low)), self._chunk(target)):
            images = from_uint8(low[batch]).to(self.device)  # (B, 3, S, S)
            jobs = [Job("", seed, k) for k in batch]
            rows.append(to_uint8(_result(self._enlarge(name, jobs, images))))
            yield label, sum(map(len, rows)), len(low)
        return np.concatenate(rows) if rows else np.zeros((0, side, side, 3), np.uint8)

    @property
    def unit(self) -> bool:
        """Whether prior and decoder know embeddings by their direction alone (Karlo's do not)."""
        return self._decoder.unit_embeddings

    @property
    def chain(self) -> dict[int, str]:
        """The upsamplers by the size that each one draws, smallest first."""
        return dict(self._chain)

    def default(self, stage: str) -> Sampling:
        """How a stage draws where nothing else is asked for."""
        return self._sampling(stage)

    def _batches(self, prompts: Sequence[str]) -> list[list[int]]:
        return chunks(self._order(prompts), AT_ONCE)

    def _order(self, prompts: Sequence[str]) -> list[int]:
        """Texts of one length are drawn together: they come after each other."""
        lengths = self.clip.lengths(prompts, self._context)
        return sorted(range(len(prompts)), key=lambda k: lengths[k])

    def _sorted(self, prompts: Sequence[str], rows: Tensor) -> Tensor:
        """Rows in the order of the batches back in that of the prompts."""
        return rows[torch.tensor(self._order(prompts)).argsort()]


def _result(work: Generator[Done, None, Result]) -> Result:
    """Do a piece of work to its end."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
