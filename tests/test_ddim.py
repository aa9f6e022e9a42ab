"""DDIM against diffusers' scheduler."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from zs2.checkpoint.config import read_config
from zs2.schedule import DDIM

WHERE = Path("scheduler_config.json")
SD15 = {  # of a real scheduler_config.json: it names another solver, and that is fine
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SD21 = {**SD15, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
OTHERS = [
    {},
    {"set_alpha_to_one": True, "steps_offset": 0},
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    {
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    },
]


def theirs(config: dict) -> DDIMScheduler:
    known = {k: v for k, v in config.items() if k != "skip_prk_steps" and k[0] != "_"}
    return DDIMScheduler(**known)


@pytest.mark.parametrize("config", [SD15, SD21, *({**SD15, **o} for o in OTHERS)])
# Divisors of 1000: elsewhere, diffusers' "trailing" steps do not end where the next one begins.
@pytest.mark.parametrize("steps", [1, 2, 10, 25, 50])
def test_a_trajectory_is_diffusers(config, steps):
    ours, scheduler = read_config(DDIM, config, WHERE), theirs(config)
    scheduler.set_timesteps(steps)
    levels = ours.timesteps(steps)
    assert [t for t, _ in levels] == scheduler.timesteps.tolist()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    a = b = x
    for t, to in levels:
        a = ours.step(a, torch.sin(3 * a + t), t, to)
        b = scheduler.step(torch.sin(3 * b + t), t, b).prev_sample
    # Their schedule is float32, ours float64; the sine spreads the difference over the steps.
    assert (a - b).norm() / b.norm() < 2e-4


def test_50_steps_of_stable_diffusion():
    ts = [t for t, _ in DDIM().timesteps(50)]
    assert ts == list(range(981, 0, -20))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_up_undoes_a_step_down(prediction):
    ddim = DDIM(prediction_type=prediction)
    x, said = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    x0, eps = ddim.predicted(x, said, 500)
    up = ddim.step(x, said, 500, 700)
    # What an ideal model would predict at 700 for the same x0 and eps.
    a = float(ddim.alpha_bar[700])
    ideal = eps if prediction == "epsilon" else a**0.5 * eps - (1 - a) ** 0.5 * x0
    torch.testing.assert_close(ddim.step(up, ideal, 700, 500), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range(steps):
    with pytest.raises(ValueError, match=r"1\.\.1000"):
        DDIM().timesteps(steps)


@pytest.mark.parametrize(
    "change",
    [{"beta_schedule": "sigmoid"}, {"prediction_type": "sample"}, {"timestep_spacing": "random"}],
)
def test_what_is_not_known_is_named(change):
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        read_config(DDIM, change, WHERE)


def test_every_step_count_stays_on_the_schedule():
    for steps in (1, 3, 7, 999, 1000):
        levels = DDIM().timesteps(steps)
        assert len(levels) == steps
        assert all(0 <= t < 1000 for t, _ in levels)
