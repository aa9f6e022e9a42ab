"""Other ways to share attention and noise, tried beside the paper's: docs/coherence.md.

    own      keys and values of the frame itself beside the running average's
    first    those of frame 1 beside the running average's
    window   the mean of the last four frames in place of the running average
    adain    each channel's mean and spread brought to frame 1's, of queries, keys and values
    coarse   the average at the smallest feature maps only, self-attention elsewhere
    fine     at all but the smallest
    early    in the noisier half of the timesteps, self-attention afterwards
    late     in the other half
    low      the noise of later frames takes its low frequencies, up to a quarter, from frame 1's
             (FreeInit, Wu et al. 2023, arXiv 2312.07537, has a filter over time too)
    pan      the camera's warp of the noise, by a pixel a frame

None is part of zs2: what wins belongs there, and the others are kept to be measured again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zs2.attention import FrameAttention, Share
from zs2.condition import Condition
from zs2.draws import Draws, NoiseModel
from zs2.pipeline import Feature, Pipeline
from zs2.shot import Model, Noise, Shot
from zs2.shots.camera import Camera

COARSE = 64  # positions of a map of 8x8, the small model's smallest
WINDOW = 4


class Shared(Share):
    """A way to share in all layers and steps: what K and V are of, [B, F, N, C], and of which h."""

    def __init__(self, share: Share, t: Tensor) -> None:
        super().__init__(share.mu, None, False)
        self.t = t

    def __call__(self, x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        assert self.mu is not None
        h, momentum = super().__call__(x, norm)
        frames = len(self.mu)
        own, found = self.shared(h.unflatten(0, (-1, frames)), momentum.unflatten(0, (-1, frames)))
        return own.flatten(0, 1), found.flatten(0, 1)

    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """What Q, and what K and V are projected from, of h and its running average."""
        raise NotImplementedError


class Own(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, torch.cat((h, momentum), dim=2)


class First(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, torch.cat((h[:, :1].expand_as(h), momentum), dim=2)


class Window(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        last = [h[:, max(0, i + 1 - WINDOW) : i + 1].mean(1) for i in range(h.shape[1])]
        return h, torch.stack(last, dim=1)


class AdaIN(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        def styled(x: Tensor) -> Tensor:
            mean, std = x.mean(2, keepdim=True), x.std(2, keepdim=True) + 1e-5
            return (x - mean) / std * std[:, :1] + mean[:, :1]

        return styled(h), styled(momentum)


class Coarse(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, momentum if h.shape[2] <= COARSE else h


class Fine(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, momentum if h.shape[2] > COARSE else h


class Early(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, momentum if self.t >= 500 else h


class Late(Shared):
    def shared(self, h: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return h, momentum if self.t < 500 else h


@dataclass(frozen=True)
class Sharing:
    """A model whose frames share in another way."""

    model: Model
    how: Callable[[Share, Tensor], Share]

    def prepare(self, condition: Condition) -> Condition:
        return self.model.prepare(condition)

    def modules(self) -> Iterator[nn.Module]:
        return self.model.modules()

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, share: Share) -> Tensor:
        return self.model(x, t, condition, self.how(share, t))


@dataclass(frozen=True)
class Attend:
    """The feature that shares so."""

    how: Callable[[Share, Tensor], Share]

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        return replace(shot, model=Sharing(shot.model, self.how))


@dataclass(frozen=True)
class Look:
    """A feature: momentum attention, whatever another feature has chosen."""

    attention: FrameAttention

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        return replace(shot, attention=self.attention)


@dataclass(frozen=True)
class LowNoise:
    """A noise model whose frames share their low frequencies with frame 1."""

    model: NoiseModel
    shape: tuple[int, int, int]
    cutoff: float = 0.25  # of the highest frequency

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        rows, columns = (torch.fft.fftfreq(n).abs() * 2 for n in self.shape[1:])
        low = (rows[:, None] ** 2 + columns**2).sqrt() <= self.cutoff
        first: Tensor | None = None
        for noise in self.model.generate(draws, frames):
            waves = torch.fft.fft2(noise.unflatten(1, self.shape))
            first = waves if first is None else first
            mixed = torch.fft.ifft2(torch.where(low, first, waves)).real
            yield mixed.flatten(1)


@dataclass(frozen=True)
class Low:
    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        old = shot.noise
        model = LowNoise(old.model, old.shape)
        noise = Noise(model, old.seeds, shot.frames, old.shape, old.device, old.rng)
        return replace(shot, start=noise, noise=noise)


TRIED: dict[str, Feature] = {
    **{
        name: Attend(how)
        for name, how in {
            "own": Own,
            "first": First,
            "window": Window,
            "adain": AdaIN,
            "coarse": Coarse,
            "fine": Fine,
            "early": Early,
            "late": Late,
        }.items()
    },
    "low": Low(),
    "pan": Camera(x=1),
}
