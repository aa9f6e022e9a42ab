"""Start from a picture or a video instead of noise alone (SDEdit, Meng et al. 2022)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.clip_file import OWN
from zs2.pipeline import Pipeline
from zs2.schedule import Level
from zs2.shot import Shot


@dataclass(frozen=True)
class Init:
    """Noise the frames to a level between, with the clip's own correlated noise, and sample on.

    Attributes:
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        strength: share of the steps that are run, above 0 to 1: how much may change.

    Raises:
        ValueError: the strength leaves no step, the frames do not fit the clip, or a feature before
            this one has chosen another start.
    """

    frames: Tensor
    strength: float = 0.6

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        from_noise(shot, "a picture or video to start from")
        levels = remaining(shot.levels, self.strength)
        z, a = held(pipe, shot, self.frames), levels[0].alpha_bar

        def start(start: int, stop: int) -> Tensor:
            return a**0.5 * z[:, start:stop] + (1 - a) ** 0.5 * shot.noise(start, stop)  # Eq. 3

        told = shot.with_settings(init=OWN, strength=self.strength)
        return replace(shot, start=start, levels=levels, settings=told)


def from_noise(shot: Shot, what: str) -> None:
    """ValueError if a feature has already chosen a start, which `what` would undo."""
    if shot.start is not shot.noise:
        raise ValueError(
            f"{what} must come before any other start of the clip: give it first, once"
        )


def remaining(levels: tuple[Level, ...], strength: float) -> tuple[Level, ...]:
    """The levels of the last steps, `strength` being their share.

    Raises:
        ValueError: strength outside 0..1, or none is left.
    """
    steps = len(levels) - 1
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0..1, got {strength}")
    run = int(steps * strength)
    if run < 1:
        raise ValueError(f"strength {strength} leaves none of {steps} steps: raise one of the two")
    return levels[steps - run :]


def held(pipe: Pipeline, shot: Shot, frames: Tensor) -> Tensor:
    """The latents of given frames, for every frame of the shot: [1, F, C, h, w].

    Raises:
        ValueError: as `check_frames`.
    """
    check_frames(pipe, shot, frames)
    z = pipe.picture(frames)  # (1 or F, C, h, w)
    return z.expand(shot.frames, -1, -1, -1)[None]


def check_frames(pipe: Pipeline, shot: Shot, frames: Tensor) -> None:
    """ValueError unless frames are uint8 of the clip's size, one or F of them."""
    width, height = pipe.pixels(shot)
    if frames.shape[1:] != (height, width, 3) or len(frames) not in (1, shot.frames):
        raise ValueError(
            f"the frames are {[*frames.shape]}, and the clip needs 1 or {shot.frames} of "
            f"{[height, width, 3]}"
        )
    if frames.dtype != torch.uint8:
        raise ValueError(f"the frames are {frames.dtype}, and must be uint8, 0 to 255")
