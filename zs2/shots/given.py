"""Frames that are given to a feature: checked, and as latents."""

import torch
from torch import Tensor

from zs2.pipeline import Pipeline
from zs2.shot import Shot


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
