"""Frames of another size."""

import torch.nn.functional as F
from torch import Tensor


def covering(frames: Tensor, width: int, height: int) -> Tensor:
    """uint8 [F, H, W, 3] scaled until the size is covered, and the middle of that.

    Bicubic and antialiased, as Pillow does it.
    """
    h, w = frames.shape[1:3]
    wide = w * height > h * width  # then the height decides
    sides = (height, w * height // h) if wide else (h * width // w, width)
    x = frames.permute(0, 3, 1, 2).float()
    x = F.interpolate(x, sides, mode="bicubic", antialias=True)
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    x = x[:, :, top : top + height, left : left + width]
    return x.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
