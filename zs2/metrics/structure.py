"""Structural similarity of pictures (Wang et al. 2004), and over scales (Wang et al. 2003)."""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

K1, K2 = 0.01, 0.03
WINDOW, SIGMA = 11, 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Pixels of a side at least: less would leave nothing of a window at the last scale."""


def ssim_parts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part without luminance, of pictures [B, C, H, W] in 0..1: each [B, C].

    Gaussian windows that lie inside the picture whole.
    """
    channels = x.shape[1]
    place = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = (-(place**2) / (2 * SIGMA**2)).exp()
    window = window / window.sum()

    def blurred(z: Tensor) -> Tensor:
        kernel = window.expand(channels, 1, 1, -1)
        return F.conv2d(F.conv2d(z, kernel, groups=channels), kernel.mT, groups=channels)

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    both = blurred(x * y) - mean_x * mean_y
    structure = (2 * both + K2**2) / (var_x + var_y + K2**2)
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))


def ms_ssim(frames: Tensor) -> float:
    """Mean MS-SSIM of adjacent uint8 frames [F, H, W, 3], in RGB: 1 for a still clip.

    Five scales by means of 2x2 pixels. Sides below 161 are enlarged to 192 first, as a window
    must fit in the last scale.
    """
    smaller = min(frames.shape[1:3])

    def large() -> Iterator[Tensor]:
        for frame in frames:
            x = frame.permute(2, 0, 1).float() / 255
            if smaller < SMALLEST:
                sides = [round(side * 192 / smaller) for side in x.shape[1:]]
                x = F.interpolate(x[None], sides, mode="bicubic")[0].clamp(0, 1)
            yield x

    return float(torch.stack([scales(a, b) for a, b in pairwise(large())]).mean())


def scales(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of two pictures [C, H, W] in 0..1, the mean over channels."""
    x, y = x[None], y[None]
    factors = []
    for scale, weight in enumerate(WEIGHTS):
        whole, structure = ssim_parts(x, y)
        last = scale == len(WEIGHTS) - 1
        factors.append((whole if last else structure).relu() ** weight)
        # An odd side has half a row of zeros before it, as in pytorch-msssim.
        x, y = (F.avg_pool2d(z, 2, padding=[side % 2 for side in z.shape[2:]]) for z in (x, y))
    return torch.stack(factors).prod(0).mean()
