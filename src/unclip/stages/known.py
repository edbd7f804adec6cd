"""Pictures to draw into: pixels that are known stay, and what is drawn meets them.

Nothing here depends on who shares the batch: rows of which nothing is known are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.diffusion.guidance import with_known
from unclip.drawing import Job, Picture
from unclip.manipulate.seam import matched, seam


def rows_of(jobs: Sequence[Job]) -> list[int]:
    """The jobs that draw into a picture."""
    return [row for row, job in enumerate(jobs) if job.given.known is not None]


def at(jobs: Sequence[Job], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, S, S) and masks (B, 1, S, S), 1 for what is known, of jobs that have them."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    for job in jobs:
        assert job.given.known is not None
        if id(job.given.known) not in seen:
            seen[id(job.given.known)] = job.given.known.at(size)
    pictures, masks = zip(*(seen[id(job.given.known)] for job in jobs), strict=True)
    return torch.stack(pictures).to(device), torch.stack(masks).to(device)


def pasted(jobs: Sequence[Job], images: Tensor) -> Tensor:
    """Pictures (B, 3, S, S), over them what is known."""
    if not (rows := rows_of(jobs)):
        return images
    picture, keep = at([jobs[row] for row in rows], images.shape[-1], images.device)
    images = images.clone()
    images[rows] = torch.where(keep > 0, picture, images[rows])
    return images


def held(jobs: Sequence[Job], inner: Denoiser, size: int, device: torch.device) -> Denoiser:
    """A denoiser of pictures of a side, held to what is known of each."""
    if not (rows := rows_of(jobs)):
        return inner
    picture, keep = at([jobs[row] for row in rows], size, device)
    if len(rows) == len(jobs):
        return with_known(inner, picture, keep)

    def function(x: Tensor, i: int) -> Denoised:
        free = inner(x, i)
        variance = None if free.log_variance is None else free.log_variance[rows]
        some = Denoised(free.x0[rows], free.epsilon[rows], variance)
        bound = with_known(Denoiser(inner.schedule, lambda x, i: some), picture, keep)(x[rows], i)
        x0, epsilon = free.x0.clone(), free.epsilon.clone()
        x0[rows], epsilon[rows] = bound.x0, bound.epsilon
        return Denoised(x0, epsilon, free.log_variance)

    return Denoiser(inner.schedule, function)


def finished(job: Job, drawn: Picture) -> Picture:
    """The drawn picture in the light of what is kept, and that over it; settings say how well they fit."""
    known = job.given.known
    if known is None:
        return drawn
    lit = matched(drawn.image, known.image, known.keep)
    image = Image.composite(known.image, lit, known.keep)
    return replace(drawn, image=image, settings={**drawn.settings, **seam(image, known.keep).texts})
