"""Start from the noise that leads to given frames: DDIM inversion (Song et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from zs2.clip_file import OWN
from zs2.denoise import WHOLE, Order
from zs2.pipeline import Pipeline
from zs2.samplers import Denoise, Fresh, Steps
from zs2.schedule import Level, remaining
from zs2.shot import Branch, Shot
from zs2.shots.given import held


@dataclass(frozen=True)
class Invert:
    """Walk the frames up to a level by DDIM run backwards, and sample on from there.

    The way up is told the prompt without guidance. With the same prompt and a guidance of 1 the
    frames come back; another prompt changes what it says and keeps the rest.

    Attributes:
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        strength: share of the steps that are walked up and down again, above 0 to 1.
        prompt: what the frames show; None takes the clip's own prompt.
        rounds: how often each step up is corrected; more come nearer to the frames.
        order: how the way up is run.

    Raises:
        ValueError: no round, the strength leaves no step, the frames do not fit the clip, or a
            feature before this one has chosen another start.
    """

    frames: Tensor
    strength: float = 1.0
    prompt: str | None = None
    rounds: int = 3
    order: Order = WHOLE

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        shot.check_start("frames to invert")
        levels = remaining(shot.levels, self.strength)
        z = held(pipe, shot, self.frames)
        z = z.expand(len(shot.settings), -1, -1, -1, -1)  # (B, F, C, h, w)
        told = shot.branches[-1].condition
        if self.prompt is not None:
            told = pipe.encode([self.prompt] * len(z), pipe.pixels(shot))
        up = replace(
            shot,
            start=lambda start, stop: z[:, start:stop],
            branches=(Branch((1.0,) * shot.frames, told),),
            levels=levels[::-1],
            sampler=self.rise,
            correct=None,  # it knows the clean latents, and this ends at noise
        )
        noise = torch.cat([m.x for m in self.order(up) if m.finished], dim=1)
        return replace(
            shot,
            start=lambda start, stop: noise[:, start:stop],
            levels=levels,
            settings=shot.with_settings(init=OWN, strength=self.strength, invert=True),
        )

    def rise(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
        """DDIM backwards: the y from which its step leads to x.

        That step takes the noise that is seen in y, which is not known yet: begin with what is seen
        in x, and look again from each y. (Fixed points: Pan et al. 2023, AIDI. They average, since
        where the model is steep the rounds swing to and fro.)
        """
        for here, there in pairwise(levels):
            y, noise = x, None
            for _ in range(self.rounds):
                _, eps = denoise(y, there)
                noise = eps if noise is None else noise.lerp(eps, 0.7)
                x0 = (x - (1 - here.alpha_bar) ** 0.5 * noise) / here.alpha_bar**0.5
                y = there.alpha_bar**0.5 * x0 + (1 - there.alpha_bar) ** 0.5 * noise
            x = y
            yield x, x0
