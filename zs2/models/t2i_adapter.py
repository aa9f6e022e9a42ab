"""T2I-Adapter (Mou et al. 2023): features of a control picture, which know no timestep.

Made once a clip, and added to what the UNet makes at the end of each level on its way down.
Attribute names are diffusers', without their first word `adapter`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

FULL, XL, LIGHT = "full_adapter", "full_adapter_xl", "light_adapter"


@dataclass(frozen=True)
class T2IAdapterConfig:
    """The fields of a T2I-Adapter's `config.json`, and what only its tensors tell.

    Attributes:
        kernel: of a full adapter's convolutions beside the 3x3 ones.
        learned_downsampling: by a convolution, and not by averaging.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    num_res_blocks: int = 2
    downscale_factor: int = 8
    adapter_type: str = FULL
    kernel: int = 1
    learned_downsampling: bool = False

    NEUTRAL: ClassVar[dict[str, object]] = {}

    def __post_init__(self) -> None:
        if self.adapter_type not in (FULL, XL, LIGHT):
            raise ValueError(f"adapter_type = {self.adapter_type:.40} is not supported")

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of the features."""
        more = self.channels[-1:] if self.adapter_type == LIGHT else ()
        return self.channels + more


class AdapterResnet(nn.Module):
    """x + convolution(ReLU(convolution(x)))."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.block2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block2(F.relu(self.block1(x)))


class AdapterBlock(nn.Module):
    """One level: smaller, other channels, resnets. A light one's are a quarter as wide inside."""

    def __init__(self, before: int, channels: int, down: bool, config: T2IAdapterConfig) -> None:
        super().__init__()
        light, kernel = config.adapter_type == LIGHT, config.kernel
        inside = channels // 4 if light else channels
        self.downsample: nn.Module = nn.Identity()
        if down:
            self.downsample = nn.AvgPool2d(2, ceil_mode=True)
        if down and config.learned_downsampling:
            self.downsample = nn.Conv2d(before, before, 3, stride=2, padding=1)
        self.in_conv: nn.Module = nn.Identity()
        if light or before != channels:
            size = 1 if light else kernel
            self.in_conv = nn.Conv2d(before, inside, size, padding=size // 2)
        self.resnets = nn.Sequential(
            *(AdapterResnet(inside, 3 if light else kernel) for _ in range(config.num_res_blocks))
        )
        self.out_conv = nn.Conv2d(inside, channels, 1) if light else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.out_conv(self.resnets(self.in_conv(self.downsample(x))))


class T2IAdapter(nn.Module):
    """A control picture becomes a feature map for each level of the UNet's way down."""

    def __init__(self, config: T2IAdapterConfig) -> None:
        super().__init__()
        self.config = config
        before = config.in_channels * config.downscale_factor**2
        self.conv_in: nn.Module = nn.Identity()
        if config.adapter_type != LIGHT:
            self.conv_in = nn.Conv2d(before, config.levels[0], 3, padding=1)
            before = config.levels[0]
        self.body = nn.ModuleList()
        for i, channels in enumerate(config.levels):
            down = i == 2 if config.adapter_type == XL else i > 0
            self.body.append(AdapterBlock(before, channels, down, config))
            before = channels

    def picture(self, pictures: Tensor) -> list[Tensor]:
        """Pictures [B, 3, H, W] in 0..1 to features [B, C, h, w], largest first.

        Raises:
            ValueError: height or width is no multiple of the downscale factor.
        """
        factor = self.config.downscale_factor
        height, width = pictures.shape[-2:]
        if height % factor or width % factor:
            raise ValueError(
                f"this T2I-Adapter takes sides that are multiples of {factor} pixels, "
                f"not {width}x{height}"
            )
        if self.config.in_channels == 1:
            pictures = pictures.mean(1, keepdim=True)
        x = self.conv_in(F.pixel_unshuffle(pictures, factor))
        features = []
        for block in self.body:
            x = block(x)
            features.append(x)
        return features
