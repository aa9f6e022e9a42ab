"""Noise levels: the diffusion a model was trained with, and the levels that a sampler visits.

    levels = Schedule().levels(50)      # 51 of them, from noise to the clean picture
    x0, eps = schedule.predicted(x, model(x, levels[0].t), levels[0])

A latent at level t is x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 3. The paper
calls alpha_bar_t alpha_t; it is not the noise model's alpha.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """How noisy a latent is.

    Attributes:
        t: the training step that the model is told; -1 is the clean picture, which it never sees.
        alpha_bar: the share of the signal's variance.
    """

    t: float
    alpha_bar: float

    @property
    def sigma(self) -> float:
        """Noise over signal, as k-diffusion counts it: exactly 0 for the clean picture."""
        return 0.0 if self.t < 0 else math.sqrt((1 - self.alpha_bar) / self.alpha_bar)


@dataclass(frozen=True)
class Schedule:
    """The diffusion a model was trained with; the fields are keys of `scheduler_config.json`.

    The defaults are Stable Diffusion's.

    Raises:
        ValueError: a schedule, spacing or prediction type that is not known.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    rescale_betas_zero_snr: bool = False
    trained_betas: None = None

    def __post_init__(self) -> None:
        known = {
            "beta_schedule": ("scaled_linear", "linear"),
            "prediction_type": ("epsilon", "v_prediction"),
            "timestep_spacing": ("leading", "trailing", "linspace"),
        }
        for key, values in known.items():
            if getattr(self, key) not in values:
                given = getattr(self, key)
                raise ValueError(f"{key} {given!r} is not supported: use {' or '.join(values)}")

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Cumulative product of 1 - beta_t, [num_train_timesteps] float64."""
        power = 0.5 if self.beta_schedule == "scaled_linear" else 1.0
        ends = self.beta_start**power, self.beta_end**power
        betas = torch.linspace(*ends, self.num_train_timesteps, dtype=torch.float64) ** (1 / power)
        alpha_bar = (1 - betas).cumprod(0)
        if self.rescale_betas_zero_snr:  # Lin et al., Common Diffusion Noise Schedules, Algorithm 1
            root = alpha_bar.sqrt()
            alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return alpha_bar

    def level(self, t: int) -> Level:
        """The level of a training step; for -1 the clean picture, or what SD's DDIM takes for it.

        Stable Diffusion was released with `set_alpha_to_one` false: its DDIM ends at the level of
        step 0, where a little noise is left.
        """
        if t < 0:
            return Level(-1, 1.0 if self.set_alpha_to_one else float(self.alpha_bar[0]))
        return Level(t, float(self.alpha_bar[t]))

    def levels(self, steps: int) -> list[Level]:
        """The steps + 1 levels of a sampling run, from the noisiest to the clean picture.

        Raises:
            ValueError: steps outside 1 .. num_train_timesteps.
        """
        total = self.num_train_timesteps
        if not 1 <= steps <= total:
            raise ValueError(f"steps must lie in 1..{total}, got {steps}")
        if self.timestep_spacing == "leading":
            ts = [i * (total // steps) + self.steps_offset for i in reversed(range(steps))]
        elif self.timestep_spacing == "trailing":
            ts = [round(total - i * total / steps) - 1 for i in range(steps)]
        else:
            ts = torch.linspace(total - 1, 0, steps, dtype=torch.float64).round().int().tolist()
        return [self.level(min(t, total - 1)) for t in [*ts, -1]]

    def predicted(self, x: Tensor, prediction: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """The clean latents x0 and the noise eps that a prediction implies for latents x."""
        a = level.alpha_bar
        if self.prediction_type == "v_prediction":
            x0 = a**0.5 * x - (1 - a) ** 0.5 * prediction
            return x0, a**0.5 * prediction + (1 - a) ** 0.5 * x
        return (x - (1 - a) ** 0.5 * prediction) / a**0.5, prediction
