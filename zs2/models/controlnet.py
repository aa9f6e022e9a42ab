"""ControlNet (Zhang et al. 2023): a copy of the UNet's way down that also sees a control picture.

What it makes of each feature map is added to the UNet's own. Attribute names are diffusers'.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zs2.attention import Share
from zs2.condition import Condition
from zs2.models.unet import Encoder
from zs2.models.unet_config import UNetConfig


@dataclass(frozen=True)
class ControlNetConfig(UNetConfig):
    """The fields of a ControlNet's `config.json`: a UNet's, and its own.

    Attributes:
        conditioning_embedding_out_channels: of the control picture, at half the size each time.
        global_pool_conditions: what is added is the same all over the picture (`shuffle`).
    """

    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: str = "rgb"
    global_pool_conditions: bool = False

    def __post_init__(self) -> None:
        if (order := self.controlnet_conditioning_channel_order) not in ("rgb", "bgr"):
            raise ValueError(
                f"controlnet_conditioning_channel_order = {order:.20} is not supported"
            )

    @classmethod
    def of(cls, unet: UNetConfig) -> "ControlNetConfig":
        """Of a ControlNet for a UNet: it sees the latents alone, whatever the UNet sees beside, and
        no guidance scale, whatever the UNet is told."""
        shared = {field.name: getattr(unet, field.name) for field in fields(UNetConfig)}
        return cls(**{**shared, "in_channels": unet.out_channels, "time_cond_proj_dim": None})


class PictureEmbedding(nn.Module):
    """A control picture [B, 3, H, W] in 0..1 to features of the latents' size."""

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__()
        widths = config.conditioning_embedding_out_channels
        self.conv_in = nn.Conv2d(config.conditioning_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        self.conv_out = nn.Conv2d(widths[-1], config.block_out_channels[0], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv_in, *self.blocks):
            x = F.silu(convolution(x))
        return self.conv_out(x)


class ControlNet(Encoder):
    """The residuals of a UNet's feature maps, from the latents and a control picture."""

    config: ControlNetConfig

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config)
        self.controlnet_cond_embedding = PictureEmbedding(config)
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(c, c, 1) for c in self.maps)
        width = config.block_out_channels[-1]
        self.controlnet_mid_block = nn.Conv2d(width, width, 1)

    def picture(self, pictures: Tensor) -> tuple[Tensor]:
        """What is made of control pictures [B, 3, H, W] in 0..1 once a clip: [B, C, h, w]."""
        if self.config.controlnet_conditioning_channel_order == "bgr":
            pictures = pictures.flip(1)
        return (self.controlnet_cond_embedding(pictures),)

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition, share: Share, picture: Tensor
    ) -> list[Tensor]:
        """Residuals of all maps of the way down, then of the middle's.

        Args:
            x, t, condition, share: as of the UNet.
            picture: what `picture` made, of each row of x.
        """
        condition = condition.by_row()
        time = self.embed(t, condition, len(x))
        x, skips = self.encode(self.conv_in(x) + picture, time, condition, share, {})
        blocks = (*self.controlnet_down_blocks, self.controlnet_mid_block)
        residuals = [block(h) for block, h in zip(blocks, (*skips, x), strict=True)]
        if self.config.global_pool_conditions:
            residuals = [r.mean((2, 3), keepdim=True) for r in residuals]
        return residuals
