"""Samplers against diffusers' schedulers, and against distributions whose answer is known."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import (
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_lcm,
)
from torch import Tensor

from zs2.samplers import SAMPLERS, lcm, usual_spacing
from zs2.schedule import SPACINGS, Level, Schedule

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SHAPE = (1, 3, 4, 6, 6)
STOCHASTIC = ("euler-a", "dpm++2m-sde", "lcm")


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fresh(step: int) -> Tensor:
    return randn(*SHAPE, seed=step)


def mixture(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """What an ideal model takes for x0 and eps, where each value is -1 or 0.6, give or take 0.3."""
    a = level.alpha_bar
    y, s2 = x / a**0.5, (1 - a) / a
    means = torch.tensor([-1.0, 0.6], dtype=x.dtype)
    share = (-((y[..., None] - means) ** 2) / (2 * (s2 + 0.09))).softmax(-1)
    x0 = (share * (means * s2 + 0.09 * y[..., None]) / (s2 + 0.09)).sum(-1)
    return x0, (x - a**0.5 * x0) / (1 - a) ** 0.5


def last(name, denoise, x, levels, fresh=fresh):
    *_, (x, _) = SAMPLERS[name](denoise, x, levels, fresh)
    return x


DPM = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}
THEIRS = {
    "euler": EulerDiscreteScheduler(**BETAS),
    "euler-a": EulerAncestralDiscreteScheduler(**BETAS),
    "dpm++2m": DPMSolverMultistepScheduler(**BETAS, **DPM),
    "dpm++2m-sde": DPMSolverMultistepScheduler(
        **BETAS, **{**DPM, "algorithm_type": "sde-dpmsolver++"}
    ),
    "unipc": UniPCMultistepScheduler(**BETAS, solver_type="bh2"),
}


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 25])
@pytest.mark.parametrize("spacing", ["trailing", "karras", "ays", "normal"])
@pytest.mark.parametrize("name", THEIRS)
def test_a_run_is_diffusers(name, spacing, steps, monkeypatch):
    levels = Schedule().levels(steps, spacing)
    compare(name, levels, monkeypatch)


@pytest.mark.parametrize("name", THEIRS)
def test_a_run_that_begins_late_is_diffusers(name, monkeypatch):
    compare(name, Schedule().levels(20, "karras")[8:], monkeypatch)


def compare(name, levels, monkeypatch):
    """Ours against theirs at the same levels with the same noise: the prediction is ours."""
    draws = iter(range(1, len(levels)))
    for module in (scheduling_dpmsolver_multistep, scheduling_euler_ancestral_discrete):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: fresh(next(draws)))
    theirs = THEIRS[name]
    theirs.set_timesteps(len(levels) - 1)
    theirs.timesteps = torch.tensor([float(level.t) for level in levels[:-1]])
    theirs.sigmas = torch.tensor([level.sigma for level in levels])
    old_style = name in ("euler", "euler-a")  # these keep k-diffusion's latents
    x = a = randn(*SHAPE)
    b = a * levels[0].scale if old_style else a
    ours = SAMPLERS[name](mixture, x, levels, fresh)
    for t, here, there in zip(theirs.timesteps, levels[:-1], levels[1:], strict=True):
        _, eps = mixture(theirs.scale_model_input(b, t), here)
        b = theirs.step(eps, t, b).prev_sample
        a, _ = next(ours)
        # Float32 latents and levels: 1e-6 a step, more where x0 is made of a large y and sigma eps.
        assert error(a, b / there.scale if old_style else b) < 2e-5
    assert next(ours, None) is None


def error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
def test_lcm_is_diffusers(steps, monkeypatch):
    draws = iter(range(1, steps + 1))
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: fresh(next(draws)))
    theirs = LCMScheduler(clip_sample=False)
    theirs.set_timesteps(steps)
    levels = Schedule().levels(steps, usual_spacing(lcm, "leading"))
    b = randn(*SHAPE)
    for (a, x0), t, here in zip(
        lcm(mixture, b, levels, fresh), theirs.timesteps, levels, strict=False
    ):
        b = theirs.step(mixture(b, here)[1], t, b).prev_sample
        assert error(a, b) < 2e-5  # float32 as above
    assert error(a, x0) < 1e-3  # c_skip is next to nothing at these levels


def test_lcm_at_the_boundary_keeps_what_it_is_given():
    x = randn(*SHAPE)
    levels = [Schedule().level(0), Schedule().level(-1)]
    assert torch.equal(last("lcm", mixture, x, levels), x)  # c_skip = 1, c_out = 0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("to_one", [True, False])
# Divisors of 1000: elsewhere, diffusers' "trailing" steps do not end where the next one begins.
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 25), ("trailing", 10), ("leading", 1)])
def test_ddim_is_diffusers(kind, to_one, spacing, steps):
    given = {"prediction_type": kind, "set_alpha_to_one": to_one, "timestep_spacing": spacing}
    given = {**given, "rescale_betas_zero_snr": spacing == "trailing" and kind != "epsilon"}
    theirs = DDIMScheduler(**BETAS, **given, steps_offset=1, clip_sample=False)
    theirs.set_timesteps(steps)
    schedule = Schedule(**given)

    def said(x: Tensor, t: float) -> Tensor:
        return torch.sin(3 * x + t)

    b = randn(*SHAPE)
    ours = SAMPLERS["ddim"](
        lambda x, level: schedule.predicted(x, said(x, level.t), level),
        b,
        schedule.levels(steps),
        fresh,
    )
    for (a, _), t in zip(ours, theirs.timesteps.tolist(), strict=True):
        b = theirs.step(said(b, t), t, b).prev_sample
    # Their schedule is float32, ours float64; the sine spreads the difference over the steps.
    assert error(a, b) < 2e-4


def test_euler_is_ddim_that_ends_at_the_picture():
    levels = Schedule(set_alpha_to_one=True).levels(12)
    x = randn(*SHAPE, dtype=torch.float64)
    one, two = (last(name, mixture, x, levels) for name in ("ddim", "euler"))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    left = last("ddim", mixture, x, Schedule().levels(12))
    assert error(left, two) > 1e-3  # Stable Diffusion's own end is another


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("ddim", "lcm")])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_end_is_the_last_clean_prediction(name, steps):
    *_, (x, x0) = SAMPLERS[name](mixture, randn(*SHAPE), Schedule().levels(steps), fresh)
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-6)  # a float32 rounding


def gaussian(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """What an ideal model takes for x0 and eps, where all values are 0.4, give or take 0.5."""
    a = level.alpha_bar
    x0 = 0.4 + 0.25 * a**0.5 * (x - 0.4 * a**0.5) / (0.25 * a + 1 - a)
    return x0, (x - a**0.5 * x0) / (1 - a) ** 0.5


def log_line(high: float, low: float, n: int) -> list[Level]:
    sigmas = torch.linspace(math.log(high), math.log(low), n + 1).double().exp().tolist()
    return [Level(500, 1 / (1 + s * s)) for s in sigmas]


@pytest.mark.parametrize(
    ("name", "order"),
    [("ddim", 1), ("euler", 1), ("dpm++2m", 2), ("unipc", 2)],
)
def test_errors_fall_with_the_order_of_the_method(name, order):
    def off(n: int) -> float:
        levels = log_line(10, 0.1, n)
        y0, s0, s1 = levels[0].scale * x - 0.4, levels[0].sigma, levels[-1].sigma
        exact = 0.4 + y0 * math.sqrt((s1**2 + 0.25) / (s0**2 + 0.25))
        y = levels[-1].scale * last(name, gaussian, x, levels)
        return error(y, exact)

    x = randn(*SHAPE, dtype=torch.float64)
    assert off(64) < 0.02
    measured = math.log2(off(128) / off(256))
    assert measured == pytest.approx(order, abs=0.15)  # the next term is a hundredth at 128 steps


@pytest.mark.parametrize("name", ["euler", "euler-a", "dpm++2m", "dpm++2m-sde", "unipc"])
def test_noise_becomes_the_distribution(name):
    levels = Schedule().levels(200, "karras")
    a = levels[0].alpha_bar
    x = a**0.5 * (0.4 + 0.5 * randn(20_000, seed=101)) + (1 - a) ** 0.5 * randn(20_000)
    x = last(name, gaussian, x, levels, lambda step: randn(20_000, seed=step))
    # 20,000 draws: 0.0035 and 0.0025 are one standard error; 200 steps of order 1 leave 0.005.
    assert float(x.mean()) == pytest.approx(0.4, abs=0.012)
    assert float(x.std()) == pytest.approx(0.5, abs=0.012)


@pytest.mark.parametrize("name", SAMPLERS)
def test_fresh_noise_is_asked_for_once_a_step(name):
    asked = []

    def fresh(step: int) -> Tensor:
        asked.append(step)
        return randn(*SHAPE, seed=step)

    last(name, mixture, randn(*SHAPE), Schedule().levels(6), fresh)
    # None at the last step: nothing would be left of it.
    assert asked == ([1, 2, 3, 4, 5] if name in STOCHASTIC else [])


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_that_are_alike_stay_alike(name):
    def alike(step: int) -> Tensor:
        return fresh(step)[:, :1].expand(SHAPE)

    x = last(name, mixture, alike(0), Schedule().levels(7), alike)
    assert torch.equal(x, x[:, :1].expand(SHAPE))
    if name in STOCHASTIC:  # and differ where only the later noises do
        apart = last(name, mixture, alike(0), Schedule().levels(7), fresh)
        assert not torch.equal(apart, apart[:, :1].expand(SHAPE))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_signal_at_the_first_level(name, spacing):
    schedule = Schedule(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True
    )
    levels = schedule.levels(20, spacing)

    def denoise(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        a = level.alpha_bar
        x0 = gaussian(x, level)[0]
        # v of an ideal model, without a division by sqrt(1 - a) or sqrt(a)
        v = (a**0.5 * x - x0) / (1 - a) ** 0.5
        return schedule.predicted(x, v, level)

    x = last(name, denoise, randn(*SHAPE), levels)
    assert x.isfinite().all()
    assert float(x.mean()) == pytest.approx(0.4, abs=0.2)  # 432 values that are 0.5 apart


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_given_stays_as_it_was(name):
    x = randn(*SHAPE)
    last(name, mixture, x, Schedule().levels(3))
    assert torch.equal(x, randn(*SHAPE))


def test_a_run_up_undoes_a_run_down():
    levels = log_line(10, 0.1, 400)
    x = randn(*SHAPE, dtype=torch.float64)
    down = last("ddim", mixture, x, levels)
    up = last("ddim", mixture, down, levels[::-1])
    assert error(up, x) < 0.02  # of first order: half at 800 steps
    assert error(down, x) > 0.2


def test_the_usual_spacing():
    assert all(
        usual_spacing(sampler, own) in SPACINGS
        for sampler in SAMPLERS.values()
        for own in ("leading", "trailing", "linspace")
    )
    assert usual_spacing(SAMPLERS["ddim"], "linspace") == "linspace"
    usual = {name: usual_spacing(sampler, "leading") for name, sampler in SAMPLERS.items()}
    assert usual == {
        "ddim": "leading",
        "euler": "normal",
        "euler-a": "normal",
        "dpm++2m": "karras",
        "dpm++2m-sde": "exponential",
        "unipc": "sgm-uniform",
        "lcm": "lcm",
    }
    assert usual_spacing(SAMPLERS["dpm++2m"], "trailing") == "trailing"  # trained for it
    assert usual_spacing(lcm, "trailing") == "lcm"
    assert all(a.sigma > b.sigma for a, b in pairwise(Schedule().levels(4, "lcm")))
