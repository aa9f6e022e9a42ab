"""How a clip moves and holds together, from the differences of its frames."""

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 256
"""Pixels of the smaller side from which `calm` averages."""


def motion(frames: Tensor) -> float:
    """Mean absolute difference of adjacent frames, 0..255, for uint8 frames [F, H, W, 3]."""
    if len(frames) < 2:
        return 0.0
    return float((frames[1:].float() - frames[:-1].float()).abs().mean())


def change(frames: Tensor) -> float:
    """Mean absolute difference of the last frame to the first, 0..255, for uint8 [F, H, W, 3].

    Beside `motion` it tells moving on from jumping to and fro, which leads nowhere.
    """
    return float((frames[-1].float() - frames[0].float()).abs().mean())


def calm(frames: Tensor) -> Tensor:
    """Frames without a GIF's dither: averaged over 4x4 pixels, float32.

    Those with a side below 256 pixels are as they were.
    """
    if min(frames.shape[1:3]) < LARGE:
        return frames.float()
    return F.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 4).permute(0, 2, 3, 1)


def motion_mae(frames: Tensor) -> float:
    """`motion` of calm frames."""
    return motion(calm(frames))


def persistence(latents: Tensor) -> float:
    """Mean cosine of successive frame differences, -1..1, for latents [F, C, h, w].

    Near 1 frames move on steadily; a random walk is at 0, and noise around a still at -1/2. Fewer
    than three frames have none: 0.
    """
    if len(latents) < 3:
        return 0.0
    steps = (latents[1:] - latents[:-1]).float().flatten(1)  # (F-1, D)
    return float(torch.cosine_similarity(steps[1:], steps[:-1]).mean())


def flicker(frames: Tensor) -> float:
    """Temporal flickering score of VBench, (255 - motion) / 255: 1 is a still clip."""
    return 1 - motion(frames) / 255


def colour_histogram(frames: Tensor) -> Tensor:
    """Share of pixels in each of 4x4x4 colour bins: uint8 [F, H, W, 3] to [F, 64]."""
    bins = (frames // 64).long()
    index = (bins[..., 0] * 16 + bins[..., 1] * 4 + bins[..., 2]).flatten(1)  # (F, H*W)
    counts = torch.zeros(len(frames), 64).scatter_add_(1, index, torch.ones(index.shape))
    return counts / index.shape[1]


def appearance_distance(frames: Tensor) -> float:
    """Mean L1 distance of each later frame's colour histogram to frame 1's, 0..2.

    Says whether the look is kept; unlike pixel differences, it does not count motion.
    """
    if len(frames) < 2:
        return 0.0
    histogram = colour_histogram(frames)
    return float((histogram[1:] - histogram[0]).abs().sum(-1).mean())
