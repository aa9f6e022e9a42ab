"""Change only a part of given frames: the rest comes back as it was."""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from zs2.clip_file import OWN
from zs2.pipeline import Pipeline
from zs2.schedule import Level
from zs2.shot import Shot
from zs2.shots.given import held
from zs2.timeline import check_range


@dataclass(frozen=True)
class Mask:
    """Outside the mask every step's clean latents are the original's.

    The sampler then walks there from the noised original back to the original itself, whichever
    sampler it is, and what is inside sees a whole picture at every step. With a strength the last
    steps are free everywhere, so that what was held there settles in: beside `Init` these are the
    two clocks of Time-to-Move (Singer et al. 2025).

    Attributes:
        frames: the original, uint8 [F, H, W, 3] of the clip's size, or a single one.
        mask: what may change, [F, H, W], or a single one: where it is above 1/2. A latent pixel
            changes if any of its pixels may.
        strength: share of the clip's steps, the last ones, that nothing is held in, 0..1.

    Raises:
        ValueError: frames or mask do not fit the clip, or it has a mask already.
    """

    frames: Tensor
    mask: Tensor
    strength: float = 0.0

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        check_range("mask-strength", self.strength, 1)
        if shot.correct is not None:
            raise ValueError("a clip has one mask: join the two to one")
        z = held(pipe, shot, self.frames)  # (1, F, C, h, w)
        mask = latent_mask(pipe, shot, self.mask)

        # Of all steps: Init may leave out the first ones, before this or after.
        run = int(self.strength * steps_asked(shot))
        free = shot.levels[-1 - run :] if run else ()

        def correct(x0: Tensor, start: int, stop: int, level: Level) -> Tensor:
            return x0 if level in free else z[:, start:stop].lerp(x0, mask[:, start:stop])

        told = shot.with_settings(mask=OWN, **{"mask-strength": self.strength or None})
        return replace(shot, correct=correct, settings=told)


def steps_asked(shot: Shot) -> int:
    """How many steps a clip was asked to have, before features left some out."""
    steps = shot.settings[0]["steps"]
    assert isinstance(steps, int)
    return steps


def latent_mask(pipe: Pipeline, shot: Shot, mask: Tensor) -> Tensor:
    """A mask of pixels [1 or F, H, W] as one of latent pixels, 0 or 1: [1, F, 1, h, w] float32.

    Raises:
        ValueError: it is not of the clip's size, or neither one nor F of them.
    """
    width, height = pipe.pixels(shot)
    if mask.shape[1:] != (height, width) or len(mask) not in (1, shot.frames):
        raise ValueError(
            f"the mask is {[*mask.shape]}, and the clip needs 1 or {shot.frames} of "
            f"{[height, width]}"
        )
    may = (mask.to(pipe.device) > 0.5).float()[:, None]  # (1 or F, 1, H, W)
    return F.max_pool2d(may, pipe.multiple).expand(shot.frames, -1, -1, -1)[None]
