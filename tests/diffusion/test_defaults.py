"""Promises of a component's defaults: its sampler draws with its own options, another one without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from unclip.diffusion.defaults import DecoderSampling, LangevinUpdates, Sampling, Spacing
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.samplers import SAMPLERS, Step, Variance, ancestral, ddim, langevin
from unclip.diffusion.schedule import cosine, geometric, respace

Make = Callable[..., Denoiser]


def last(run: Callable[..., Iterator[Step]], denoiser: Denoiser) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = partial(torch.randn, 2, 3, generator=generator)
    return list(run(denoiser, noise(), noise))[-1].x


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(8, sampler="ddim", eta=0.5), partial(ddim, eta=0.5)),
        (Sampling(8, sampler="ancestral"), ancestral),
        *(
            (Sampling(8, sampler="ancestral", variance=variance), partial(ancestral, variance=variance))
            for variance in Variance
        ),
        *((Sampling(8, sampler=name), run) for name, run in SAMPLERS.items() if name != "langevin"),
    ],
)
def test_a_sampler_has_the_options_that_are_its_own(
    sampling: Sampling, expected: Callable[..., Iterator[Step]], gaussian: Make
) -> None:
    denoiser = gaussian(cosine()[respace(1000, 8)], 0.4, 0.3, learned=True)
    assert torch.equal(last(sampling.run, denoiser), last(expected, denoiser))


def test_langevin_has_its_updates(gaussian: Make) -> None:
    denoiser = gaussian(geometric(4, 0.02, 2.0), 0.4, 0.3)
    sampling = Sampling(4, sampler="langevin", langevin=LangevinUpdates(3, 1e-3))
    assert torch.equal(
        last(sampling.run, denoiser), last(partial(langevin, steps=3, step_size=1e-3), denoiser)
    )
    plain = Sampling(4, sampler="langevin")
    assert torch.equal(last(plain.run, denoiser), last(langevin, denoiser))


def test_the_variances_of_ancestral_steps_differ(gaussian: Make) -> None:
    denoiser = gaussian(cosine()[respace(1000, 8)], 0.4, 0.3, learned=True)
    drawn = [last(Sampling(8, sampler="ancestral", variance=one).run, denoiser) for one in Variance]
    assert not any(torch.equal(a, b) for a, b in zip(drawn, drawn[1:] + drawn[:1], strict=True))


def test_another_sampler_takes_nothing_of_the_old_ones_options_and_all_else() -> None:
    ancestral = DecoderSampling(
        8, sampler="ancestral", spacing=Spacing.EVEN, variance=Variance.LARGE, guidance=3.0, noise_level=0.2
    )
    assert ancestral.by("dpm++") == DecoderSampling(8, sampler="dpm++", guidance=3.0, noise_level=0.2)
    assert Sampling(8, eta=0.5).by("heun") == Sampling(8, sampler="heun")
    assert Sampling(8, sampler="langevin", langevin=LangevinUpdates(3)).by("ddim") == Sampling(8)
