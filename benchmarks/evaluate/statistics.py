"""Means with bootstrap intervals, and differences that are paired by prompt and seed."""

from collections.abc import Mapping, Sequence
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


def estimate(values: Sequence[float]) -> Estimate:
    """Of values of one prompt each, by a bootstrap over them."""
    x = torch.tensor(values, dtype=torch.float64)
    means = x[draws(len(x))].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(x.mean()), low, high)


def difference(
    values: Mapping[tuple[str, int], float], base: Mapping[tuple[str, int], float]
) -> Estimate | None:
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


def draws(count: int) -> Tensor:
    """Which values each draw takes, the same for every figure: [DRAWS, count]."""
    return torch.randint(count, (DRAWS, count), generator=torch.Generator().manual_seed(0))
