"""Noise for clips that end where they begin: a closed path through N(0, I).

    eps^i = sum_k sqrt(w_k) (cos(k t_i) q_k + sin(k t_i) v_k),   t_i = 2 pi (i - 1) / F,

with q_k, v_k ~ N(0, I) and weights w_k, k = 0 .. F/2, that add up to 1. Every frame is N(0, I), and
frames d apart, counted round the loop, correlate by

    C_d = sum_k w_k cos(2 pi k d / F).

The weights fall as r^(k^2), a squared exponential wrapped round the clip, and r is such that
C_1 = 1 - lam / sqrt(e): Eq. 1 holds in the mean, from the last frame to the first as well. For a
small lam or a short loop that is one circle, k = 1, about what all frames share, k = 0; r = 0 is a
still clip, r = 1 are independent frames, from lam = sqrt(e) on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zs2.draws import Draws, neighbour_correlation
from zs2.timeline import Keyframes, check_range, number


@dataclass(frozen=True)
class LoopNoise:
    """A closed path, where the KL of frame i to i - 1 is `lam` in the mean, in [0, inf].

    A direction lasts by construction: inertia has no meaning here. A loop has one `lam`.
    """

    MU: ClassVar[float] = 1.0
    """The momentum that goes with a loop. A running average begins at frame 1, so that the last
    frame's differs from the first's, and the seam would be wider than the steps beside it."""

    lam: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.lam, Keyframes):
            raise ValueError("a loop has one lam for all its frames: give a number")
        check_range("lam", number("lam of a loop", self.lam), math.inf)

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        w = self.weights(frames)
        drawn = draws(0, candidates=1 + 2 * len(w))
        first, q, v = drawn[:, 0], drawn[:, 1::2], drawn[:, 2::2]
        yield first
        # Frame 1 has to be the still image of its seed. Were q_k free, it would be the sum of
        # sqrt(w_k) q_k: take that part out of them and put the first draw in its place. What is
        # left of the sum above is below; q and v stay normal and independent.
        for frame in range(1, frames):
            turn = math.tau * frame / frames * torch.arange(len(w), dtype=torch.float64)
            c = w @ turn.cos()
            on_q, on_v = w.sqrt() * (turn.cos() - c), w.sqrt() * turn.sin()
            noise = float(c) * first
            for k in range(len(w)):
                noise = noise + float(on_q[k]) * q[:, k] + float(on_v[k]) * v[:, k]
            yield noise

    def weights(self, frames: int) -> Tensor:
        """w_0, w_1, .. of the harmonics that matter, float64."""
        k = torch.arange(frames // 2 + 1, dtype=torch.float64)
        twice = torch.where((k == 0) | (2 * k == frames), 1.0, 2.0)  # k and F - k are the same wave
        away = 2 * (math.pi * k / frames).sin() ** 2  # 1 - cos(2 pi k / F)
        target = 1 - neighbour_correlation(number("lam", self.lam))
        low, high = 0.0, 1.0
        for _ in range(100):  # halves the bracket of r
            r = (low + high) / 2
            w = twice * r ** k.square()
            low, high = (r, high) if w @ away < target * w.sum() else (low, r)
        w = w / w.sum()
        kept = w[w > 1e-14]  # the others are lost in float32
        return kept / kept.sum()

    def expected_correlation(self, frames: int) -> Tensor:
        """C of frame 1 with each frame: (F,) float64, the mean of `zs2.noise.correlation`."""
        w = self.weights(frames)
        frame, k = (torch.arange(n, dtype=torch.float64) for n in (frames, len(w)))
        return (math.tau / frames * frame[:, None] * k).cos() @ w
