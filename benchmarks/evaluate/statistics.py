"""Means with bootstrap intervals, and differences that are paired by prompt and seed."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

DRAWS = 10_000
BETTER = {  # whether more is better; what is not here is neither
    "clip_score": True,
    "consistency_adjacent": True,
    "consistency_all_pairs": True,
    "ms_ssim": True,
    "temporal_flickering": True,
    "persistence": True,
    "residual": False,
    "jumps": False,
    "tc": False,
    "appearance": False,
}


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


Of = Mapping[tuple[str, int], float]
"""A figure by prompt and seed."""


def estimate(values: Sequence[float]) -> Estimate:
    """Of values of one prompt each, by a bootstrap over them."""
    return interval(means(torch.tensor(values, dtype=torch.float64)))


def means(x: Tensor) -> Tensor:
    """The mean of x [n], and that of each draw of n from it: [1 + DRAWS]."""
    return torch.cat((x.mean(0, keepdim=True), x[draws(len(x))].mean(1)))


def interval(found: Tensor) -> Estimate:
    """A mean and those of its draws, [1 + DRAWS], as mean and interval."""
    bounds = torch.tensor([0.025, 0.975], dtype=torch.float64)
    return Estimate(float(found[0]), *torch.quantile(found[1:], bounds).tolist())


def at_change(
    change: Mapping[str, Of], values: Mapping[str, Of], keys: Sequence[tuple[str, int]], goal: float
) -> Tensor | None:
    """A figure of a family of methods where its clips' last frames differ by `goal` from the first.

    Read off the straight line through the two methods whose mean changes lie around it: its mean,
    and that of each draw of prompts, [1 + DRAWS]. None where all change less, or all more.

    Args:
        change, values: of each method of the family.
        keys: the prompts and seeds to take.
    """

    def of(figures: Of) -> Tensor:
        return means(torch.tensor([figures[key] for key in keys], dtype=torch.float64))

    points = sorted(
        ((of(figures), name) for name, figures in change.items()), key=lambda p: p[0][0]
    )
    for (low, a), (high, b) in pairwise(points):
        if low[0] <= goal <= high[0] and low[0] < high[0]:
            share = (goal - low) / (high - low)
            return (1 - share) * of(values[a]) + share * of(values[b])
    return None


def difference(values: Of, base: Of) -> Estimate | None:
    """Of two methods, of the prompts and seeds that both have; None without any."""
    both = sorted(values.keys() & base.keys())
    return estimate([values[key] - base[key] for key in both]) if both else None


def verdict(metric: str, found: Estimate) -> str:
    """A difference as a word."""
    if found.low <= 0 <= found.high:
        return "no difference shown"
    if metric not in BETTER:
        return "more" if found.mean > 0 else "less"
    return "better" if (found.mean > 0) == BETTER[metric] else "worse"


@cache
def draws(count: int) -> Tensor:
    """Which values each draw takes, the same for every figure: [DRAWS, count]."""
    return torch.randint(count, (DRAWS, count), generator=torch.Generator().manual_seed(0))
