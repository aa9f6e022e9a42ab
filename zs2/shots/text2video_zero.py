"""Text2Video-Zero (Khachatryan et al. 2023, arXiv 2303.13439), the rival that the paper names.

Frame 1 is sampled to a level near its end at t0, moved by a global translation for each later
frame, noised again to t1, and all frames are sampled on from there, attending to frame 1.
"""

import math
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from zs2.attention import FrameAttention
from zs2.clip_file import OWN
from zs2.denoise import WHOLE
from zs2.pipeline import Pipeline
from zs2.samplers import ddim
from zs2.shot import Branch, Shot
from zs2.shots.frame_by_frame import independent, told_as
from zs2.shots.mask import latent_mask
from zs2.timeline import check_range

STEPS = 50
"""t0 and t1 count the authors' 50 steps, from 0, which is nearly clean, to 49, which is noise."""


@dataclass(frozen=True)
class Text2VideoZero:
    """Motion dynamics, cross-frame attention and background smoothing (sections 3.3 and 3.4).

    Attributes:
        motion: by how much a frame's content moves from the frame before, to the left and upwards,
            in 512ths of the picture.
        t0, t1: where the motion is put in and where sampling goes on, of 50 steps; a clip of
            another number takes the steps nearest to those.
        foreground: what moves by itself, [F, H, W] in 0..1, or a single one for all frames. The
            rest is smoothed: it is drawn to what frame 1, moved, has there. None smooths nothing.
        smoothing: how far it is drawn, in 0..1.

    Raises:
        ValueError: a value out of range, a foreground that does not fit the clip, or another
            sampler than DDIM.
    """

    motion: tuple[float, float] = (12.0, 12.0)
    t0: int = 44
    t1: int = 47
    foreground: Tensor | None = None
    smoothing: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.t0 <= self.t1 < STEPS:
            raise ValueError(
                f"t0 and t1 are steps of {STEPS}, t0 not above t1, and not {self.t0}, {self.t1}"
            )
        if not all(math.isfinite(by) for by in self.motion):
            raise ValueError(f"motion must be two numbers, x and y, not {self.motion}")
        check_range("smoothing", self.smoothing, 1)

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        if shot.sampler is not ddim:
            raise ValueError("Text2Video-Zero samples with ddim: leave the sampler as it is")
        early, late = self.steps(len(shot.levels) - 1)
        noise = independent(shot)
        alone = replace(
            shot,
            frames=1,
            noise=noise,
            attention=FrameAttention(0),
            branches=tuple(Branch(b.weights[:1], b.condition.at(0, 1)) for b in shot.branches),
        )
        # Stopped rather than given fewer levels: the last level is the clean picture.
        run = [shot.start(0, 1), *(m.x for m in islice(WHOLE(alone), late))]
        at_t1, at_t0 = run[early], run[late]  # (B, 1, C, h, w)
        kept = shot.levels[early].alpha_bar / shot.levels[late].alpha_bar
        unused = len(shot.levels)  # the sampler's steps have the noise before it
        front = None if self.foreground is None else latent_mask(pipe, shot, self.foreground)

        def start(start: int, stop: int) -> Tensor:
            frames = range(start, stop)
            fresh = noise(start, stop, unused)
            x = kept**0.5 * self.moved(at_t0, frames) + (1 - kept) ** 0.5 * fresh
            if front is not None:
                # Where frame 1 had its foreground, it has no background to show.
                back = (1 - front[:, start:stop]) * (1 - self.moved(front[:, :1], frames))
                x = x.lerp(self.moved(at_t1, frames), self.smoothing * back)
            return torch.cat((at_t1, x[:, 1:]), dim=1) if start == 0 else x

        return replace(
            shot,
            start=start,
            levels=shot.levels[early:],
            noise=noise,
            attention=FrameAttention(1),
            settings=told_as(shot, "text2video-zero" if self == Text2VideoZero() else OWN),
        )

    def steps(self, steps: int) -> tuple[int, int]:
        """After how many of a clip's steps t1 and t0 are reached: 2 and 5 of 50, as told above."""
        early, late = (round(steps * (STEPS - 1 - t) / STEPS) for t in (self.t1, self.t0))
        early = min(early, steps - 1)  # one step at least remains
        return early, max(late, early + (self.t0 < self.t1))

    def moved(self, x: Tensor, frames: range) -> Tensor:
        """Frame 1 [B, 1, C, h, w] as moved for each of `frames`: [B, f, C, h, w]."""
        across, down = self.motion
        w, h = x.shape[-1], x.shape[-2]
        made = []
        for frame in frames:
            rows, columns = source(h, frame * down), source(w, frame * across)
            made.append(x[..., rows.to(x.device), :][..., columns.to(x.device)])
        return torch.cat(made, dim=1)


def source(size: int, by: float) -> Tensor:
    """Where each of `size` values comes from when all move by `by` 512ths: indices [size].

    The nearest value, and beyond the border its mirror image. The half is the authors': they lay
    out the motion on pixels that are counted by their corner.
    """
    if by == 0:
        return torch.arange(size)
    place = torch.arange(size, dtype=torch.float64) + (by - 0.5) * size / 512
    place = (place + 0.5) % (2 * size)
    place = torch.minimum(place, 2 * size - place) - 0.5
    return place.round().long().clamp(0, size - 1)
