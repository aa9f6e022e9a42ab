"""The dependency noise model, the first of the paper's two ideas (section 3), and its three rivals.

    eps^1 ~ N(0, I),   eps^i = sqrt(alpha) eps^{i-1} + sqrt(1 - alpha) n,   n ~ N(0, I),

with alpha such that KL(eps^i, eps^{i-1}) = lam (Eq. 1). lam = 0 is a still clip, lam = inf is
independent frames. With p = eps^{i-1} the paper's KL is the mean of exp(p) (p - eps) over a
frame's values. It is linear in eps, so the whole search needs only two numbers a candidate:

    a = mean(exp(p) p),   b = mean(exp(p) n),   KL = a - sqrt(alpha) a - sqrt(1 - alpha) b.

Use:

    noise = sample_noise(DependencyNoise(lam=0.01), seeds=[7, 8], frames=8, shape=(4, 64, 64))

B clips, F frames, K candidates, C channels, D = C*H*W values a frame; `lam` the KL target,
`alpha` the share kept from the previous frame (not the diffusion schedule's alpha_bar).
Needs torch, `philox.py` and `kernels/noise_search.py`: to embed it elsewhere, copy the three files
and change the two imports.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from zs2.kernels import noise_search
from zs2.philox import normal

PerFrame = float | Sequence[float]  # one value for all frames, or one for each

# E[a] = sqrt(e), E[b] = 0: in the mean, neighbouring frames correlate by 1 - lam / sqrt(e).
# The rivals' default alphas give the correlation that lam = 0.01 gives.
NEIGHBOUR_CORRELATION = 1 - 0.01 / math.sqrt(math.e)  # 0.9939


@dataclass(frozen=True)
class Draws:
    """Standard normal numbers by address: (seed, frame, candidate, value), and nothing else.

    A frame's numbers therefore don't change with the number of frames, the batch, the order or
    the device (up to float32 rounding). Philox counter: (value // 4, frame, candidate, 0).
    """

    seeds: Tensor  # (B,) int64, one a clip
    size: int  # D

    def __call__(self, frame: int, candidates: int = 1) -> Tensor:
        """(B, K, D) float32. Candidate 0 of frame 0 is the first frame of every noise model."""
        device = self.seeds.device
        value = torch.arange(math.ceil(self.size / 4), device=device)  # (D/4,)
        candidate = torch.arange(candidates, device=device)[:, None]  # (K, 1)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        counter = (value, zero + frame, candidate, zero)
        return normal(counter, self.seeds[:, None, None]).flatten(2)[..., : self.size]


class NoiseModel(Protocol):
    """What a noise model is: a rule that makes each frame's noise from draws and the last frame."""

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        """Yields the noise of frame 1, 2, .. F, each (B, D) float32."""


def sample_noise(
    model: NoiseModel,
    seeds: Sequence[int],
    frames: int,
    shape: tuple[int, int, int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """The initial noise of one clip a seed.

    Args:
        model: one of the four below.
        seeds: B integers in [0, 2^63); a clip depends on its own seed only.
        frames: F >= 1.
        shape: (C, H, W) of a frame's latent.
        device: where to make it; needs float64 (for mps, make it on the CPU and move it).

    Returns:
        (B, F, C, H, W) float32.

    Raises:
        ValueError: a seed, count or size is out of range, or a per-frame setting has not F values.
    """
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"Give each clip a whole number in [0, 2^63) as its seed, not {seeds}.")
    if frames < 1:
        raise ValueError(f"A clip has at least 1 frame, not {frames}.")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"A frame's shape is (C, H, W), each at least 1, not {shape}.")
    draws = Draws(torch.tensor(seeds, dtype=torch.int64, device=device), math.prod(shape))
    return torch.stack(list(model.generate(draws, frames)), dim=1).unflatten(2, shape)


def mix(base: Tensor, fresh: Tensor, alpha: Tensor | float) -> Tensor:
    """sqrt(alpha) base + sqrt(1 - alpha) fresh: (B, D), for alpha (B,) or one number."""
    alpha = torch.as_tensor(alpha, dtype=torch.float64, device=base.device)[..., None]
    return alpha.sqrt().float() * base + (1 - alpha).sqrt().float() * fresh


@dataclass(frozen=True)
class DependencyNoise:
    """eps^i nearest to KL(eps^i, eps^{i-1}) = lam (Eq. 1), by the two stages of Algorithm 1.

    `lam` in [0, inf], for all frames or one each (the first is unused); `candidates` K >= 1.
    `select` and `search` are the two stages' rules, see `random_search` and the two searches;
    the paper's are "paper" and "iterative".
    """

    lam: PerFrame = 0.01
    candidates: int = 10
    select: Literal["unbiased", "paper"] = "unbiased"
    search: Literal["exact", "iterative"] = "exact"

    def __post_init__(self) -> None:
        check_range("lam", self.lam, math.inf)
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, not {self.candidates}.")
        if self.select not in ("unbiased", "paper"):
            raise ValueError(f"select is 'unbiased' or 'paper', not {self.select!r}.")
        if self.search not in ("exact", "iterative"):
            raise ValueError(f"search is 'exact' or 'iterative', not {self.search!r}.")

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        lams = per_frame("lam", self.lam, frames)
        noise = draws(0)[:, 0]
        yield noise
        for frame in range(1, frames):
            # lam = 0 is a still clip by definition; for b > 0 the KL has a second zero that isn't.
            if lams[frame] > 0 and self.search == "exact" and noise_search.available(noise):
                noise = noise_search.next_frame(
                    noise, draws.seeds, frame, lams[frame], self.candidates, self.select
                )
            elif lams[frame] > 0:
                candidates = draws(frame, self.candidates)
                fresh, a, b = random_search(noise, candidates, lams[frame], self.select)
                if self.search == "exact":
                    alpha = exact_search(a, b, lams[frame])
                else:
                    alpha = iterative_search(a, b, lams[frame])[-1]
                noise = mix(noise, fresh, alpha)
            yield noise


def kl_terms(previous: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """a (B,) and b (B, K), float64, of `previous` (B, D) and candidates `fresh` (B, K, D)."""
    weight = previous.exp()
    # Summed in float64: the order of a sum varies with batch and device, its result must not.
    a = (weight * previous).mean(-1, dtype=torch.float64)
    b = (weight[:, None] * fresh).mean(-1, dtype=torch.float64)
    return a, b


def kl_of_mix(a: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    """KL(sqrt(alpha) p + sqrt(1 - alpha) n, p), from a = mean(exp(p) p), b = mean(exp(p) n)."""
    return a - alpha.sqrt() * a - (1 - alpha).sqrt() * b


def random_search(
    previous: Tensor, candidates: Tensor, lam: float, select: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Stage 1 (Algorithm 1, lines 3-9): the candidate to mix in, and its a and b.

    "paper" takes the candidate whose own KL is nearest to lam. For small lam that is always the
    one most like exp(p), so n depends on p and the noise drifts away from N(0, I): at frame 64 of
    a 128-pixel clip its kurtosis is 7. "unbiased" takes the smallest |b|: symmetric in n, nothing
    drifts, and alpha meets lam all the same.

    Args:
        previous: (B, D).
        candidates: (B, K, D).

    Returns:
        The chosen candidate (B, D), a (B,) and b (B,), the latter two float64.
    """
    a, b = kl_terms(previous, candidates)
    # lam = inf would tie all candidates; no KL comes near 1e6.
    distance = b.abs() if select == "unbiased" else (a[:, None] - b - min(lam, 1e6)).abs()
    chosen = distance.argmin(dim=1)
    clip = torch.arange(len(chosen), device=chosen.device)
    return candidates[clip, chosen], a, b[clip, chosen]


def exact_search(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Stage 2 in closed form: the alpha (B,) in [0, 1] that minimises Eq. 1, for lam > 0."""
    # With sqrt(alpha) = c and sqrt(1 - alpha) = s, KL = lam is the line c a + s b = a - lam. It
    # meets the unit circle twice; the crossing nearer to c = 1 that lies past it is ours.
    square = a * a + b * b
    level = (a - lam).clamp(-square.sqrt(), square.sqrt())
    c = (a * level - b * (square - level * level).clamp(min=0).sqrt()) / square
    independent = lam >= a - b  # the KL of n itself is not more than lam
    return torch.where(independent, 0.0, c * c)


def iterative_search(a: Tensor, b: Tensor, lam: float, steps: int = 15) -> Tensor:
    """Stage 2 as the paper has it (Algorithm 1, lines 10-17): alpha after each step (steps, B).

    One guard is added: a step past the target counts as no improvement. Without it every lam
    under about 0.04 walks from alpha 0.9 to 1, a still clip, and can't come back. Nine of the 15
    steps go into that walk, so a KL of 0.01 is met to 0.006 or so (the median of 64 clips).
    `(kl_of_mix(a, b, alpha) - lam).abs()` of the result is Figure 17.
    """
    alpha, delta = torch.zeros_like(a), torch.full_like(a, 0.1)
    path = []
    for _ in range(steps):
        trial = (alpha + delta).clamp(max=1)
        improves = kl_of_mix(a, b, trial) >= lam
        alpha, delta = torch.where(improves, trial, alpha), torch.where(improves, delta, delta / 2)
        path.append(alpha)
    return torch.stack(path)


@dataclass(frozen=True)
class IndependentNoise:
    """eps^i = ind^i: plain image sampling, frame by frame."""

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        for frame in range(frames):
            yield draws(frame)[:, 0]


@dataclass(frozen=True)
class MixedNoise:
    """eps^i = sqrt(alpha) shared + sqrt(1 - alpha) ind^i (section 3; PYoCo).

    `alpha` in [0, 1], for all frames or one each; frames i, j correlate by sqrt(alpha_i alpha_j).
    """

    alpha: PerFrame = NEIGHBOUR_CORRELATION

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 1)

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        alphas = per_frame("alpha", self.alpha, frames)
        # Frame 1 has to be the still image of its seed. Turn the plane of (shared, ind^1) so that
        # the mix of the two is the first draw: still two independent normals, same distribution.
        first, other = draws(0, candidates=2).unbind(1)
        shared = mix(first, other, alphas[0])
        yield first
        for frame in range(1, frames):
            yield mix(shared, draws(frame)[:, 0], alphas[frame])


@dataclass(frozen=True)
class ProgressiveNoise:
    """eps^i = sqrt(alpha) eps^{i-1} + sqrt(1 - alpha) ind^i (section 3; PYoCo).

    `alpha` in [0, 1], for all frames or one each (the first is unused).
    """

    alpha: PerFrame = NEIGHBOUR_CORRELATION**2

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 1)

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        alphas = per_frame("alpha", self.alpha, frames)
        noise = draws(0)[:, 0]
        yield noise
        for frame in range(1, frames):
            noise = mix(noise, draws(frame)[:, 0], alphas[frame])
            yield noise


def kl(noise: Tensor, previous: Tensor) -> Tensor:
    """The paper's KL of frames (..., C, H, W) to their previous frames: (...), float64."""
    p = previous.double()
    return (p.exp() * (p - noise.double())).mean((-3, -2, -1))


def realised_kl(noise: Tensor) -> Tensor:
    """KL of each frame to the one before: (B, F, C, H, W) to (B, F-1), float64."""
    return kl(noise[:, 1:], noise[:, :-1])


def correlation(noise: Tensor) -> Tensor:
    """Correlation of frame 1 with each frame: (B, F, C, H, W) to (B, F), float64."""
    centred = noise.double().flatten(2)
    centred = centred - centred.mean(-1, keepdim=True)
    return torch.cosine_similarity(centred[:, :1], centred, dim=-1)


def expected_correlation(lam: PerFrame, frames: int) -> Tensor:
    """The mean of `correlation` over clips, prod(1 - lam_i / sqrt(e)): (F,) float64."""
    lams = torch.tensor(per_frame("lam", lam, frames), dtype=torch.float64)
    lams[0] = 0  # frame 1 is itself
    return (1 - lams / math.sqrt(math.e)).clamp(min=0).cumprod(0)


def per_frame(name: str, value: PerFrame, frames: int) -> list[float]:
    """`value` for each of `frames` frames; ValueError if it is a sequence of another length."""
    values = [value] * frames if isinstance(value, (int, float)) else list(value)
    if len(values) != frames:
        raise ValueError(f"{name} has {len(values)} values for {frames} frames: give 1 or {frames}")
    return values


def check_range(name: str, value: PerFrame, high: float) -> None:
    """ValueError unless all of `value` lies in [0, high]; NaN does not."""
    if not all(0 <= v <= high for v in ([value] if isinstance(value, (int, float)) else value)):
        raise ValueError(f"{name} must lie in 0..{high}, got {value}")


NOISES = {
    "dependency": DependencyNoise,
    "independent": IndependentNoise,
    "mixed": MixedNoise,
    "progressive": ProgressiveNoise,
}
"""By the names that command lines use."""
