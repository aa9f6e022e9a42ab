"""Layers that several networks share. Attribute names are the checkpoint's keys."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zs2.kernels.group_norm import group_norm_silu


class GroupNorm(nn.GroupNorm):
    """torch's group norm, with what stands before and after it in every resnet."""

    def forward(self, x: Tensor, silu: bool = False, add: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], plus `add` [B, C], normed, then through SiLU."""
        return group_norm_silu(
            x, self.weight, self.bias, self.num_groups, self.eps, silu=silu, add=add
        )


class ResnetBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with the timestep added between and a skip."""

    def __init__(
        self, in_channels: int, out_channels: int, *, groups: int, eps: float, time: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time:
            self.time_emb_proj = nn.Linear(time, out_channels)
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = (
            nn.Conv2d(in_channels, out_channels, 1)
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] and the timestep's embedding [B, time] (already through SiLU)."""
        h, add = self.norm1(x, silu=True), None
        if time is None:
            h = self.conv1(h)
        else:
            # The convolution's bias and the timestep are one addition, which is the norm's.
            h = F.conv2d(h, self.conv1.weight, padding=1)
            add = self.conv1.bias + self.time_emb_proj(time)
        h = self.conv2(self.norm2(h, silu=True, add=add))
        return self.conv_shortcut(x) + h


class Downsample(nn.Module):
    """Halves height and width. The UNet pads all sides, the VAE right and bottom only."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour resize to (height, width), then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


def waves(values: Tensor, channels: int) -> Tensor:
    """Numbers [..] as cosines, then sines, of `channels` / 2 frequencies each: [.., channels]."""
    half = channels // 2
    frequency = torch.exp(torch.arange(half, device=values.device) * (-math.log(10000) / half))
    angle = values.float()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def scale_waves(scales: Tensor, channels: int) -> Tensor:
    """Guidance scales [..] as a distilled model is told them (Meng et al. 2023): [.., channels].

    Sines, then cosines, of 1000 (scale - 1); the last frequency is exactly 1/10000.
    """
    half = channels // 2
    frequency = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
    angle = 1000 * (scales.float() - 1)[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, upcast: bool = False) -> Tensor:
    """Multi-head attention, Eq. 7.

    Args:
        q: [B, N, C]. k, v: [B, M, C].
        heads: number of heads, dividing C.
        upcast: compute in float32; some checkpoints overflow in fp16 without it.

    Returns:
        [B, N, C].
    """
    dtype = q.dtype
    if upcast:
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, N, d)
    y = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(q.shape[-1]))
    return y.transpose(1, 2).flatten(2).to(dtype)
