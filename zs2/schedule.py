"""Noise levels: the diffusion a model was trained with, and the levels that a sampler visits.

    levels = Schedule().levels(50)      # 51 of them, from noise to the clean picture
    x0, eps = schedule.predicted(x, model(x, levels[0].t), levels[0])

A latent at level t is x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 3. The paper
calls alpha_bar_t alpha_t; it is not the noise model's alpha. k-diffusion counts the same noise as
sigma = sqrt((1 - alpha_bar) / alpha_bar), and its latents are x_0 + sigma eps.
"""

import math
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

NO_SIGNAL = 4.8973451890853435e-08
"""What ComfyUI and A1111 put for an alpha_bar of 0 (zero terminal SNR), so that sigma is finite."""


class Level(NamedTuple):
    """How noisy a latent is.

    Attributes:
        t: the training step that the model is told, whole or between two; -1 is the clean picture,
            which it never sees.
        alpha_bar: the share of the signal's variance.
    """

    t: float
    alpha_bar: float

    @property
    def sigma(self) -> float:
        """Noise over signal, as k-diffusion counts it: exactly 0 for the clean picture.

        Where there is no signal it is 4519, the same as in ComfyUI and A1111, and not infinite.
        """
        return 0.0 if self.t < 0 else _sigma(self.alpha_bar)

    @property
    def scale(self) -> float:
        """k-diffusion's latents x0 + sigma eps over ours, which have unit variance."""
        return math.hypot(1, self.sigma)


@dataclass(frozen=True)
class Schedule:
    """The diffusion a model was trained with; the fields are keys of `scheduler_config.json`.

    The defaults are Stable Diffusion's.

    Raises:
        ValueError: a schedule, spacing or prediction type that is not known, or a number out of
            range.
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
        total, offset = self.num_train_timesteps, self.steps_offset
        if not (isinstance(total, int) and 2 <= total <= 100_000):
            raise ValueError(f"num_train_timesteps must be an integer in 2..100000, got {total}")
        if not (isinstance(offset, int) and 0 <= offset < total):
            raise ValueError(f"steps_offset must be an integer in 0..{total - 1}, got {offset}")
        for key in ("beta_start", "beta_end"):
            if not 0 < (beta := getattr(self, key)) < 1:
                raise ValueError(f"{key} must lie between 0 and 1, got {beta}")
        a = self.alpha_bar
        least = a[-2 if self.rescale_betas_zero_snr else -1]  # the last is then 0, as it should be
        if not (a[0] < 1 and least > NO_SIGNAL and (a.diff() < 0).all()):  # NaN also fails
            raise ValueError(
                f"beta_start {self.beta_start} and beta_end {self.beta_end} over {total} steps "
                "leave no noise at the first or no signal at the last step: correct them"
            )

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

    @cached_property
    def log_sigma(self) -> list[float]:
        """Of the training steps, rising."""
        return [math.log(_sigma(a)) for a in self.alpha_bar.tolist()]

    def t(self, sigma: float) -> float:
        """The training step of a noise level, by interpolation in log sigma; outside, the nearest.

        It may lie between two steps, as in k-diffusion and A1111. ComfyUI, and some schedulers of
        diffusers, tell the model the nearest whole step, for the same noise level.
        """
        table, wanted = self.log_sigma, math.log(sigma)
        low = min(max(bisect(table, wanted) - 1, 0), len(table) - 2)
        part = (wanted - table[low]) / (table[low + 1] - table[low])
        return round(low + min(max(part, 0), 1), 9)  # whole steps come out whole

    def level(self, t: float) -> Level:
        """The level of a training step; for -1 the clean picture, or what SD's DDIM takes for it.

        Stable Diffusion was released with `set_alpha_to_one` false: its DDIM ends at the level of
        step 0, where a little noise is left. Between two steps log sigma is interpolated.
        """
        if t < 0:
            return Level(-1, 1.0 if self.set_alpha_to_one else float(self.alpha_bar[0]))
        low = int(t)
        if t == low:
            return Level(t, float(self.alpha_bar[low]))
        between = self.log_sigma[low] + (t - low) * (self.log_sigma[low + 1] - self.log_sigma[low])
        return Level(t, 1 / (1 + math.exp(2 * between)))

    def levels(self, steps: int, spacing: str | None = None) -> list[Level]:
        """The levels of a sampling run, from the noisiest to the clean picture.

        Args:
            spacing: a name in `SPACINGS`, or None for the model's own.

        Returns:
            steps + 1 levels; fewer where so many steps would visit a level twice.

        Raises:
            ValueError: steps outside 1 .. num_train_timesteps, a spacing that is not known, or a
                first level without signal (zero terminal SNR) for a model that predicts the noise.
        """
        total = self.num_train_timesteps
        if not 1 <= steps <= total:
            raise ValueError(f"steps must lie in 1..{total}, got {steps}")
        if (spacing := spacing or self.timestep_spacing) not in SPACINGS:
            raise ValueError(f"spacing {spacing!r} is not known: use {', '.join(SPACINGS)}")
        ts = dict.fromkeys(min(t, total - 1) for t in SPACINGS[spacing](self, steps))
        levels = [self.level(t) for t in [*ts, -1]]
        if self.prediction_type == "epsilon" and levels[0].alpha_bar == 0:
            raise ValueError(
                f"step {levels[0].t:g} has no signal (rescale_betas_zero_snr), which a model that "
                "predicts the noise cannot start from: use prediction v or spacing leading"
            )
        return levels

    def predicted(self, x: Tensor, prediction: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """The clean latents x0 and the noise eps that a prediction implies for latents x."""
        a = level.alpha_bar
        if self.prediction_type == "v_prediction":
            x0 = a**0.5 * x - (1 - a) ** 0.5 * prediction
            return x0, a**0.5 * prediction + (1 - a) ** 0.5 * x
        return (x - (1 - a) ** 0.5 * prediction) / a**0.5, prediction


def _sigma(alpha_bar: float) -> float:
    return math.sqrt((1 - alpha_bar) / (alpha_bar or NO_SIGNAL))


def _line(start: float, end: float, n: int) -> list[float]:
    """n numbers from start to end; start for 1."""
    return torch.linspace(start, end, n, dtype=torch.float64).tolist()


def leading(schedule: Schedule, n: int) -> list[float]:
    """Stable Diffusion's own, for its DDIM: every (1000 / n)th step, and steps_offset more.

    diffusers' DDIM, Euler, Euler a (for DPM++ and UniPC it divides by n + 1); ComfyUI's
    ddim_uniform where n divides 1000.
    """
    stride = schedule.num_train_timesteps // n
    return [i * stride + schedule.steps_offset for i in reversed(range(n))]


def trailing(schedule: Schedule, n: int) -> list[float]:
    """From the noisiest step, which Turbo, Lightning, Hyper and zero-SNR models need."""
    total = schedule.num_train_timesteps
    return [round(total - i * total / n) - 1 for i in range(n)]


def linspace(schedule: Schedule, n: int) -> list[float]:
    """From the first step to the last, whole steps: diffusers' DDIM."""
    return [round(t) for t in normal(schedule, n)]


def normal(schedule: Schedule, n: int) -> list[float]:
    """From the first step to the last: ComfyUI's normal, A1111's uniform.

    diffusers' Euler calls it linspace, but interpolates sigma and not log sigma between the steps:
    1e-5 of sigma on most levels, up to 2e-2 on those next to step 0.
    """
    return _line(schedule.num_train_timesteps - 1, 0, n)


def sgm_uniform(schedule: Schedule, n: int) -> list[float]:
    """As normal, of n + 1 steps without the last: ComfyUI's and A1111's.

    diffusers' DPM++ and UniPC call it linspace, and round to whole steps.
    """
    return _line(schedule.num_train_timesteps - 1, 0, n + 1)[:-1]


def simple(schedule: Schedule, n: int) -> list[float]:
    """Every (1000 / n)th step from the noisiest: ComfyUI's and A1111's."""
    total = schedule.num_train_timesteps
    return [total - 1 - i * total // n for i in range(n)]


def karras(schedule: Schedule, n: int) -> list[float]:
    """Equal steps of sigma^(1/7) (Karras et al. 2022, Eq. 5), between the model's own ends."""
    low, high = (math.exp(schedule.log_sigma[i] / 7) for i in (0, -1))
    return [schedule.t(root**7) for root in _line(high, low, n)]


def exponential(schedule: Schedule, n: int) -> list[float]:
    """Equal steps of log sigma, between the model's own ends."""
    return [
        schedule.t(math.exp(s)) for s in _line(schedule.log_sigma[-1], schedule.log_sigma[0], n)
    ]


def kl_optimal(schedule: Schedule, n: int) -> list[float]:
    """Equal steps of atan sigma, optimal for Gaussian data (Sabour et al. 2024): ComfyUI's."""
    low, high = (math.atan(math.exp(schedule.log_sigma[i])) for i in (0, -1))
    return [schedule.t(math.tan(angle)) for angle in _line(high, low, n)]


def ays(schedule: Schedule, n: int) -> list[float]:
    """Align Your Steps for Stable Diffusion 1.5 (Sabour et al. 2024): 10 levels, found by search.

    Another number of steps interpolates log sigma, as ComfyUI does; A1111 spreads n and not n + 1
    points over the table, so that its 10 steps are others.
    """
    found = [Schedule().log_sigma[t] for t in (999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0)]
    ts = []
    for place in _line(0, len(found) - 1, n + 1)[:-1]:
        low = int(place)
        ts.append(schedule.t(math.exp(found[low] + (place - low) * (found[low + 1] - found[low]))))
    return ts


def lcm(schedule: Schedule, n: int) -> list[float]:
    """The 50 steps that latent consistency models were distilled at, or n of them, as diffusers.

    Raises:
        ValueError: more than 50 steps.
    """
    known = min(50, schedule.num_train_timesteps)
    if n > known:
        raise ValueError(f"spacing lcm has {known} steps, got {n}: 4 to 8 are usual")
    stride = schedule.num_train_timesteps // known
    return [(known - i * known // n) * stride - 1 for i in range(n)]


SPACINGS: dict[str, Callable[[Schedule, int], list[float]]] = {
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "normal": normal,
    "sgm-uniform": sgm_uniform,
    "simple": simple,
    "karras": karras,
    "exponential": exponential,
    "kl-optimal": kl_optimal,
    "ays": ays,
    "lcm": lcm,
}
"""Where the levels of a run lie, by the names that users know: n of the training steps."""


def remaining(levels: tuple[Level, ...], strength: float) -> tuple[Level, ...]:
    """The levels of the last steps, `strength` being their share.

    Raises:
        ValueError: strength outside 0..1, or none is left.
    """
    steps = len(levels) - 1
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0..1, got {strength}")
    run = int(steps * strength)
    if run < 1:
        raise ValueError(f"strength {strength} leaves none of {steps} steps: raise one of the two")
    return levels[steps - run :]
