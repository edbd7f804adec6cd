from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser, Threshold, denoiser, threshold
from unclip.diffusion.samplers import (
    SAMPLERS,
    Step,
    Variance,
    analytic_dpm,
    ancestral,
    ddim,
    ddim_invert,
    dpm_solver_pp_2m,
    find_sampler,
    heun,
    langevin,
)
from unclip.diffusion.schedule import (
    Prediction,
    Schedule,
    cosine,
    geometric,
    linear,
    respace,
    respace_by_log_snr,
    respace_karras,
)
from unclip.errors import InputError

MEAN = 0.4
Make = Callable[..., Denoiser]
Run = Callable[..., Iterator[Step]]


def never() -> Tensor:
    raise AssertionError("noise was drawn where none is needed")


def last(steps: Iterator[Step]) -> Tensor:
    return list(steps)[-1].x


def at_index_0(steps: Iterator[Step]) -> Tensor:
    """Where the sampler stands before it takes the last noise away."""
    return list(steps)[-2].x


def spread(schedule: Schedule, i: int, std: float) -> float:
    return math.hypot(float(schedule.alpha[i]) * std, float(schedule.sigma[i]))


def moments(
    run: Run, denoiser: Denoiser, std: float, end: Callable[[Iterator[Step]], Tensor]
) -> tuple[float, float]:
    """Mean and standard deviation of what a sampler draws from the right noise: exact, nothing is sampled.

    With a linear denoiser a sampler is linear in its start and in each noise. Row 0 takes none of them, row 1
    a start one higher, row 2 + k a k-th noise of one; the variances of those rows' answers add up.
    """
    schedule = denoiser.schedule
    calls = 0

    def count() -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros(1, 1, dtype=torch.float64)

    start = torch.full((1, 1), float(schedule.alpha[-1]) * MEAN, dtype=torch.float64)
    end(run(denoiser, start, count))
    rows = calls + 2
    x = start.expand(rows, 1).clone()
    x[1] += 1
    drawn = 0

    def one_hot() -> Tensor:
        nonlocal drawn
        noise = torch.zeros(rows, 1, dtype=torch.float64)
        noise[2 + drawn] = 1
        drawn += 1
        return noise

    answer = end(run(denoiser, x, one_hot))[:, 0]
    response = answer[1:] - answer[0]
    response[0] *= spread(schedule, len(schedule) - 1, std)
    return float(answer[0]), float(response.norm())


def exact_epsilon_squared(schedule: Schedule, std: float) -> Tensor:
    """E epsilon^2 of the perfect denoiser: sigma^2 / (alpha^2 std^2 + sigma^2)."""
    return schedule.sigma**2 / (schedule.alpha**2 * std**2 + schedule.sigma**2)


SCHEDULES = {
    "cosine": cosine()[respace(1000, 25)],
    "linear": linear()[respace(1000, 10)],
    "geometric": geometric(12, 0.02, 20.0),
}


@pytest.mark.parametrize("std", [0.05, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_the_right_variance_draws_a_gaussian_exactly_in_any_number_of_steps(
    gaussian: Make, name: str, std: float
) -> None:
    """Analytic-DPM's variance and a learned one are the true ones: until the last step all is exact."""
    schedule = SCHEDULES[name]
    expected = float(schedule.alpha[0]) * MEAN, spread(schedule, 0, std)
    analytic = partial(analytic_dpm, epsilon_squared=exact_epsilon_squared(schedule, std), bound=math.inf)
    found = moments(analytic, gaussian(schedule, MEAN, std), std, at_index_0)
    assert found == pytest.approx(expected, rel=1e-9)
    found = moments(ancestral, gaussian(schedule, MEAN, std, learned=True), std, at_index_0)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_analytic_dpm_with_deterministic_form_is_exact_too(gaussian: Make, name: str) -> None:
    """Theorem 1 of 2201.06503 holds for every lambda; eta 0 is Analytic-DDIM."""
    schedule, std = SCHEDULES[name], 0.6
    for eta in (0.0, 0.5):
        run = partial(
            analytic_dpm, epsilon_squared=exact_epsilon_squared(schedule, std), bound=math.inf, eta=eta
        )
        mean, found = moments(run, gaussian(schedule, MEAN, std), std, at_index_0)
        assert mean == pytest.approx(float(schedule.alpha[0]) * MEAN, rel=1e-9)
        # the reverse kernel matches its own moments; the marginal is exact as the chain is Gaussian
        assert found == pytest.approx(spread(schedule, 0, std), rel=1e-9)


@pytest.mark.parametrize(("variance", "std"), [(Variance.LARGE, 1.0), (Variance.SMALL, 1e-9)])
def test_fixed_variances_are_exact_where_ddpm_says_so(gaussian: Make, variance: Variance, std: float) -> None:
    """2006.11239, section 3.2: beta is right for data N(0, 1), beta tilde for one point."""
    schedule = SCHEDULES["cosine"]
    run = partial(ancestral, variance=variance)
    mean, found = moments(run, gaussian(schedule, MEAN, std), std, at_index_0)
    assert mean == pytest.approx(float(schedule.alpha[0]) * MEAN, rel=1e-9)
    assert found == pytest.approx(spread(schedule, 0, std), rel=1e-9)


# Langevin dynamics is no walk down the schedule: its own tests stand below
ALL: dict[str, Run] = {
    **{name: run for name, run in SAMPLERS.items() if name != "langevin"},
    "ancestral-large": partial(ancestral, variance=Variance.LARGE),
    "ddim-0.5": partial(ddim, eta=0.5),
    "analytic-ddim": partial(analytic_dpm, eta=0.0),
}


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize("steps", [50, 400])
@pytest.mark.parametrize("explodes", [False, True])
def test_every_sampler_draws_the_target(gaussian: Make, name: str, steps: int, explodes: bool) -> None:
    """Clean pictures have the target's mean exactly and its spread up to the steps' own error."""
    std = 0.5
    schedule = cosine()
    schedule = schedule[respace_karras(schedule, steps, max_noise=500.0)]
    if explodes:
        schedule = geometric(steps, 0.01, 50.0)
    run = ALL[name]
    if name.startswith("analytic"):
        run = partial(run, epsilon_squared=exact_epsilon_squared(schedule, std))
    mean, found = moments(run, gaussian(schedule, MEAN, std), std, last)
    assert mean == pytest.approx(MEAN, abs=1e-10)
    assert found == pytest.approx(std, rel=8 / steps)  # beta tilde is too small by that much


def curve(steps: int) -> Schedule:
    """Variance preserving schedule from log-SNR 5 to -5 in uneven steps, with any number of them."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_snr = 5 - 10 * (u + 0.15 * torch.sin(2 * math.pi * u) / math.pi)
    return Schedule(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt(), u)


def mixture(schedule: Schedule) -> Denoiser:
    """Perfect denoiser of N(-0.8, 0.3^2) and N(0.9, 0.5^2), mixed 0.4 to 0.6."""

    def function(x: Tensor, i: int) -> Denoised:
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        return mixture_denoised(x, alpha, sigma)

    return Denoiser(schedule, function)


def mixture_denoised(x: Tensor, alpha: float, sigma: float) -> Denoised:
    means, stds, weights = ([-0.8, 0.9], [0.3, 0.5], [0.4, 0.6])
    logits, estimates = [], []
    for mean, std, weight in zip(means, stds, weights, strict=True):
        variance = alpha**2 * std**2 + sigma**2
        logits.append(math.log(weight / math.sqrt(variance)) - (x - alpha * mean) ** 2 / (2 * variance))
        estimates.append(mean + alpha * std**2 / variance * (x - alpha * mean))
    x0 = (torch.stack(logits).softmax(0) * torch.stack(estimates)).sum(0)
    return Denoised(x0, (x - alpha * x0) / sigma, None)


def mixture_solution(x: Tensor, schedule: Schedule) -> Tensor:
    """From the last index to index 0 by d(x / alpha) = epsilon d(sigma / alpha), Runge-Kutta in its log."""

    def slope(y: Tensor, log_noise: float) -> Tensor:
        noise = math.exp(log_noise)
        alpha = 1 / math.hypot(1, noise)
        return mixture_denoised(alpha * y, alpha, alpha * noise).epsilon * noise

    y, steps = x / float(schedule.alpha[-1]), 2000
    start, end = (float(schedule.noise_to_signal[i].log()) for i in (-1, 0))
    h = (end - start) / steps
    for k in range(steps):
        t = start + k * h
        k1 = slope(y, t)
        k2 = slope(y + h / 2 * k1, t + h / 2)
        k3 = slope(y + h / 2 * k2, t + h / 2)
        k4 = slope(y + h * k3, t + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y * float(schedule.alpha[0])


def order(errors: list[float], counts: list[int]) -> float:
    """Slope of log error on log step, by least squares."""
    step = -torch.tensor(counts, dtype=torch.float64).log()
    error = torch.tensor(errors, dtype=torch.float64).log()
    step, error = step - step.mean(), error - error.mean()
    return float((step * error).sum() / (step * step).sum())


ORDERS = [
    (ddim, 1),
    (dpm_solver_pp_2m, 2),
    (partial(dpm_solver_pp_2m, lower_order_final=False), 2),
    (heun, 2),
]


@pytest.mark.parametrize(("run", "expected"), ORDERS)
def test_solvers_converge_with_their_order_on_a_gaussian(gaussian: Make, run: Run, expected: int) -> None:
    """Against the closed form: x keeps its distance from the mean in units of the spread."""
    std, counts, errors = 0.5, [40, 80, 160, 320], []
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for count in counts:
        schedule = curve(count)
        x = float(schedule.alpha[-1]) * MEAN + spread(schedule, -1, std) * z
        found = at_index_0(run(gaussian(schedule, MEAN, std), x, never))
        exact = float(schedule.alpha[0]) * MEAN + spread(schedule, 0, std) * z
        errors.append(float((found - exact).norm()))
    assert order(errors, counts) == pytest.approx(expected, abs=0.15)
    assert errors[-1] < 0.05


@pytest.mark.parametrize(("run", "expected"), ORDERS)
def test_solvers_converge_with_their_order_on_a_mixture(run: Run, expected: int) -> None:
    """Where the denoiser is not linear, against a fine Runge-Kutta solution."""
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    exact = mixture_solution(x, curve(10))
    counts, errors = [80, 160, 320, 640], []
    for count in counts:
        errors.append(float((at_index_0(run(mixture(curve(count)), x, never)) - exact).norm()))
    assert order(errors, counts) == pytest.approx(expected, abs=0.2)


def test_few_steps_even_in_log_snr_serve_dpm_solver_best(gaussian: Make) -> None:
    """The purpose of `respace_by_log_snr`."""
    std, whole, errors = 0.5, linear(), []
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for indices in (respace_by_log_snr(whole, 12), respace(1000, 12)):
        schedule = whole[indices]
        x = float(schedule.alpha[-1]) * MEAN + spread(schedule, -1, std) * z
        found = last(dpm_solver_pp_2m(gaussian(schedule, MEAN, std), x, never))
        errors.append(float((found - (MEAN + std * z)).norm()))
    assert errors[0] < errors[1] / 2


def test_inversion_and_back() -> None:
    """First order as it is; exact with fixed-point rounds, from pictures to noise to the same pictures."""
    pictures = torch.linspace(-1.5, 1.5, 8, dtype=torch.float64)[:, None]
    schedule = cosine()
    errors = []
    for steps, iterations in ((50, 0), (200, 0), (50, 1), (50, 30)):
        inner = mixture(schedule[respace(1000, steps)])
        there = list(ddim_invert(inner, pictures, iterations=iterations))
        assert [step.i for step in there] == list(range(steps))
        back = last(ddim(inner, there[-1].x, never))
        errors.append(float((back - pictures).abs().max()))
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[0] / 2
    assert errors[3] < 1e-10


def test_drawing_inversion_and_back_again(gaussian: Make) -> None:
    """The noise of a drawn picture is found again, up to the pure noise where the way is steepest."""
    inner = gaussian(cosine()[respace(1000, 50)], MEAN, 0.3)
    noise = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    picture = last(ddim(inner, noise, never))
    assert float((last(ddim_invert(inner, picture, iterations=12)) - noise).abs().max()) < 1e-10
    with pytest.raises(InputError, match="iterations"):
        last(ddim_invert(inner, picture, iterations=-1))


def test_without_statistics_each_picture_is_analytic_dpms_own_estimate(gaussian: Make) -> None:
    std = 0.6
    schedule = SCHEDULES["cosine"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 20000, generator=generator)
    table = analytic_dpm(gaussian(schedule, MEAN, std), x, lambda: torch.randn(x.shape, generator=generator))
    assert last(table).std(1).tolist() == pytest.approx([std] * 4, rel=0.03)


def test_analytic_variance_is_clipped_as_in_the_paper(gaussian: Make) -> None:
    """Theorem 2's bound by the data's range, and at most so much noise in the last noisy step."""
    schedule, x = SCHEDULES["linear"], torch.zeros(1, 1, dtype=torch.float64)
    one = torch.ones_like(x)

    def noise_of_step(i: int, **options: Any) -> float:
        """Standard deviation of step i: what a noise of one there adds."""
        answers = []
        for size in (0.0, 1.0):
            steps = analytic_dpm(
                gaussian(schedule),
                x,
                iter([size * one if k == i else 0 * one for k in range(9, 0, -1)]).__next__,
                epsilon_squared=torch.zeros(10, dtype=torch.float64),  # the largest variance of x0 there is
                **options,
            )
            answers.append(next(step.x for step in steps if step.i == i))
        return float(answers[1] - answers[0])

    for i, bound in ((9, 1.0), (5, 0.3), (1, 1.0)):
        posterior = schedule.posterior
        limit = float(schedule.noise_to_signal[i]) ** 2
        expected = posterior.variance[i] + posterior.x0_weight[i] ** 2 * min(bound**2, limit)
        assert noise_of_step(i, bound=bound) == pytest.approx(math.sqrt(expected), rel=1e-9)
    clipped = noise_of_step(1, last_noise=2 / 255)
    assert clipped * math.sqrt(2 / math.pi) == pytest.approx(2 / 255)  # E|N(0, 1)|
    assert noise_of_step(2, last_noise=2 / 255) == noise_of_step(2)


def test_langevin_settles_into_the_target(gaussian: Make) -> None:
    """NCSN's schedule: each level's stationary spread is the smoothed target's, the steps being small."""
    std = 0.5
    schedule = geometric(4, 0.1, 2.0)
    run = partial(langevin, steps=150, step_size=0.01)
    mean, found = moments(run, gaussian(schedule, MEAN, std), std, lambda steps: list(steps)[-2].x)
    assert mean == pytest.approx(MEAN, rel=1e-6)
    assert found == pytest.approx(spread(schedule, 0, std), rel=0.03)
    # and every update is Algorithm 1's, by its own recursion
    variance = spread(schedule, 3, std) ** 2
    for i in (3, 2, 1, 0):
        size = 0.01 * float(schedule.sigma[i] / schedule.sigma[0]) ** 2
        for _ in range(150):
            variance = variance * (1 - size / 2 / spread(schedule, i, std) ** 2) ** 2 + size
    assert found == pytest.approx(math.sqrt(variance), rel=1e-9)
    steps = list(run(gaussian(schedule, MEAN, std), torch.zeros(1, 1), lambda: torch.zeros(1, 1)))
    assert [step.i for step in steps] == [i for i in (3, 2, 1, 0) for _ in range(150)] + [0]
    for options in ({"steps": 0}, {"step_size": 0.0}):
        with pytest.raises(InputError, match="step"):
            last(langevin(gaussian(schedule), torch.zeros(1, 1), never, **options))


def test_a_langevin_step_is_twice_the_step_lr_of_ncsns_code(gaussian: Make) -> None:
    """The loop of `anneal_Langevin_dynamics` in ermongroup/ncsnv2, models/__init__.py, with its step_lr."""
    schedule, step_lr = geometric(3, 0.1, 2.0), 0.003
    denoise = gaussian(schedule, MEAN, 0.5)
    noises = torch.randn(3 * 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left = iter(noises)
    start = torch.zeros(2, 5, dtype=torch.float64)
    found = last(langevin(denoise, start, lambda: next(left), steps=4, step_size=2 * step_lr))
    x, left = start, iter(noises)

    def score(index: int) -> Tensor:
        return -denoise(x, index).epsilon / schedule.sigma[index]

    for index in (2, 1, 0):
        step = step_lr * float(schedule.sigma[index] / schedule.sigma[0]) ** 2
        for _ in range(4):
            x = x + step * score(index) + next(left) * math.sqrt(2 * step)
    torch.testing.assert_close(found, x + schedule.sigma[0] ** 2 * score(0), rtol=1e-12, atol=1e-12)


def streams(count: int, shape: tuple[int, ...]) -> list[Callable[[], Tensor]]:
    """A noise stream for each picture, as the pipeline has them."""
    generators = [torch.Generator().manual_seed(k) for k in range(count)]
    return [partial(torch.randn, shape, generator=generator) for generator in generators]


def textured(schedule: Schedule) -> Denoiser:
    """A network without meaning, elementwise, with a learned range, under a dynamic threshold."""

    def network(x: Tensor, label: Tensor) -> Tensor:
        mixed = x + 0.001 * label.reshape(-1, 1, 1, 1)
        return torch.cat([torch.sin(3 * mixed), torch.cos(2 * mixed)], 1)

    return threshold(denoiser(network, schedule, Prediction.V, learned_range=True), Threshold.DYNAMIC)


@pytest.mark.parametrize("name", [*ALL, "langevin"])
def test_a_picture_is_the_same_alone_and_in_a_batch(name: str) -> None:
    run = {**ALL, "langevin": partial(langevin, steps=3)}[name]
    inner, shape = textured(cosine()[respace(1000, 8)]), (3, 4, 4)
    noises = streams(3, shape)

    def batched() -> Tensor:
        return torch.stack([noise() for noise in noises])

    together = last(run(inner, batched(), batched))
    for k, noise in enumerate(streams(3, shape)):

        def alone(noise: Callable[[], Tensor] = noise) -> Tensor:
            return noise()[None]

        assert torch.equal(last(run(inner, alone(), alone))[0], together[k])


EVALUATIONS_AND_NOISES = {
    "ancestral": (8, 7),
    "ancestral-large": (8, 7),
    "ddim": (8, 0),
    "ddim-0.5": (8, 7),
    "analytic-dpm": (8, 7),
    "analytic-ddim": (8, 7),
    "dpm++": (8, 0),
    "heun": (15, 0),
}


@pytest.mark.parametrize("name", list(ALL))
def test_samplers_ask_for_no_more_than_they_need(name: str) -> None:
    evaluations = noises = 0
    inner = textured(cosine()[respace(1000, 8)])

    def counted(x: Tensor, i: int) -> Denoised:
        nonlocal evaluations
        evaluations += 1
        return inner(x, i)

    def noise() -> Tensor:
        nonlocal noises
        noises += 1
        return torch.zeros(2, 3, 4, 4)

    steps = list(ALL[name](Denoiser(inner.schedule, counted), torch.ones(2, 3, 4, 4), noise))
    assert (evaluations, noises) == EVALUATIONS_AND_NOISES[name]
    assert [step.i for step in steps] == list(range(7, -1, -1))
    # the last step leaves no noise: its x is its estimate of x0
    torch.testing.assert_close(steps[-1].x, steps[-1].x0, rtol=0, atol=1e-6)
    assert all(step.x.dtype == torch.float32 for step in steps)


@pytest.mark.parametrize("name", list(ALL))
def test_one_step_goes_from_noise_to_x0(name: str, gaussian: Make) -> None:
    inner = gaussian(cosine()[respace(1000, 1)], MEAN, 0.5)
    (step,) = ALL[name](inner, torch.zeros(1, 2, dtype=torch.float64), never)
    torch.testing.assert_close(step.x, inner(torch.zeros(1, 2, dtype=torch.float64), 0).x0)


def test_samplers_are_lazy_and_leave_gradients_to_the_caller() -> None:
    inner = textured(cosine()[respace(1000, 8)])
    for name, run in ALL.items():
        steps = run(inner, torch.ones(1, 3, 2, 2).requires_grad_(), partial(torch.zeros, 1, 3, 2, 2))
        assert inspect.isgenerator(steps), name
        step = next(steps)
        assert not step.x.requires_grad
        assert torch.is_grad_enabled()
        steps.close()


def test_mistakes_are_refused_in_words(gaussian: Make) -> None:
    inner, x = gaussian(SCHEDULES["cosine"]), torch.zeros(1, 1)
    with pytest.raises(InputError, match="choose 'small' or 'large'"):
        next(ancestral(inner, x, never, variance=Variance.LEARNED))
    with pytest.raises(InputError, match="eta"):
        next(ddim(inner, x, never, eta=1.5))
    with pytest.raises(InputError, match="eta"):
        next(analytic_dpm(inner, x, never, eta=-1))
    with pytest.raises(InputError, match="positive"):
        next(analytic_dpm(inner, x, never, bound=0))
    with pytest.raises(InputError, match="25 steps"):
        next(analytic_dpm(inner, x, never, epsilon_squared=torch.ones(3)))
    with pytest.raises(InputError, match="unknown sampler 'dim': choose ancestral, ddim"):
        find_sampler("dim")
    assert find_sampler("ddim") is ddim
