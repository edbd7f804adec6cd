"""Pictures as networks that guide see them: noised."""

from __future__ import annotations

import torch
from torch import Tensor

from unclip.diffusion.schedule import DiffusionConfig, Schedule
from unclip.errors import InputError
from unclip.train.results import Results

JUDGED_SHARES = (0.0, 0.25, 0.5, 0.75)  # of a schedule's steps: where networks that guide are judged


def noised(images: Tensor, schedule: Schedule, steps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, S, S) at steps (B,) of a schedule, and the steps' labels (B,)."""
    label = schedule.label[steps.cpu()].to(images.device, torch.float32)
    return schedule.add_noise(images, steps, noise), label


def noised_alike(
    images: Tensor, schedule: Schedule, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `noised`, all at the same share of the schedule's steps, 0 to below 1, by noise of their shape."""
    steps = torch.full((len(images),), int(share * len(schedule)), dtype=torch.int64)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return noised(images, schedule, steps, noise)


def diffusion_of(run: Results, guided: str) -> DiffusionConfig:
    """The diffusion of the stage `guided`: a network that guides is trained over the same noise levels.

    Raises InputError where the recipe has no such stage.
    """
    if guided not in run.recipe:
        raise InputError(f"the recipe has no stage {guided}, whose noise levels the guide has to know")
    return run.part(guided, "diffusion", DiffusionConfig)
