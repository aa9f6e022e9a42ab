"""DDIM (Song et al.), the paper's Eq. 5 with eta = 0: a table of noise levels and one pure step."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class DDIM:
    """The diffusion a model was trained with; the fields are keys of `scheduler_config.json`.

    The defaults are Stable Diffusion's. `alpha_bar` is the paper's alpha_t, the share of the signal
    that is left at step t; it is not the noise model's alpha.

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

    def timesteps(self, steps: int) -> list[tuple[int, int]]:
        """Pairs (t, next t), from the noisiest to the clean picture, which is written -1.

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
        ts = [min(t, total - 1) for t in ts]
        return list(zip(ts, [*ts[1:], -1], strict=True))

    def step(self, x: Tensor, prediction: Tensor, t: int, to: int) -> Tensor:
        """Move latents from noise level t to another, Eq. 5; upwards, this is DDIM inversion.

        Args:
            x: latents at t, any shape. prediction: what the model says of them, same shape.
            to: the level to reach; -1 is the clean picture.

        Returns:
            The latents at `to`.
        """
        x0, eps = self.predicted(x, prediction, t)
        a = self._alpha_bar(to)
        return a**0.5 * x0 + (1 - a) ** 0.5 * eps

    def predicted(self, x: Tensor, prediction: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The clean latents x0 and the noise eps that a prediction implies for latents x at t."""
        a = self._alpha_bar(t)
        if self.prediction_type == "v_prediction":
            x0 = a**0.5 * x - (1 - a) ** 0.5 * prediction
            return x0, a**0.5 * prediction + (1 - a) ** 0.5 * x
        return (x - (1 - a) ** 0.5 * prediction) / a**0.5, prediction

    def _alpha_bar(self, t: int) -> float:
        if t < 0:
            return 1.0 if self.set_alpha_to_one else float(self.alpha_bar[0])
        return float(self.alpha_bar[t])
