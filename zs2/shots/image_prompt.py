"""A picture as a prompt, beside the words: IP-Adapter (Ye et al. 2023)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zs2.clip_file import OWN
from zs2.condition import KeysValues
from zs2.models.clip import CLIPVision
from zs2.models.ip_adapter import IPAdapter, cross_attentions
from zs2.pipeline import Pipeline
from zs2.shot import Branch, Shot
from zs2.timeline import check_range

HEAVIEST = 10.0


@dataclass(frozen=True)
class ImagePrompt:
    """Every cross-attention looks at the picture too, and adds what it finds there.

    Attributes:
        adapter, encoder: as `zs2.checkpoint.ip_adapter.load_ip_adapter` gives them.
        picture: uint8 [H, W, 3]; the middle of it, cropped to a square, is seen.
        weight: of the picture, 0..10: at 0 it changes nothing.

    Raises:
        ValueError: the weight is out of range, the picture is none, or there is one already.
    """

    adapter: IPAdapter
    encoder: CLIPVision
    picture: Tensor
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("image_weight", self.weight, HEAVIEST)
        if self.picture.dtype != torch.uint8 or self.picture.shape[2:] != (3,):
            raise ValueError(
                f"the picture is {self.picture.dtype} {[*self.picture.shape]}, and must be uint8 "
                "[H, W, 3]"
            )

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        if any(branch.condition.pictures for branch in shot.branches):
            raise ValueError("a clip has one picture as a prompt: leave the others out")
        pixels = self.encoder.prepare(self.picture[None])
        tokens = self.adapter.tokens(self.encoder, pixels)  # (2, T, D)
        layers = cross_attentions(pipe.weights.unet)

        def pictures(tokens: Tensor) -> dict[nn.Module, KeysValues]:
            made = self.adapter.keys_values(tokens[None])  # the same for all clips
            return {a: (k, self.weight * v) for a, (k, v) in zip(layers, made, strict=True)}

        seen, unseen = map(pictures, tokens)
        prompt = shot.branches[-1].condition.prompt  # what the others steer away from has none

        def shown(branch: Branch) -> Branch:
            pictures = seen if branch.condition.prompt is prompt else unseen
            return replace(branch, condition=replace(branch.condition, pictures=pictures))

        return replace(
            shot,
            branches=tuple(map(shown, shot.branches)),
            settings=shot.with_settings(
                image=OWN, **{"ip-adapter": OWN, "image-weight": self.weight}
            ),
        )
