from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser, Threshold, denoiser, threshold
from unclip.diffusion.loss import prediction_target
from unclip.diffusion.schedule import Prediction, Schedule, cosine, geometric, respace
from unclip.errors import InputError

COSINE = cosine()[respace(1000, 10)]
GEOMETRIC = geometric(10, 0.01, 50.0)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("schedule", [COSINE, GEOMETRIC])
def test_a_perfect_network_is_understood_whatever_it_predicts(
    schedule: Schedule, prediction: Prediction
) -> None:
    """All predictions of one x0 and noise give that x0 and noise back, also where variance explodes."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=generator)
    for i in range(len(schedule)):
        index = torch.full((2,), i)
        target = prediction_target(schedule, prediction, x0, index, noise)
        x = schedule.add_noise(x0, index, noise)
        found = denoiser(lambda x, label, target=target: target, schedule, prediction)(x, i)
        tolerance = 1e-12 * float(schedule.noise_to_signal[i] + 1 / schedule.noise_to_signal[i])
        torch.testing.assert_close(found.x0, x0, rtol=0, atol=tolerance)
        torch.testing.assert_close(found.epsilon, noise, rtol=0, atol=tolerance)
        assert found.log_variance is None


@pytest.mark.parametrize("schedule", [COSINE, GEOMETRIC])
def test_edm_leaves_the_network_what_its_table_says(schedule: Schedule) -> None:
    """D(y; s) = c_skip y + c_out F, for y = x / alpha of noise s and data of deviation 0.5 (2206.00364)."""
    x, output = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for i in range(0, len(schedule), 7):
        s = schedule.noise_to_signal[i]
        skip, out = 0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25).sqrt()
        expected = skip * x / schedule.alpha[i] + out * output
        found = denoiser(lambda x, _: output, schedule, Prediction.EDM)(x, i)
        torch.testing.assert_close(found.x0, expected, rtol=1e-9, atol=1e-12)


def test_the_network_is_fed_the_label_of_the_whole_schedule() -> None:
    fed: list[Tensor] = []

    def network(x: Tensor, label: Tensor) -> Tensor:
        fed.append(label)
        return x

    denoiser(network, COSINE, Prediction.EPSILON)(torch.zeros(3, 1), 4)
    assert fed[0].dtype == torch.float32
    assert fed[0].tolist() == [444.0] * 3


def test_x_keeps_its_type_under_a_network_of_lower_precision() -> None:
    found = denoiser(lambda x, _: x.bfloat16(), COSINE, Prediction.V)(torch.zeros(2, 1), 3)
    assert found.x0.dtype == found.epsilon.dtype == torch.float32


def test_learned_range_is_the_papers() -> None:
    """Eq. 15 of 2102.09672, with v brought from [-1, 1] to [0, 1]; betas are the respaced ones."""
    i, beta = 4, 1 - float(COSINE.alpha[4] ** 2 / COSINE.alpha[3] ** 2)
    beta_tilde = beta * float(COSINE.sigma[3] ** 2 / COSINE.sigma[4] ** 2)
    x = torch.zeros(1, 2, 1, dtype=torch.float64)
    for v in (-1.0, 0.0, 0.3, 1.0):
        output = torch.cat([x, torch.full_like(x, v)], 1)
        found = denoiser(lambda x, _, output=output: output, COSINE, Prediction.EPSILON, True)(x, i)
        expected = (v + 1) / 2 * math.log(beta) + (1 - v) / 2 * math.log(beta_tilde)
        assert found.log_variance is not None
        torch.testing.assert_close(found.log_variance, torch.full_like(x, expected), rtol=0, atol=1e-12)


def test_an_output_of_another_width_is_refused() -> None:
    for learned, channels in ((False, 6), (True, 3)):
        with pytest.raises(InputError, match="learned_range"):
            denoiser(lambda x, _, c=channels: torch.zeros(2, c, 4), COSINE, Prediction.V, learned)(
                torch.zeros(2, 3, 4), 0
            )


def fixed(x0: Tensor) -> Denoiser:
    return Denoiser(COSINE, lambda x, i: Denoised(x0, (x - float(COSINE.alpha[i]) * x0), None))


pictures = st.lists(st.floats(-30, 30), min_size=12, max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float64).reshape(2, 3, 2)
)


@given(x0=pictures, limit=st.floats(0.1, 5), kind=st.sampled_from([Threshold.STATIC, Threshold.DYNAMIC]))
def test_a_threshold_keeps_its_limit_its_signs_and_its_epsilon(
    x0: Tensor, limit: float, kind: Threshold
) -> None:
    x = torch.ones_like(x0)
    found = threshold(fixed(x0), kind, limit)(x, 5)
    assert float(found.x0.abs().max()) <= limit * (1 + 1e-12)
    assert bool((found.x0 * x0 >= 0).all())
    rebuilt = float(COSINE.alpha[5]) * found.x0 + float(COSINE.sigma[5]) * found.epsilon
    torch.testing.assert_close(rebuilt, x, rtol=0, atol=1e-9)


@given(x0=pictures)
def test_dynamic_threshold_is_of_each_picture_alone(x0: Tensor) -> None:
    """And it is static where nothing exceeds the limit, and never lets a percentile above it through."""
    x = torch.ones_like(x0)
    together = threshold(fixed(x0), Threshold.DYNAMIC)(x, 5).x0
    for k in range(2):
        alone = threshold(fixed(x0[k : k + 1]), Threshold.DYNAMIC)(x[:1], 5).x0
        assert torch.equal(together[k], alone[0])
        high = float(x0[k].abs().flatten().float().quantile(0.995))
        expected = x0[k].clamp(-1, 1) if high <= 1 else x0[k].clamp(-high, high) / high
        torch.testing.assert_close(together[k], expected)


def test_a_threshold_that_does_nothing_costs_nothing() -> None:
    inner = fixed(torch.zeros(1, 1))
    assert threshold(inner, Threshold.NONE) is inner
    with pytest.raises(InputError, match="limit"):
        threshold(inner, Threshold.STATIC, 0)
