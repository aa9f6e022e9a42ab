"""How a clip moves and holds together, from the differences of its frames.

Frame by frame, so that a long clip takes little more memory than itself.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 256
"""Pixels of the smaller side from which `calm` averages."""


def motion(frames: Tensor) -> float:
    """Mean absolute difference of adjacent frames, 0..255, for frames [F, H, W, 3]."""
    steps = [apart(a, b) for a, b in pairwise(frames)]
    return sum(steps) / len(steps) if steps else 0.0


def change(frames: Tensor) -> float:
    """Mean absolute difference of the last frame to the first, 0..255, for frames [F, H, W, 3].

    Beside `motion` it tells moving on from jumping to and fro, which leads nowhere.
    """
    return apart(frames[0], frames[-1])


def apart(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two pictures."""
    return float((b.float() - a.float()).abs().mean())


def calm(frames: Tensor) -> Tensor:
    """Frames without a GIF's dither: uint8 [F, H, W, 3] averaged over 4x4 pixels, float32.

    Those with a side below 256 pixels are as they were.
    """
    if min(frames.shape[1:3]) < LARGE:
        return frames
    pooled = [F.avg_pool2d(x.permute(2, 0, 1).float(), 4).permute(1, 2, 0) for x in frames]
    return torch.stack(pooled)


def motion_mae(frames: Tensor) -> float:
    """`motion` of calm frames."""
    return motion(calm(frames))


def persistence(x: Tensor) -> float:
    """Mean cosine of successive differences, -1..1, of frames or latents [F, ...].

    Near 1 frames move on steadily; a random walk is at 0, and noise around a still at -1/2. Fewer
    than three frames have none: 0.
    """

    def steps() -> Iterator[Tensor]:
        for a, b in pairwise(x):
            yield (b.float() - a.float()).flatten()

    cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairwise(steps())]
    return sum(cosines) / len(cosines) if cosines else 0.0


def flicker(frames: Tensor) -> float:
    """Temporal flickering score of VBench, (255 - motion) / 255: 1 is a still clip."""
    return 1 - motion(frames) / 255


def colour_histogram(picture: Tensor) -> Tensor:
    """Share of pixels in each of 4x4x4 colour bins: uint8 [H, W, 3] to [64]."""
    r, g, b = (picture // 64).long().flatten(0, 1).unbind(-1)
    return torch.bincount(r * 16 + g * 4 + b, minlength=64) / len(r)


def drift(frames: Tensor) -> Tensor:
    """How far each frame's colours are from frame 1's: L1 of histograms [F], 0..2.

    Says whether the look is kept; unlike pixel differences, it does not count motion.
    """
    histograms = torch.stack([colour_histogram(x) for x in frames])
    return (histograms - histograms[0]).abs().sum(-1)


def appearance_distance(frames: Tensor) -> float:
    """The mean `drift` of the later frames."""
    return float(drift(frames)[1:].mean()) if len(frames) > 1 else 0.0
