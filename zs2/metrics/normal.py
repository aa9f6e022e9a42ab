"""Whether noise is N(0, I): its moments, and whether neighbours correlate."""

import torch
from torch import Tensor


def moments(noise: Tensor) -> dict[str, float]:
    """Mean, variance and kurtosis (0, 1 and 3 of N(0, 1)) of all values of a tensor [.., h, w],
    and the mean product of values beside and above each other (0).
    """
    x = noise.double()
    mean, variance = x.mean(), x.var(correction=0)
    return {
        "mean": float(mean),
        "variance": float(variance),
        "kurtosis": float(((x - mean) ** 4).mean() / variance**2),
        "beside": float((x[..., 1:] * x[..., :-1]).mean()),
        "above": float((x[..., 1:, :] * x[..., :-1, :]).mean()),
    }


def is_normal(noise: Tensor, errors: float = 4.0) -> bool:
    """Whether all of these lie within so many standard errors of those of independent N(0, 1)."""
    found, n = moments(noise), noise.numel()
    spread = {"mean": 1.0, "variance": 2.0, "kurtosis": 24.0, "beside": 1.0, "above": 1.0}
    wanted = {"variance": 1.0, "kurtosis": 3.0}
    return all(
        abs(found[name] - wanted.get(name, 0.0)) <= errors * (of_one / n) ** 0.5
        for name, of_one in spread.items()
    ) and bool(torch.isfinite(noise).all())
