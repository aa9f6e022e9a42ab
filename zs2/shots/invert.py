"""Start from the noise that leads to given frames: DDIM inversion (Song et al. 2021)."""

from dataclasses import dataclass, replace

from torch import Tensor

from zs2.denoise import WHOLE, Whole
from zs2.pipeline import Pipeline
from zs2.samplers import ddim
from zs2.shot import Branch, Shot
from zs2.shots.init import held, remaining


@dataclass(frozen=True)
class Invert:
    """Walk the frames up to a level by the deterministic sampler itself, and sample on from there.

    The way up is told the prompt without guidance. With the same prompt and a guidance of 1 the
    frames come back, up to the step's size; another prompt changes what it says and keeps the rest.

    Attributes:
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        strength: share of the steps that are walked up and down again, above 0 to 1.
        prompt: what the frames show; None takes the clip's own prompt.
        order: how the way up is run.

    Raises:
        ValueError: the strength leaves no step, or the frames do not fit the clip.
    """

    frames: Tensor
    strength: float = 1.0
    prompt: str | None = None
    order: Whole = WHOLE

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        levels = remaining(shot.levels, self.strength)
        z = held(pipe, shot, self.frames)
        z = z.expand(len(shot.settings), -1, -1, -1, -1)  # (B, F, C, h, w)
        told = shot.branches[-1].condition
        if self.prompt is not None:
            told = replace(told, prompt=pipe.encode([self.prompt] * len(z)))
        # The model is never told -1: a clean picture is at the level of step 0.
        rising = (shot.schedule.level(0), *reversed(levels[:-1]))
        up = replace(
            shot,
            start=lambda start, stop: z[:, start:stop],
            branches=(Branch((1.0,) * shot.frames, told),),
            levels=rising,
            sampler=ddim,
        )
        *_, (noise, _) = self.order(up)
        return replace(shot, start=lambda start, stop: noise[:, start:stop], levels=levels)
