"""The common half of the generative stages: noise levels, the loss, samples to look at while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Network, denoiser
from unclip.diffusion.loss import Weighting, diffusion_loss
from unclip.diffusion.samplers import ddim
from unclip.diffusion.schedule import DiffusionConfig, Schedule, respace
from unclip.errors import InputError
from unclip.train.places import Places
from unclip.train.tasks.stage import StageTask

PREVIEW_STEPS = 16


def kept(places: Places, drop: float) -> Tensor:
    """(B,) bool, False with probability `drop`."""
    return places.rand() >= drop


def random_steps(places: Places, schedule: Schedule) -> Tensor:
    """(B,) steps of the schedule, over which those of the whole batch are spread evenly."""
    return (places.stratified() * len(schedule)).long().clamp(max=len(schedule) - 1)


class DiffusionTask(StageTask):
    """A network, its diffusion, and the loss of what it predicts, weighted over noise levels."""

    diffusion: DiffusionConfig

    def __init__(self, diffusion: DiffusionConfig, weighting: Weighting) -> None:
        self.diffusion = diffusion
        self.schedule = diffusion.build()
        self.weighting = weighting

    def noise(self, x0: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Steps (B,) of the schedule, and noise of x0's shape."""
        return random_steps(places, self.schedule), places.randn(*x0.shape[1:])

    def losses(self, network: Network, x0: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """(B,) of clean data noised to steps (B,) of the schedule."""
        return diffusion_loss(
            network,
            self.schedule,
            self.diffusion.prediction,
            x0,
            steps,
            noise,
            self.weighting,
            learned_range=self.diffusion.learned_range,
        )


def check_grid(where: str, side: int, patch: int, levels: int) -> None:
    """Refuse pictures whose patches a UNet of so many levels cannot halve to the last. Raises InputError."""
    multiple = max(patch, 1) << max(levels - 1, 0)
    if patch < 1 or side < multiple or side % multiple:
        raise InputError(
            f"{where}: {side} pixels a side in patches of {patch}, over {levels} levels: choose a patch of 1 "
            f"or more, and a multiple of {multiple} pixels"
        )


def draw(network: Network, diffusion: DiffusionConfig, shape: Sequence[int], device: torch.device) -> Tensor:
    """A batch from noise, without guidance, the same noise every time: for previews while training."""
    x = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device)
    return sample(network, diffusion, x, PREVIEW_STEPS).float().clamp(-1, 1)


def sample(network: Network, diffusion: DiffusionConfig, x: Tensor, steps: int) -> Tensor:
    """The result of DDIM from standard normal x in so many steps."""
    schedule = diffusion.build()
    schedule = schedule[respace(len(schedule), steps)]
    denoise = denoiser(network, schedule, diffusion.prediction, diffusion.learned_range)
    still = torch.zeros_like(x)  # DDIM without eta draws no noise
    return [step.x for step in ddim(denoise, x * schedule.initial_std, lambda: still)][-1]
