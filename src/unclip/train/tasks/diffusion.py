"""The common half of the generative stages: noise levels, the loss, samples to look at while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Network, denoiser
from unclip.diffusion.loss import Weighting, diffusion_loss
from unclip.diffusion.samplers import ddim
from unclip.diffusion.schedule import DiffusionConfig, Schedule, respace
from unclip.train.tasks.stage import StageTask

PREVIEW_STEPS = 16


def kept(size: int, drop: float, generator: torch.Generator) -> Tensor:
    """(B,) bool, False with probability `drop`."""
    return torch.rand(size, generator=generator, device=generator.device) >= drop


def random_steps(size: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """(B,) steps of the schedule, spread evenly over it with a common random offset (less variance)."""
    device = generator.device
    offset = torch.rand((), generator=generator, device=device)
    position = (torch.randperm(size, generator=generator, device=device) + offset) / size * len(schedule)
    return position.long().clamp(max=len(schedule) - 1)


class DiffusionTask(StageTask):
    """A network, its diffusion, and the loss of what it predicts, weighted over noise levels."""

    diffusion: DiffusionConfig

    def __init__(self, diffusion: DiffusionConfig, weighting: Weighting) -> None:
        self.diffusion = diffusion
        self.schedule = diffusion.build()
        self.weighting = weighting

    def noise(self, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps (B,) of the schedule, and noise of x0's shape."""
        steps = random_steps(len(x0), self.schedule, generator)
        return steps, torch.randn(x0.shape, generator=generator, device=generator.device)

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
