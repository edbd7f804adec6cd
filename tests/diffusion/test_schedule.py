from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unclip.config import from_dict, to_dict
from unclip.diffusion.schedule import (
    DiffusionConfig,
    Prediction,
    Schedule,
    ScheduleName,
    cosine,
    from_betas,
    geometric,
    linear,
    respace,
    respace_by_log_snr,
    respace_karras,
    shifted,
)
from unclip.errors import InputError

# Frozen: what space_timesteps(1000, "fast27") of GLIDE's published code gives, sorted.
FAST27 = (
    *(0, 22, 44, 66, 88, 111, 133, 155, 177, 199),
    *(200, 222, 244, 266, 288, 311, 333, 355, 377, 399),
    *(400, 500, 599, 600, 799, 800, 997),
)
# Frozen: SHA-256 of the lines of `test_a_plain_count_takes_the_steps_that_guided_diffusion_takes`.
ADMS_COUNTS = "cd9e0269ce286bb3d8aaa845a5030d8ac366cc087aef3f888080727e1574bed9"


@pytest.mark.parametrize("schedule", [cosine(), linear(), cosine(50), linear(4000)])
def test_variance_is_preserved_and_labels_fill_a_thousand(schedule: Schedule) -> None:
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(len(schedule)).double())
    assert schedule.label[0] == 0
    assert schedule.label[-1] == 1000 - 1000 / len(schedule)


def test_cosine_is_the_papers() -> None:
    """Eq. 17 of 2102.09672 where beta is not clipped, and the clip where it is."""
    schedule = cosine()
    time = torch.arange(1, 1001, dtype=torch.float64) / 1000
    f = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(schedule.alpha[:-1] ** 2, alpha_bar[:-1], rtol=1e-10, atol=0)
    assert float(schedule.beta[-1]) == pytest.approx(0.999, abs=1e-12)


def test_linear_is_ddpms_and_scales_with_the_step_count() -> None:
    assert float(linear().beta[0]) == pytest.approx(1e-4, rel=1e-11)
    assert float(linear().beta[-1]) == pytest.approx(0.02, rel=1e-11)
    assert float(linear(4000).beta[-1]) == pytest.approx(0.005, rel=1e-11)
    # the same noise at the end, whatever the count
    assert float(linear(4000).log_snr[-1]) == pytest.approx(float(linear().log_snr[-1]), abs=0.2)
    with pytest.raises(InputError, match="21 steps or more"):
        linear(20)


def test_geometric_explodes() -> None:
    schedule = geometric(10, 0.01, 1.0)
    assert torch.equal(schedule.alpha, torch.ones(10).double())
    torch.testing.assert_close(
        schedule.sigma[1:] / schedule.sigma[:-1], torch.full((9,), 100 ** (1 / 9)).double()
    )  # NCSN's posterior: Eq. 10 of 2011.13456 for its discrete chain
    s, t = schedule.sigma[3], schedule.sigma[4]
    posterior = schedule.posterior
    torch.testing.assert_close(posterior.variance[4], s**2 * (t**2 - s**2) / t**2)
    torch.testing.assert_close(posterior.x0_weight[4], 1 - s**2 / t**2)


@pytest.mark.parametrize("schedule", [cosine(), linear(), geometric(30, 0.01, 50.0), cosine()[::37]])
def test_posterior_agrees_with_the_marginals(schedule: Schedule) -> None:
    """Noising x_0 to t and stepping back by the posterior gives the marginal of the step below."""
    posterior = schedule.posterior
    for i in range(len(schedule)):
        alpha_below, sigma_below = schedule.below(i)
        mean = posterior.x0_weight[i] + posterior.x_weight[i] * schedule.alpha[i]
        variance = posterior.variance[i] + (posterior.x_weight[i] * schedule.sigma[i]) ** 2
        assert float(mean) == pytest.approx(alpha_below, abs=1e-12)
        assert float(variance) == pytest.approx(sigma_below**2, rel=1e-9, abs=1e-15)
    assert float(posterior.x0_weight[0]) == pytest.approx(1, abs=1e-12)
    assert float(posterior.x_weight[0]) == 0


def test_respaced_betas_compose() -> None:
    """A respaced step's beta is what the steps it skips add up to."""
    whole, indices = cosine(), respace(1000, 25)
    short = whole[indices]
    for k in range(1, 25):
        kept = torch.prod(1 - whole.beta[indices[k - 1] + 1 : indices[k] + 1])
        assert float(short.beta[k]) == pytest.approx(1 - float(kept), rel=1e-10)
    assert torch.equal(short.label, torch.tensor(indices).double())


def test_respacing_to_all_steps_is_no_respacing() -> None:
    whole = cosine()
    for indices in (
        respace(1000, 1000),
        respace(1000, "1000"),
        respace(1000, "ddim1000"),
        range(1000),
        slice(None),
    ):
        same = whole[indices]
        assert torch.equal(same.alpha, whole.alpha)
        assert torch.equal(same.beta, whole.beta)
        assert all(torch.equal(a, b) for a, b in zip(same.posterior, whole.posterior, strict=True))


def test_respace_knows_published_notations() -> None:
    assert respace(1000, "fast27") == FAST27
    assert respace(1000, 7) == (0, 166, 333, 500, 666, 832, 999)  # Karlo's super-resolution, as published
    assert respace(1000, "25") == tuple(round(i * 999 / 24) for i in range(25))
    assert respace(1000, "ddim50") == tuple(range(0, 1000, 20))
    assert respace(1000, "10,10,3,2,2")[-1] == 999
    assert respace(1000, [10, 10, 3, 2, 2]) == respace(1000, "10,10,3,2,2")
    assert respace(300, [10, 15, 20])[:10] == (0, 11, 22, 33, 44, 55, 66, 77, 88, 99)  # ADM's own example
    assert respace(1000, 1) == (999,)


def test_a_plain_count_takes_the_steps_that_guided_diffusion_takes() -> None:
    """Frozen: `space_timesteps(1000, [n])` of openai/guided-diffusion's respace.py, sorted, for n from 2."""
    lines = [" ".join(map(str, respace(1000, count))) for count in range(2, 1001)]
    assert respace(1000, 21)[9:12] == (450, 499, 549)  # 499.5, by less than a bit
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == ADMS_COUNTS


@given(total=st.integers(1, 1500), data=st.data())
def test_respace_gives_as_many_as_asked_ends_included(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total))
    indices = respace(total, count)
    assert len(set(indices)) == count
    assert list(indices) == sorted(indices)
    assert indices[-1] == total - 1
    assert count == 1 or indices[0] == 0


@given(st.data())
def test_sections_give_their_counts(data: st.DataObject) -> None:
    total = data.draw(st.integers(10, 1200))
    parts = data.draw(st.integers(2, 5))
    sizes = [total // parts + (k < total % parts) for k in range(parts)]
    counts = [data.draw(st.integers(1, size)) for size in sizes]
    indices = respace(total, counts)
    start = 0
    for size, count in zip(sizes, counts, strict=True):
        assert sum(start <= index < start + size for index in indices) == count
        start += size


@pytest.mark.parametrize(
    "steps", ["", "fast", "ddim", "ddim999", "10,,2", "0", "-5", "1001", "2.5", [600, 600], []]
)
def test_respace_refuses_what_it_cannot_do(steps: str | list[int]) -> None:
    with pytest.raises(InputError):
        respace(1000, steps)


@pytest.mark.parametrize("indices", [[], [3, 2], [1, 1], [-1, 4], [0, 1000]])
def test_indexing_refuses_what_is_no_respacing(indices: list[int]) -> None:
    with pytest.raises(InputError, match="respaced"):
        cosine()[indices]


def test_spacing_by_noise_is_even_and_distinct() -> None:
    schedule = cosine()
    indices = respace_by_log_snr(schedule, 20)
    assert len(set(indices)) == 20
    assert indices[0] == 0
    # the steps near 0 and the last are few and far between, so the even ones are those of the middle
    middle = schedule.log_snr[list(indices)][2:15].diff()
    assert float(middle.std() / -middle.mean()) < 0.1
    assert float(schedule.noise_to_signal[indices[-1]]) <= math.exp(5.1)
    assert respace_by_log_snr(linear(), 20)[-1] == 999
    assert respace_by_log_snr(schedule, 1000, max_noise=math.inf) == tuple(range(1000))
    with pytest.raises(InputError, match="1000 steps asked"):
        respace_by_log_snr(schedule, 1000)

    karras = respace_karras(schedule, 18)
    assert len(set(karras)) == 18
    assert float(schedule.noise_to_signal[karras[-1]]) <= 80 < float(schedule.noise_to_signal[karras[-1] + 1])
    power = schedule.noise_to_signal[list(karras)][2:12] ** (1 / 7)
    assert float(power.diff().std() / power.diff().mean()) < 0.1


@given(shift=st.floats(-6, 6))
def test_a_shift_moves_the_log_snr_and_nothing_else(shift: float) -> None:
    for schedule in (cosine(100), geometric(10, 0.01, 1.0)):
        moved = shifted(schedule, shift)
        torch.testing.assert_close(moved.log_snr, schedule.log_snr + shift, rtol=1e-9, atol=1e-9)
        assert torch.equal(moved.label, schedule.label)
        power = schedule.alpha**2 + schedule.sigma**2
        if schedule.alpha[0] < 1:
            torch.testing.assert_close(moved.alpha**2 + moved.sigma**2, power)


def test_a_schedule_checks_its_tables() -> None:
    good = torch.tensor([0.5, 0.4]).double()
    noise = torch.tensor([0.5, 0.6]).double()
    Schedule(good, noise, noise)
    for tables, complaint in (
        ((good.float(), noise, noise), "float64"),
        ((good[:1], noise, noise), "shapes"),
        ((good, -noise, noise), "positive"),
        ((good.flip(0), noise.flip(0), noise), "grow"),
    ):
        with pytest.raises(InputError, match=complaint):
            Schedule(*tables)
    with pytest.raises(InputError, match="between 0 and 1"):
        from_betas(torch.tensor([0.1, 1.0]))


@pytest.mark.parametrize(
    "config",
    [
        DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.V, steps=100, shift=-1.0),
        DiffusionConfig(schedule=ScheduleName.LINEAR, prediction=Prediction.EPSILON, learned_range=True),
        DiffusionConfig(
            schedule=ScheduleName.GEOMETRIC, prediction=Prediction.SCORE, steps=10, sigma_range=(0.01, 1.0)
        ),
    ],
)
def test_a_config_survives_being_stored(config: DiffusionConfig) -> None:
    again = from_dict(DiffusionConfig, to_dict(config))
    assert again == config
    assert len(again.build()) == config.steps


def test_a_config_ignores_nothing() -> None:
    with pytest.raises(InputError, match="sigma_range"):
        DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.V, sigma_range=(0.1, 1.0))
    with pytest.raises(InputError, match="sigma_range"):
        DiffusionConfig(schedule=ScheduleName.GEOMETRIC, prediction=Prediction.SCORE)


def test_sampling_starts_from_the_spread_of_unit_data() -> None:
    assert cosine().initial_std == pytest.approx(1)
    assert geometric(10, 0.01, 50.0).initial_std == pytest.approx(math.sqrt(2501))
