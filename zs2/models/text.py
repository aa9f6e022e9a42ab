"""Prompts become what the UNet is told: one CLIP text encoder, or SDXL's two."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zs2.condition import Condition
from zs2.models.clip import CLIPText
from zs2.models.layers import waves
from zs2.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Tower:
    """A CLIP text encoder and the words that it knows."""

    tokenizer: Tokenizer
    encoder: CLIPText


@dataclass(frozen=True)
class Text:
    """The text encoders of a checkpoint.

    SD 1.x and 2.x have one and take its last layer, normed. SDXL has two: it takes the layer before
    the last of both, not normed, side by side, and the second's pooled prompt (Podell et al. 2023).

    Attributes:
        towers: one or two.
        waves: channels that each of the picture's six sizes is told in, `addition_time_embed_dim`
            of the UNet.
    """

    towers: tuple[Tower, ...]
    waves: int = 0

    def __call__(self, prompts: Sequence[str], size: tuple[int, int]) -> Condition:
        """What B prompts say, for pictures of (width, height) pixels."""
        hidden = []
        for tower in self.towers:
            text = tower.encoder.text_model
            ids = tower.tokenizer.encode(list(prompts)).to(tower.encoder.device)
            layers = text.layers(ids)
            if len(self.towers) == 1:
                return Condition(text.final_layer_norm(layers[-1]))
            hidden.append(layers[-2])
        pooled = tower.encoder.pooled(layers[-1], ids)
        return Condition(torch.cat(hidden, dim=-1), added=self._added(pooled, size))

    def nothing(self, clips: int, size: tuple[int, int]) -> Condition:
        """What guidance steers away from where no negative prompt is given.

        SDXL learnt zeros for it, and diffusers gives it those; A1111 and ComfyUI encode "" instead,
        which is a negative prompt like any other here.
        """
        empty = self([""] * clips, size)
        if len(self.towers) == 1:
            return empty
        zeros = torch.zeros_like(empty.prompt)
        pooled = zeros.new_zeros(clips, self.towers[-1].encoder.config.projection_dim)
        return Condition(zeros, added=self._added(pooled, size))

    def _added(self, pooled: Tensor, size: tuple[int, int]) -> Tensor:
        """The pooled prompt [B, P], and original size, crop and target size, as [B, P + 6*waves].

        The original and the target are the picture itself, and nothing is cropped.
        """
        width, height = size
        sizes = torch.tensor([height, width, 0, 0, height, width], device=pooled.device)
        told = waves(sizes, self.waves).flatten().to(pooled.dtype)
        return torch.cat([pooled, told.expand(len(pooled), -1)], dim=-1)
