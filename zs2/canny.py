"""Edges of pictures, as OpenCV's Canny finds them (Canny 1986): what a ControlNet for edges reads.

gradient     Sobel, 3x3, of the colour channel that changes most; its size is |dx| + |dy|
thinning     a pixel stays where none beside it, across the edge, changes more
hysteresis   pixels above `high`, and those above `low` that a path of such joins to them
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 2040
"""The size of the steepest gradient: 4 x 255 in x and in y."""


def canny(frames: Tensor, low: float, high: float) -> Tensor:
    """White edges on black.

    Args:
        frames: uint8 RGB [F, H, W, 3].
        low, high: of a gradient's size, 0..2040 with low not above high; 100 and 200 are usual.

    Returns:
        uint8 [F, H, W, 3], 0 or 255.

    Raises:
        ValueError: the thresholds are out of range.
    """
    check_thresholds(low, high)
    made = [_edges(frame, low, high) for frame in frames]
    return torch.stack(made)[..., None].expand(-1, -1, -1, 3) * 255


def check_thresholds(low: float, high: float) -> None:
    """ValueError unless 0 <= low <= high <= 2040."""
    if not 0 <= low <= high <= LARGEST:
        raise ValueError(
            f"canny takes two thresholds in 0..{LARGEST}, the lower one first, got {low},{high}"
        )


def _edges(frame: Tensor, low: float, high: float) -> Tensor:
    """uint8 [H, W], 0 or 1, of one frame [H, W, 3]."""
    height, width = frame.shape[:2]
    x = frame.permute(2, 0, 1)[:, None].float()  # (3, 1, H, W)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device)
    kernels = torch.stack([sobel, sobel.T])[:, None]
    gradient = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernels)  # (3, 2, H, W)
    most = gradient.abs().sum(1).max(0)
    dx, dy = gradient.gather(0, most.indices.expand(1, 2, -1, -1))[0]
    padded = F.pad(most.values, (1, 1, 1, 1))  # nothing changes beyond the border

    def beside(down: int, right: int) -> Tensor:
        """The sizes of the pixels that lie so far from each."""
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    size, slope = beside(0, 0), math.tan(math.pi / 8)
    flat = dy.abs() < slope * dx.abs()
    steep = dy.abs() > dx.abs() / slope
    falling = (dx < 0) != (dy < 0)
    # On a plateau the first of its pixels is the edge: the diagonals have none, as OpenCV's.
    across = (size > beside(0, -1)) & (size >= beside(0, 1))
    along = (size > beside(-1, 0)) & (size >= beside(1, 0))
    down = (size > beside(-1, -1)) & (size > beside(1, 1))
    up = (size > beside(-1, 1)) & (size > beside(1, -1))
    diagonal = torch.where(falling, up, down)
    thin = torch.where(flat, across, torch.where(steep, along, diagonal))
    thin &= size > math.floor(low)
    return _joined(thin & (size > math.floor(high)), thin)


def _joined(strong: Tensor, weak: Tensor) -> Tensor:
    """uint8 [H, W]: 1 where steps between neighbours in `weak` lead to a pixel of `strong`."""
    width = weak.shape[1] + 2
    around = torch.tensor([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    found, left = (F.pad(x, (1, 1, 1, 1)).flatten() for x in (strong, weak & ~strong))
    front = found.nonzero()
    while len(front):
        near = (front + around.to(front.device)).flatten()
        front = near[left[near]].unique()[:, None]
        found[front], left[front] = True, False
    return found.unflatten(0, (-1, width))[1:-1, 1:-1].byte()
