"""Means with bootstrap intervals, and differences that are paired by prompt and seed."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

DRAWS = 10_000
FEW = 10
"""Prompts below which no word is given: too many would be wrong."""
REACHED = 0.95
"""Share of the draws in which a family has to change about as much as is asked."""
BETTER = {  # whether more is better; what is not here is neither
    "clip_score": True,
    "consistency_adjacent": True,
    "consistency_all_pairs": True,
    "ms_ssim": True,
    "temporal_flickering": True,
    "residual": False,
    "jumps": False,
    "tc": False,
    "lpips": False,
    "appearance": False,
}

Of = Mapping[tuple[str, int], float]
"""A figure by prompt and seed."""


class Estimate(NamedTuple):
    """A mean and its 95 % interval, and of how many prompts they are."""

    mean: float
    low: float
    high: float
    prompts: int


def estimate(values: Of) -> Estimate:
    """By a bootstrap over prompts; the seeds of one are no prompts more, and are averaged."""
    found, prompts = means(values)
    return interval(found, prompts)


def means(values: Of) -> tuple[Tensor, int]:
    """The mean over prompts, and that of each draw of them, [1 + DRAWS]; and how many there are."""
    by_prompt: dict[str, list[float]] = {}
    for (prompt, _), value in sorted(values.items()):
        by_prompt.setdefault(prompt, []).append(value)
    x = torch.tensor([sum(v) / len(v) for v in by_prompt.values()], dtype=torch.float64)
    return torch.cat((x.mean(0, keepdim=True), x[draws(len(x))].mean(1))), len(x)


def interval(found: Tensor, prompts: int) -> Estimate:
    """A mean and those of its draws, [1 + DRAWS]; a draw without a value is left out.

    The percentiles lie further out than 2.5 and 97.5, or the interval of few prompts would be too
    narrow: as far as Student's t is wider than the normal distribution, and a sample's spread
    smaller than what it is of (Hesterberg 2014, "What teachers should know about the bootstrap").
    """
    apart = students_t(prompts - 1) * math.sqrt(prompts / (prompts - 1)) if prompts > 1 else 0
    outside = NormalDist().cdf(-apart)
    bounds = torch.tensor([outside, 1 - outside], dtype=torch.float64)
    low, high = torch.nanquantile(found[1:], bounds).tolist()
    return Estimate(float(found[0]), low, high, prompts)


def students_t(freedom: int) -> float:
    """The 97.5th percentile of Student's t, by the first terms of its series in 1 / freedom."""
    z = NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def at_change(change: Sequence[Tensor], values: Sequence[Tensor], goal: float) -> Tensor | None:
    """A figure of a family of methods where its clips' last frames differ by `goal` from the first.

    Read off the straight line through the first two methods, one after the other, whose mean
    changes lie around the goal: of all prompts, and of each draw of them, [1 + DRAWS]. A draw may
    lie beyond the two by half of their distance; one further off is NaN. None where no line
    reaches the goal, or too many draws are NaN.

    Args:
        change, values: `means` of each method of the family, from little motion to much, of the
            same prompts.
    """
    for (low, a), (high, b) in pairwise(zip(change, values, strict=True)):
        if low[0] <= goal <= high[0] and low[0] < high[0]:
            share = (goal - low) / (high - low)
            near = (low < high) & (share >= -0.5) & (share <= 1.5)
            at = torch.where(near, (1 - share) * a + share * b, torch.nan)
            return at if near.double().mean() >= REACHED else None
    return None


def difference(values: Of, base: Of) -> Estimate | None:
    """Of two methods, of the prompts and seeds that both have; None without any."""
    both = values.keys() & base.keys()
    return estimate({key: values[key] - base[key] for key in both}) if both else None


def verdict(metric: str, found: Estimate) -> str:
    """A difference as a word."""
    if found.prompts < FEW:
        return "too few prompts"
    if found.low <= 0 <= found.high:
        return "no difference shown"
    if metric not in BETTER:
        return "more" if found.mean > 0 else "less"
    return "better" if (found.mean > 0) == BETTER[metric] else "worse"


@cache
def draws(count: int) -> Tensor:
    """Which values each draw takes, the same for every figure: [DRAWS, count]."""
    return torch.randint(count, (DRAWS, count), generator=torch.Generator().manual_seed(0))
