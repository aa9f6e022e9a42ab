"""More frames in the same time: in-between ones, beside which the others stay as they were.

A frame between eps^i and eps^{i+1}, whose angle is theta, starts from their arc,

    eps = (sin((1 - t) theta) eps^i + sin(t theta) eps^{i+1}) / sin(theta),

which is N(0, I) as they are. Its momentum is 1: it takes the running average as frame i left it,
K' = K'_i, and adds nothing (Eq. 2). So frame i + 1 finds what it would have found without it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.attention import FrameAttention
from zs2.draws import Draws, NoiseModel
from zs2.noise_loop import LoopNoise
from zs2.pipeline import Pipeline
from zs2.schedule import Level
from zs2.shot import Branch, Noise, Shot
from zs2.timeline import whole

Way = Callable[[Tensor, Tensor, float], Tensor]
"""What lies at a share of the way from one tensor to another."""


@dataclass(frozen=True)
class Between:
    """`times` as many steps from frame to frame; it comes last of the features.

    F frames become times (F - 1) + 1, or times F of a loop, which is closed by frames as well.

    Raises:
        ValueError: times is below 2, or the clip is a still.
    """

    times: int = 2

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        times = whole("fps-mult", self.times, 2)
        if shot.frames < 2:
            raise ValueError("there is nothing between the frames of a still: ask for 2 or more")
        loop = isinstance(shot.noise.model, LoopNoise)
        frames = times * shot.frames if loop else times * (shot.frames - 1) + 1
        own = shot.noise.own
        noise = Noise(
            Arcs(shot.noise.model, times, shot.frames),
            shot.noise.seeds,
            frames,
            shot.noise.shape,
            shot.noise.device,
            shot.noise.rng,
            None if own is None else filled(own, times, loop, arc),
        )

        def lines(values: Tensor) -> Tensor:
            return filled(values, times, loop, torch.lerp)

        def start(start: int, stop: int) -> Tensor:
            first, last = start // times, -(-(stop - 1) // times)
            ends = [shot.start(first, min(last + 1, shot.frames))]
            ends += [shot.start(0, 1)] if last == shot.frames else []  # the end of a loop
            made = filled(torch.cat(ends, dim=1), times, False, arc)
            return made[:, start - first * times : stop - first * times]

        def correct(x0: Tensor, start: int, stop: int, level: Level) -> Tensor:
            assert shot.correct is not None
            known = []  # what is known of frame i is, up to the next one
            for n, i in enumerate(j // times for j in range(start, stop)):
                known.append(shot.correct(x0[:, n : n + 1], i, i + 1, level))
            return torch.cat(known, dim=1)

        mu: list[float] = []
        momenta = shot.attention.momenta(shot.frames)
        for given in () if momenta is None else momenta.tolist():
            mu += [given, *[1.0] * (times - 1)]
        return replace(
            shot,
            frames=frames,
            start=noise if shot.start is shot.noise else start,
            noise=noise,
            branches=tuple(
                Branch(
                    tuple(lines(torch.tensor([b.weights], dtype=torch.float64))[0].tolist()),
                    b.condition.over_frames(lines),
                )
                for b in shot.branches
            ),
            attention=FrameAttention(tuple(mu[:frames]) or 0),
            correct=None if shot.correct is None else correct,
            settings=shot.with_settings(**{"fps-mult": times}),
        )


@dataclass(frozen=True)
class Arcs:
    """The noise of a model's F frames, and arcs between them."""

    model: NoiseModel
    times: int
    frames: int

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        first = before = None
        for frame in self.model.generate(draws, self.frames):
            yield from self.up_to(before, frame)
            yield frame
            before = frame
            first = frame if first is None else first
        if frames == self.times * self.frames and first is not None:
            yield from self.up_to(before, first)

    def up_to(self, before: Tensor | None, frame: Tensor) -> Iterator[Tensor]:
        """The arc (B, V) from a frame to the next, without its ends."""
        if before is not None:
            for k in range(1, self.times):
                yield arc(before[:, None], frame[:, None], k / self.times)[:, 0]


def arc(a: Tensor, b: Tensor, share: float) -> Tensor:
    """A point of the arcs from a to b, each [B, 1, ...]."""
    x, y = (v.flatten(1).double() for v in (a, b))
    angle = torch.cosine_similarity(x, y, dim=1).clamp(-1, 1).arccos()[:, None]  # (B, 1)
    sine = angle.sin()
    on_arc = (((1 - share) * angle).sin() * x + (share * angle).sin() * y) / sine
    point = torch.where(sine > 1e-4, on_arc, x.lerp(y, share))  # too near for an arc
    return point.view(a.shape).to(a.dtype)


def filled(values: Tensor, times: int, loop: bool, between: Way) -> Tensor:
    """Values [B, F, ...] with others between each two, and after the last if that is a loop."""
    made = []
    frames = values.shape[1]
    for i in range(frames):
        made.append(values[:, i : i + 1])
        if i + 1 < frames or loop:
            after = (i + 1) % frames
            ends = values[:, i : i + 1], values[:, after : after + 1]
            made += [between(*ends, k / times) for k in range(1, times)]
    return torch.cat(made, dim=1)
