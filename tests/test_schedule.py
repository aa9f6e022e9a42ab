"""Noise levels against those of diffusers' schedulers, and against tables of other programs."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.schedulers import AysSchedules

from zs2.checkpoint.config import read_config
from zs2.schedule import SPACINGS, Schedule

WHERE = Path("scheduler_config.json")
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD15 = {  # of a real scheduler_config.json: it names another solver, and that is fine
    "_class_name": "PNDMScheduler",
    "num_train_timesteps": 1000,
    **BETAS,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
ZERO_SNR = {
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}
OTHERS = [
    {},
    {"prediction_type": "v_prediction"},
    {"set_alpha_to_one": True, "steps_offset": 0},
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    {"timestep_spacing": "linspace"},
    ZERO_SNR,
]
COUNTS = [3, 7, 30, 50, 333]  # not 1: there, diffusers' linspace is the step without noise, 0


def ddim_of_diffusers(config: dict) -> DDIMScheduler:
    return DDIMScheduler(
        **{k: v for k, v in config.items() if k not in ("_class_name", "skip_prk_steps")}
    )


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("change", OTHERS)
def test_the_models_own_levels_are_diffusers(change, steps):
    config = {**SD15, **change}
    levels, theirs = read_config(Schedule, config, WHERE).levels(steps), ddim_of_diffusers(config)
    theirs.set_timesteps(steps)
    assert [level.t for level in levels] == [*theirs.timesteps.tolist(), -1]
    # Theirs is a product of a thousand float32 numbers.
    wanted = [*theirs.alphas_cumprod[theirs.timesteps].tolist(), float(theirs.final_alpha_cumprod)]
    assert [level.alpha_bar for level in levels] == pytest.approx(wanted, rel=1e-4)


KNOWN = {
    "leading": EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **BETAS),
    "trailing": EulerDiscreteScheduler(timestep_spacing="trailing", **BETAS),
    "normal": EulerDiscreteScheduler(timestep_spacing="linspace", **BETAS),
    "karras": EulerDiscreteScheduler(use_karras_sigmas=True, **BETAS),
    "exponential": EulerDiscreteScheduler(use_exponential_sigmas=True, **BETAS),
    "sgm-uniform": DPMSolverMultistepScheduler(**BETAS),
    "lcm": LCMScheduler(),
}


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("name", KNOWN)
def test_every_spacing_is_diffusers(name, steps):
    if name == "lcm" and steps > 50:
        pytest.skip("LCM has 50 levels")
    theirs = KNOWN[name]
    theirs.set_timesteps(steps)
    levels = Schedule().levels(steps, name)
    ts, wanted = [level.t for level in levels[:-1]], theirs.timesteps.tolist()
    # DPM++ rounds. Their sigmas are off by up to 1e-5, as their alpha_bar is a product of float32
    # numbers, and a step in the middle changes sigma by 0.6 %: 2e-3 of a step.
    within = 0.5 if name == "sgm-uniform" else 2e-3
    assert ts == pytest.approx(wanted, abs=within)
    if name in ("karras", "exponential", "leading", "trailing"):
        sigmas = [level.sigma for level in levels]
        assert sigmas == pytest.approx(theirs.sigmas.tolist(), rel=1e-4)


@pytest.mark.parametrize("steps", range(1, 51))
def test_lcm_levels_of_every_count(steps):
    theirs = KNOWN["lcm"]
    theirs.set_timesteps(steps)
    assert [level.t for level in Schedule().levels(steps, "lcm")] == [*theirs.timesteps, -1]


def test_lcm_levels_of_a_short_training():
    schedule = Schedule(num_train_timesteps=20, beta_end=0.5)
    assert [level.t for level in schedule.levels(4, "lcm")] == [19, 14, 9, 4, -1]


def test_between_steps_log_sigma_is_interpolated():
    schedule = Schedule()
    low, mid, high = (schedule.level(t).sigma for t in (0, 0.25, 1))
    assert mid == pytest.approx(low**0.75 * high**0.25, rel=1e-12)
    assert schedule.t(mid) == pytest.approx(0.25, abs=1e-9)
    # As diffusers does it, with k-diffusion's words.
    theirs = KNOWN["karras"]
    log_sigmas = torch.tensor(schedule.log_sigma).double().numpy()
    for sigma in (0.031, 0.5, 3.3, 14.0):
        t = theirs._sigma_to_t(torch.tensor(sigma).double().numpy(), log_sigmas)
        assert schedule.t(sigma) == pytest.approx(float(t), abs=1e-3)
    assert (schedule.t(1e-3), schedule.t(1e3)) == (0, 999)


def test_align_your_steps():
    levels = Schedule().levels(10, "ays")
    assert [level.t for level in levels[:-1]] == AysSchedules["StableDiffusionTimesteps"]
    wanted = AysSchedules["StableDiffusionSigmas"]  # three decimals: 0.152 is 0.15152
    assert [level.sigma for level in levels] == pytest.approx(wanted, rel=4e-3)
    # 20 steps: every other one is of the table, the rest halfway in log sigma.
    twice = [level.sigma for level in Schedule().levels(20, "ays")]
    assert twice[:-1:2] == pytest.approx([level.sigma for level in levels[:-1]], rel=1e-9)
    assert twice[1] == pytest.approx(math.sqrt(twice[0] * twice[2]), rel=1e-9)
    # Sigma is what was searched for, and t follows from it.
    other = Schedule(beta_schedule="linear", beta_start=0.0001, beta_end=0.02).levels(10, "ays")
    assert [level.sigma for level in other] == pytest.approx(wanted, rel=4e-3)


def test_tables_of_other_programs():
    def ts(name, n):
        return [level.t for level in Schedule().levels(n, name)[:-1]]

    # ComfyUI: sigmas[-(1 + int(i * 1000 / n))], and arange / (n - 1) between the arcs.
    assert ts("simple", 7) == [999, 857, 714, 571, 428, 285, 142]
    assert ts("simple", 8) == [999, 874, 749, 624, 499, 374, 249, 124]
    assert ts("normal", 3) == [999, 499.5, 0]
    assert ts("sgm-uniform", 4) == [999, 749.25, 499.5, 249.75]
    sigmas = [level.sigma for level in Schedule().levels(3, "kl-optimal")]
    middle = math.tan((math.atan(14.614641229) + math.atan(0.029167158)) / 2)
    assert sigmas == pytest.approx([14.614641229, middle, 0.029167158, 0], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in SPACINGS if name != "leading"])
def test_one_step_is_from_the_noisiest(name):
    assert [level.t for level in Schedule().levels(1, name)] == [999, -1]


def test_50_steps_of_stable_diffusion():
    ts = [level.t for level in Schedule().levels(50)]
    assert ts == [*range(981, 0, -20), -1]


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(**ZERO_SNR)])
@pytest.mark.parametrize("name", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 600, 999, 1000])
def test_levels_fall_and_none_comes_twice(name, steps, schedule):
    if name == "lcm" and steps > 50:
        with pytest.raises(ValueError, match="50 steps, got"):
            schedule.levels(steps, name)
        return
    levels = schedule.levels(steps, name)
    assert steps <= len(levels) <= steps + 1
    assert all(0 <= level.t <= 999 for level in levels[:-1])
    sigmas = [level.sigma for level in levels]
    assert all(a > b for a, b in pairwise(sigmas))
    assert sigmas[-1] == 0
    assert all(math.isfinite(s) for s in sigmas)


@pytest.mark.parametrize("steps", [0, -1, 1001, 10**400])
@pytest.mark.parametrize("name", SPACINGS)
def test_steps_out_of_range(steps, name):
    with pytest.raises(ValueError, match=r"1\.\.1000"):
        Schedule().levels(steps, name)


def test_a_spacing_that_is_not_known():
    with pytest.raises(ValueError, match="'turbo' is not known: use leading, trailing"):
        Schedule().levels(4, "turbo")


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "sigmoid"},
        {"prediction_type": "sample"},
        {"timestep_spacing": "karras"},
        {"num_train_timesteps": 1},
        {"num_train_timesteps": -5},
        {"num_train_timesteps": 10**400},
        {"steps_offset": -1},
        {"steps_offset": 1000},
        {"steps_offset": 10**400},
        {"beta_start": 0},
        {"beta_start": -0.1},
        {"beta_end": 1},
        {"beta_end": 10**400},
        {"beta_end": math.inf},
        {"beta_start": math.nan},
        {"beta_start": 1e-300},
        {"beta_end": 1e-300},
        {"beta_start": 1e-300, "beta_end": 1e-300},
        {"beta_end": 0.9},
        {"beta_start": 0.00085, "num_train_timesteps": 100_000},
        {"beta_end": 0.9, "rescale_betas_zero_snr": True},
    ],
)
def test_what_cannot_be_used_is_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        read_config(Schedule, change, WHERE)


def test_no_signal_and_a_model_that_predicts_noise():
    schedule = Schedule(rescale_betas_zero_snr=True)
    assert schedule.level(999).alpha_bar == 0
    with pytest.raises(ValueError, match="step 999 has no signal"):
        schedule.levels(10, "trailing")
    assert schedule.levels(10, "leading")[0].t == 901


def test_no_signal_is_the_sigma_of_other_programs():
    level = Schedule(**ZERO_SNR).levels(5)[0]
    assert level.alpha_bar == 0
    assert level.sigma == pytest.approx(4518.76, rel=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_prediction_gives_back_clean_latents_and_noise(kind):
    schedule = Schedule(prediction_type=kind)
    x0, eps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    level = schedule.level(500)
    a = level.alpha_bar
    x = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    said = eps if kind == "epsilon" else a**0.5 * eps - (1 - a) ** 0.5 * x0
    for ours, wanted in zip(schedule.predicted(x, said, level), (x0, eps), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
