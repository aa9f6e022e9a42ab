"""The noise models that the paper's (`zs2.noise`) is measured against (section 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from zs2.draws import Draws, mix, neighbour_correlation
from zs2.timeline import PerFrame, check_range, per_frame

SHARE = neighbour_correlation(0.01)  # 0.9939: the default alphas move as lam = 0.01 does


@dataclass(frozen=True)
class IndependentNoise:
    """eps^i = ind^i: plain image sampling, frame by frame."""

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        for frame in range(frames):
            yield draws(frame)[:, 0]


@dataclass(frozen=True)
class MixedNoise:
    """eps^i = sqrt(alpha) shared + sqrt(1 - alpha) ind^i (section 3; PYoCo).

    `alpha` in [0, 1], for all frames or by frame; frames i, j correlate by sqrt(alpha_i alpha_j).
    """

    alpha: PerFrame = SHARE

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

    `alpha` in [0, 1], for all frames or by frame (the first is unused).
    """

    alpha: PerFrame = SHARE**2

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 1)

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        alphas = per_frame("alpha", self.alpha, frames)
        noise = draws(0)[:, 0]
        yield noise
        for frame in range(1, frames):
            noise = mix(noise, draws(frame)[:, 0], alphas[frame])
            yield noise
