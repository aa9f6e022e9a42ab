"""The dependency noise model, the first of the paper's two ideas (section 3).

    eps^1 ~ N(0, I),   eps^i = sqrt(alpha) eps^{i-1} + sqrt(1 - alpha) n,   n ~ N(0, I),

with alpha such that KL(eps^i, eps^{i-1}) = lam (Eq. 1). lam = 0 is a still clip, lam = inf is
independent frames. With p = eps^{i-1} the paper's KL is the mean of exp(p) (p - eps) over a
frame's values. It is linear in eps, so the whole search needs only two numbers a candidate:

    a = mean(exp(p) p),   b = mean(exp(p) n),   KL = a - sqrt(alpha) a - sqrt(1 - alpha) b.

The paper draws a fresh direction n at every frame: a random walk, and things jump to and fro. With
`inertia` (ours) the direction lasts. eps^{i-1} and m turn together on their great circle, then a
part of m is drawn again:

    eps^i = sqrt(alpha) eps^{i-1} + sqrt(1 - alpha) m
    m'    = sqrt(alpha) m - sqrt(1 - alpha) eps^{i-1}
    m     = inertia m' + sqrt(1 - inertia^2) n,   for the next frame.

(eps, m) stays N(0, I) and Eq. 1 holds as before, with m as its n. inertia = 0 is the paper's model,
inertia = 1 a walk along one great circle. In between it is the chain of guided Monte Carlo on
N(0, I) (Horowitz 1991: turn, then refresh part of the momentum), with the angle that Eq. 1 gives.

Use:

    noise = sample_noise(DependencyNoise(lam=0.01), seeds=[7, 8], frames=8, shape=(4, 64, 64))

B clips, F frames, K candidates, C channels, V = C*H*W values a frame; `lam` the KL target,
`alpha` the share kept from the previous frame (not the diffusion schedule's alpha_bar).
Needs torch alone: to embed it elsewhere, copy the files of zs2 that it imports.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zs2.draws import RNG, Draws, NoiseModel, mix, neighbour_correlation
from zs2.kernels import noise_search
from zs2.noise_loop import LoopNoise
from zs2.noise_rivals import IndependentNoise, MixedNoise, ProgressiveNoise
from zs2.timeline import PerFrame, check_range, per_frame


def sample_noise(
    model: NoiseModel,
    seeds: Sequence[int],
    frames: int,
    shape: tuple[int, int, int],
    device: torch.device | str = "cpu",
    step: int = 0,
    rng: RNG = "zs2",
) -> Tensor:
    """The noise of one clip a seed.

    Args:
        model: one of `NOISES` below.
        seeds: B integers in [0, 2^63); a clip depends on its own seed only.
        frames: F >= 1.
        shape: (C, H, W) of a frame's latent.
        device: where to make it; needs float64 (for mps, make it on the CPU and move it).
        step: 0 for the initial noise, k for what a stochastic sampler adds at its step k: drawn
            afresh, and over frames from the same model, so that it doesn't flicker.
        rng: whose noise frame 1 gets, see `zs2.draws.Draws`. For "cpu" seeds that differ by 2^32
            are the same.

    Returns:
        (B, F, C, H, W) float32.

    Raises:
        ValueError: a seed, count or size is out of range, or a per-frame setting has not F values.
    """
    made = each_frame(model, seeds, frames, shape, device, step, rng)
    return torch.stack(list(made), dim=1)


def each_frame(
    model: NoiseModel,
    seeds: Sequence[int],
    frames: int,
    shape: tuple[int, int, int],
    device: torch.device | str = "cpu",
    step: int = 0,
    rng: RNG = "zs2",
) -> Iterator[Tensor]:
    """As `sample_noise`, frame after frame, each (B, C, H, W): a clip of any length."""
    whole = isinstance(seeds, Sequence) and all(type(seed) is int for seed in seeds)
    if not whole or not seeds or not all(0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"give each clip a whole number in [0, 2^63) as its seed, not {seeds}")
    if type(frames) is not int or frames < 1:
        raise ValueError(f"a clip has at least 1 frame, not {frames}")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a frame's shape is (C, H, W), each at least 1, not {shape}")
    seed = torch.tensor(seeds, dtype=torch.int64, device=device)
    draws = Draws(seed, math.prod(shape), step, rng)
    return (frame.unflatten(1, shape) for frame in model.generate(draws, frames))


Moved = Callable[[Tensor, Tensor | None, int], tuple[Tensor, Tensor | None]]
"""(eps^{i-1}, m', frame) as that frame finds them: see `zs2.noise_camera`."""


@dataclass(frozen=True)
class DependencyNoise:
    """eps^i nearest to KL(eps^i, eps^{i-1}) = lam (Eq. 1), by the two stages of Algorithm 1.

    `lam` in [0, inf] and `inertia` in [0, 1], for all frames or by frame (the first value is
    unused); an `inertia` of 0 is the paper's chain. `candidates` K in 1..65535. `select` and
    `search` are the two stages' rules, see `random_search` and the two searches; the paper's are
    "paper" and "iterative".
    """

    lam: PerFrame = 0.01
    candidates: int = 10
    select: Literal["unbiased", "paper"] = "unbiased"
    search: Literal["exact", "iterative"] = "exact"
    inertia: PerFrame = 0.95

    def __post_init__(self) -> None:
        check_range("lam", self.lam, math.inf)
        check_range("inertia", self.inertia, 1)
        # A GPU's grid has no more than 65535 blocks along this axis.
        if type(self.candidates) is not int or not 1 <= self.candidates <= 65535:
            raise ValueError(f"candidates must be whole and in 1..65535, not {self.candidates!r}")
        if self.select not in ("unbiased", "paper"):
            raise ValueError(f"select is 'unbiased' or 'paper', not {self.select!r}")
        if self.search not in ("exact", "iterative"):
            raise ValueError(f"search is 'exact' or 'iterative', not {self.search!r}")

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        return self.frames(draws, frames)

    def frames(self, draws: Draws, frames: int, moved: Moved | None = None) -> Iterator[Tensor]:
        """As `generate`, where each frame follows the one before as `moved` leaves it."""
        lams = per_frame("lam", self.lam, frames)
        inertias = per_frame("inertia", self.inertia, frames)
        noise = draws(0)[:, 0]
        turned = draws(0, candidates=2)[:, 1] if any(inertias) else None  # any m' to begin with
        yield noise
        for frame in range(1, frames):
            lam, inertia = lams[frame], inertias[frame]
            if moved:
                noise, turned = moved(noise, turned, frame)
            if neighbour_correlation(lam) == 0:
                inertia = 0.0  # independent frames keep no direction either
            # lam = 0 is a still clip by definition; for b > 0 the KL has a second zero that isn't.
            if lam > 0:
                noise, turned = self.follow(noise, turned, draws, frame, lam, inertia)
            yield noise

    def follow(
        self,
        noise: Tensor,
        turned: Tensor | None,
        draws: Draws,
        frame: int,
        lam: float,
        inertia: float,
    ) -> tuple[Tensor, Tensor | None]:
        """eps^i (B, V) and m' (B, V), from those of frame i - 1. Without inertia m' is None."""
        if self.search == "exact" and noise_search.available(noise):
            address = draws.seeds, frame, draws.step
            return noise_search.next_frame(
                noise, turned, *address, lam, inertia, self.candidates, self.select
            )
        n = draws(frame, self.candidates)
        m = n if turned is None else mix(turned[:, None], n, inertia**2)
        m, a, b = random_search(noise, m, lam, self.select)
        if self.search == "exact":
            alpha = exact_search(a, b, lam)
        else:
            alpha = iterative_search(a, b, lam)[-1]
        if turned is not None:
            turned = mix(m, -noise, alpha)
        return mix(noise, m, alpha), turned


def kl_terms(previous: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """a (B,) and b (B, K), float64, of `previous` (B, V) and candidates `fresh` (B, K, V)."""
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
        previous: (B, V).
        candidates: (B, K, V).

    Returns:
        The chosen candidate (B, V), a (B,) and b (B,), the latter two float64.
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
    steps go into that walk, so a KL of 0.01 is met to 0.002 or so (the median of 64 clips).
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


def expected_correlation(lam: PerFrame, frames: int, inertia: PerFrame = 0.0) -> Tensor:
    """The mean of `correlation` over clips for `DependencyNoise`: (F,) float64.

    With c = 1 - lam / sqrt(e) and s^2 = 1 - c^2 it is the top left of the product of the frames'
    matrices [[c, -s], [inertia s, inertia c]]; without inertia the product of c.
    """
    lams, inertias = per_frame("lam", lam, frames), per_frame("inertia", inertia, frames)
    of_noise, of_turned = 1.0, 0.0  # the first frame's correlation with eps^i, and with m'
    means = [of_noise]
    for lam_i, inertia_i in zip(lams[1:], inertias[1:], strict=True):
        if lam_i > 0:
            c = neighbour_correlation(lam_i)
            s, of_m = math.sqrt(1 - c * c), inertia_i * of_turned if c else 0.0
            of_noise, of_turned = c * of_noise + s * of_m, c * of_m - s * of_noise
        means.append(of_noise)
    return torch.tensor(means, dtype=torch.float64)


# By the names that command lines use.
NOISES: dict[str, Any] = {
    "dependency": DependencyNoise,
    "independent": IndependentNoise,
    "mixed": MixedNoise,
    "progressive": ProgressiveNoise,
    "loop": LoopNoise,
}
