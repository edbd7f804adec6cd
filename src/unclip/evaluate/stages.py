"""A bundle drawing in bulk: whole pictures of any family, and the stages of unCLIP one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from unclip.drawing import Job, Options, Prior
from unclip.errors import InputError, UnclipWarning
from unclip.evaluate.encoder import Step
from unclip.families.unclip import UnCLIP
from unclip.images import from_uint8, to_uint8
from unclip.pipeline import Pipeline
from unclip.stages.decoder import Decoder
from unclip.stages.prior import Embeddings
from unclip.stages.stage import Batch, chunks, finished, images_of
from unclip.stages.upsampler import Upsampler

AT_ONCE = 64  # captions that go through one stage together


def draw(
    model: Pipeline, prompts: Sequence[str], seed: int, label: str, options: Options, first: int = 0
) -> Generator[Step, None, np.ndarray]:
    """One picture of each prompt, uint8 (N, S, S, 3) at the options' size.

    Picture k takes the noise of index `first` + k of the seed, whatever its prompt: the same in every
    language. Prompts of like length are drawn together, which changes nothing but the time.
    """
    jobs = [Job(prompt, seed, first + k) for k, prompt in enumerate(prompts)]
    lengths = model.lengths(prompts)
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


class Stages:
    """The stages of a loaded bundle of the family unclip, each for many captions; picture k has index k.

    Attributes:
        model, family: the bundle, and its stages.
        priors: those that it has.
        unit: whether they and the decoder know embeddings by their direction alone (Karlo's do not).
        chain: the upsampler that draws each larger size, smallest first.

    Raises:
        InputError: a bundle of another family.
    """

    def __init__(self, model: Pipeline) -> None:
        if not isinstance(model.family, UnCLIP):
            raise InputError(f"{model.bundle.name} is not of the family unclip: its stages are others")
        self.model, self.family, self.priors = model, model.family, model.family.priors
        self.unit, self.chain = self.family.config.unit_embeddings, self.family.chain.names

    def prior(self, name: Prior | None = None, **settings: Any) -> Embeddings:
        """The stage that draws embeddings, with settings as of `Options`."""
        return self.family.prior(Options(prior=name, **settings))

    def imagine(
        self, prompts: Sequence[str], seed: int, label: str, prior: Embeddings | None = None
    ) -> Generator[Step, None, np.ndarray]:
        """Image embeddings, float32 (N, E), as `paint` takes them, of a prior or of the usual one."""

        def embeddings(batch: Batch, rows: Sequence[int]) -> Tensor:
            return cast(Tensor, finished((prior or self.prior()).run(batch)).embeddings)

        return (yield from self._each(prompts, seed, label, embeddings)).numpy()

    def paint(
        self,
        prompts: Sequence[str],
        embeddings: np.ndarray,
        seed: int,
        label: str,
        decoder: Decoder | None = None,
    ) -> Generator[Step, None, np.ndarray]:
        """Pictures of the decoder, uint8 (N, S, S, 3), of captions and embeddings as `imagine` gives them."""
        given, how = torch.from_numpy(embeddings), decoder or self.family.decoder(Options())

        def pictures(batch: Batch, rows: Sequence[int]) -> Tensor:
            return images_of(how, replace(batch, embeddings=given[list(rows)].to(self.model.device)))

        return to_uint8((yield from self._each(prompts, seed, label, pictures)))

    def enlarge(self, name: str, low: np.ndarray, seed: int, label: str) -> Generator[Step, None, np.ndarray]:
        """Pictures uint8 (N, S, S, 3) enlarged by an upsampler, uint8 (N, 4 S, 4 S, 3)."""
        networks, rows = self.model.networks, []
        target = next(size for size, chain in self.chain.items() if chain == name)
        for some in chunks(range(len(low)), networks.pictures(target)):
            jobs = tuple(Job("", seed, k) for k in some)
            batch = Batch(jobs, images=from_uint8(low[some]))  # (B, 3, S, S)
            rows.append(to_uint8(images_of(Upsampler.of(networks, name), batch)))
            yield label, sum(map(len, rows)), len(low)
        side = low.shape[1]
        return np.concatenate(rows) if rows else np.zeros((0, side, side, 3), np.uint8)

    def _each(
        self,
        prompts: Sequence[str],
        seed: int,
        label: str,
        work: Callable[[Batch, Sequence[int]], Tensor],
    ) -> Generator[Step, None, Tensor]:
        """Rows of every prompt, in their order; texts of one length are worked on together."""
        lengths = self.model.lengths(prompts)
        order, rows = sorted(range(len(prompts)), key=lambda k: lengths[k]), []
        for some in chunks(order, AT_ONCE):
            text = self.family.captions.read([prompts[k] for k in some])
            jobs = tuple(Job(prompts[k], seed, k) for k in some)
            rows.append(work(Batch(jobs, text=text), some).cpu())
            yield label, sum(map(len, rows)), len(prompts)
        return torch.cat(rows)[torch.tensor(order).argsort()]
