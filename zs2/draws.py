"""Normal numbers by their address, and how two tensors of them are mixed to a third.

The ground of all noise models: `zs2.noise`, `zs2.noise_rivals` and `zs2.noise_loop`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from zs2.kernels import noise_search
from zs2.kernels.philox import cuda_randn, normal

RNG = Literal["zs2", "cpu", "cuda"]


@dataclass(frozen=True)
class Draws:
    """Standard normal numbers by address: (seed, frame, candidate, step, value), and nothing else.

    A frame's numbers therefore don't change with the number of frames, the batch, the order or
    the device (up to float32 rounding). Philox counter: (value // 4, frame, candidate, step).

    `step` 0 is the initial noise; k > 0 is what a stochastic sampler adds at its step k.
    `rng` tells whose numbers the very first ones are, candidate 0 of frame 0: with those of another
    program frame 1 of a clip can be the picture that this program makes of the seed. "cpu" is
    torch.randn on the CPU (diffusers, ComfyUI), "cuda" torch.randn on a GPU (A1111). Step k has
    what the same generator gives at its k-th further call.
    """

    seeds: Tensor  # (B,) int64, one a clip
    size: int  # V
    step: int = 0
    rng: RNG = "zs2"

    def __post_init__(self) -> None:
        if type(self.step) is not int or not 0 <= self.step < 2**31:
            raise ValueError(f"step is a whole number in [0, 2^31), not {self.step!r}")
        if self.rng not in get_args(RNG):
            raise ValueError(f"rng is 'zs2', 'cpu' or 'cuda', not {self.rng!r}")

    def __call__(self, frame: int, candidates: int = 1) -> Tensor:
        """(B, K, V) float32. Candidate 0 of frame 0 is the first frame of every noise model."""
        if noise_search.available(self.seeds):
            drawn = noise_search.draw(self.seeds, frame, candidates, self.step, self.size)
        else:
            device = self.seeds.device
            value = torch.arange(math.ceil(self.size / 4), device=device)  # (V/4,)
            candidate = torch.arange(candidates, device=device)[:, None]  # (K, 1)
            zero = torch.zeros((), dtype=torch.int64, device=device)
            counter = (value, zero + frame, candidate, zero + self.step)
            drawn = normal(counter, self.seeds[:, None, None]).flatten(2)[..., : self.size]
        if frame == 0 and self.rng != "zs2":
            first = torch.stack([self.elsewhere(seed) for seed in self.seeds.tolist()])
            drawn = torch.cat((first[:, None].to(drawn.device), drawn[:, 1:]), dim=1)
        return drawn

    def elsewhere(self, seed: int) -> Tensor:
        """The first numbers (V,) of a seed as `rng` has them, float32 on the CPU."""
        if self.rng == "cuda":
            return cuda_randn(seed, (self.size,), self.step)
        generator = torch.Generator().manual_seed(seed)  # of which it takes the low 32 bits
        for _ in range(self.step + 1):
            noise = torch.randn(self.size, generator=generator, dtype=torch.float32)
        return noise


class NoiseModel(Protocol):
    """What a noise model is: a rule that makes each frame's noise from draws and the last frame.

    zs2's own are dataclasses, whose fields bear the names of the command line's options.
    """

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        """Yields the noise of frame 1, 2, .. F, each (B, V) float32."""


def mix(base: Tensor, fresh: Tensor, alpha: Tensor | float) -> Tensor:
    """sqrt(alpha) base + sqrt(1 - alpha) fresh: (.., V), for alpha (..) or one number."""
    alpha = torch.as_tensor(alpha, dtype=torch.float64, device=base.device)[..., None]
    return alpha.sqrt().float() * base + (1 - alpha).sqrt().float() * fresh


def neighbour_correlation(lam: float) -> float:
    """1 - lam / sqrt(e): how far frames correlate, in the mean, whose KL is lam (Eq. 1).

    With p normal, E[exp(p) p] = sqrt(e), and for eps that correlates with it by c the mean of
    exp(p) (p - eps) is sqrt(e) (1 - c). From lam = sqrt(e) on they are independent: 0.
    """
    return max(0.0, 1 - lam / math.sqrt(math.e))
