"""ESRGAN's upscalers: the deep one of dense blocks (RRDB), and the compact one for video.

Wang et al., ESRGAN (2018) and Real-ESRGAN (2021). Attribute names are the keys of BasicSR's files.
Pixels are 0..1 here.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every leaky ReLU
SHARE = 0.2  # of a block's result that is added to what came in


@dataclass(frozen=True)
class RRDBConfig:
    """The deep upscaler: `blocks` blocks of `width` channels, each dense layer adding `growth`.

    Attributes:
        scale: 4; 2 and 1 first put 2x2 and 4x4 pixels into channels, and then do the same.
    """

    scale: int = 4
    width: int = 64
    growth: int = 32
    blocks: int = 23


@dataclass(frozen=True)
class CompactConfig:
    """The compact upscaler: `layers` inner convolutions of `width` channels."""

    scale: int = 4
    width: int = 64
    layers: int = 16


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 5):
            before = width + (i - 1) * growth
            self.add_module(f"conv{i}", nn.Conv2d(before, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = x
        for i in range(1, 5):
            convolution = self.get_submodule(f"conv{i}")
            maps = torch.cat([maps, F.leaky_relu(convolution(maps), SLOPE)], dim=1)
        return x + SHARE * self.conv5(maps)


class RRDB(nn.Module):
    """Three dense blocks, and a path around them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The deep upscaler."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        self.fold = 4 // config.scale
        width = config.width
        self.conv_first = nn.Conv2d(3 * self.fold**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] to [B, 3, scale H, scale W]."""
        height, width = x.shape[-2:]
        # Sides that cannot be folded grow by repeated pixels, which are cut off again.
        x = F.pad(x, (0, -width % self.fold, 0, -height % self.fold), mode="replicate")
        x = self.conv_first(F.pixel_unshuffle(x, self.fold))
        x = x + self.conv_body(self.body(x))
        for convolution in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))
        return x[..., : height * self.config.scale, : width * self.config.scale]


class CompactNet(nn.Module):
    """The compact upscaler: it adds to the picture whose pixels were repeated."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        width, scale = config.width, config.scale
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(config.layers):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] to [B, 3, scale H, scale W]."""
        scale = self.config.scale
        larger = F.interpolate(x, scale_factor=scale, mode="nearest")
        return F.pixel_shuffle(self.body(x), scale) + larger


Upscaler = RRDBNet | CompactNet


def upscale(net: Upscaler, picture: Tensor, tile: int = 256, overlap: int = 16) -> Tensor:
    """A picture enlarged in tiles, so that it needs the memory of one.

    Args:
        picture: [3, H, W] in 0..1, on the net's device.
        tile: side of a tile that is kept, in pixels of the picture.
        overlap: what a tile sees beyond that on each side. RRDB sees further, but hardly.

    Returns:
        [3, scale H, scale W] in 0..1, float32.
    """
    s = net.config.scale
    height, width = picture.shape[1:]
    first = next(net.parameters())
    made = torch.empty(3, s * height, s * width, device=picture.device)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            # The tile with its surroundings, as far as there are some.
            t, le = max(0, top - overlap), max(0, left - overlap)
            bottom, right = min(height, top + tile), min(width, left + tile)
            seen = picture[:, t : bottom + overlap, le : right + overlap]
            large = net(seen[None].to(first.dtype))[0].float()
            inner = large[:, s * (top - t) : s * (bottom - t), s * (left - le) : s * (right - le)]
            made[:, s * top : s * bottom, s * left : s * right] = inner
    return made.clamp(0, 1)
