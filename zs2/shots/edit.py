"""Edit a video by an instruction: Instruct-Pix2Pix (Brooks et al. 2023), with shared attention."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.clip_file import OWN
from zs2.pipeline import Pipeline
from zs2.shot import Branch, Shot
from zs2.shots.given import held
from zs2.timeline import check_range, number


@dataclass(frozen=True)
class Edit:
    """Show the model the frames beside the noise, and guide by picture and by text.

    The prediction is e_none + s_image (e_image - e_none) + s_text (e_both - e_image), as the sum of
    three branches: neither, the picture, the picture and the instruction.

    Attributes:
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        image_cfg: guidance by the picture; the text's is the clip's own cfg.

    Raises:
        ValueError: the model takes no picture, there is no guidance, or the frames do not fit.
    """

    frames: Tensor
    image_cfg: float = 1.5

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        check_range("image_cfg", number("image_cfg", self.image_cfg), 1e4)
        config = pipe.weights.unet.config
        if config.in_channels != 2 * config.out_channels:
            raise ValueError("only Instruct-Pix2Pix models edit by instruction: give one as model")
        if len(shot.branches) != 2:
            raise ValueError("editing needs guidance, and happens once: cfg must not be 1")
        # The model was trained with latents that are not scaled.
        z = held(pipe, shot, self.frames) / pipe.weights.vae.config.scaling_factor
        picture = z.expand(len(shot.settings), -1, -1, -1, -1).to(pipe.dtype)  # (B, F, C, h, w)
        negative, prompt = (branch.condition for branch in shot.branches)
        neither = replace(negative, channels=torch.zeros_like(picture))
        image = replace(negative, channels=picture)
        both = replace(prompt, channels=picture)
        text = torch.tensor(shot.branches[1].weights)
        weights = (1 - self.image_cfg + 0 * text, self.image_cfg - text, text)
        branches = zip(weights, (neither, image, both), strict=True)
        return replace(
            shot,
            branches=tuple(Branch(tuple(w.tolist()), told) for w, told in branches),
            settings=shot.with_settings(edit=OWN, **{"image-cfg": self.image_cfg}),
        )
