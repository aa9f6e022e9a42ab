"""LPIPS, how unlike two pictures look (Zhang et al. 2018, arXiv 1801.03924).

The distance of a classifier's feature maps, each position's channels normalised and weighted by
what people said. Attribute paths are the keys of the package `lpips`.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

Convolution = tuple[int, int, int, int]
"""Channels, kernel, stride and padding."""
Slice = tuple[int, tuple[Convolution, ...]]
"""The kernel of a pooling before it, or 0, and its convolutions; its end is looked at."""

ALEXNET: tuple[Slice, ...] = (
    (0, ((64, 11, 4, 2),)),
    (3, ((192, 5, 1, 2),)),
    (3, ((384, 3, 1, 1),)),
    (0, ((256, 3, 1, 1),)),
    (0, ((256, 3, 1, 1),)),
)
VGG16: tuple[Slice, ...] = tuple(
    (2 * (i > 0), ((width, 3, 1, 1),) * count)
    for i, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)))
)
SMALLEST = 64
"""Pixels of a side at least: less leaves nothing of a picture at the last slice of AlexNet."""


class LPIPS(nn.Module):
    """The metric with one of its classifiers."""

    def __init__(self, slices: tuple[Slice, ...]) -> None:
        super().__init__()
        self.scaling_layer = Scaling()
        self.net = nn.Module()
        index, channels = 0, 3
        for i, (pool, convolutions) in enumerate(slices):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if pool:
                layers[str(index)] = nn.MaxPool2d(pool, 2)
                index += 1
            for width, kernel, stride, padding in convolutions:
                layers[str(index)] = nn.Conv2d(channels, width, kernel, stride, padding)
                layers[str(index + 1)] = nn.ReLU()
                index, channels = index + 2, width
            self.net.add_module(f"slice{i + 1}", nn.Sequential(layers))
            self.add_module(f"lin{i}", Weighting(channels))

    def features(self, x: Tensor) -> list[Tensor]:
        """Of pictures [B, 3, H, W] in -1..1, each slice's maps, normalised over channels."""
        x, found = self.scaling_layer(x), []
        for layers in self.net.children():
            x = layers(x)
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Of two pictures' features: [B]."""
        weightings = (getattr(self, f"lin{i}") for i in range(len(a)))
        parts = [w((x - y).square()) for w, x, y in zip(weightings, a, b, strict=True)]
        return torch.stack([part.mean((1, 2, 3)) for part in parts]).sum(0)


class Scaling(nn.Module):
    """Pictures in -1..1 as the classifiers were trained."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class Weighting(nn.Module):
    """One weight for each channel; what was a dropout before it is none any more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = self.model(x)
        return weighted


@torch.inference_mode()
def lpips(model: LPIPS, frames: Tensor) -> float:
    """Mean LPIPS of adjacent uint8 frames [F, H, W, 3]: 0 for a still clip."""
    scaled = (frame.permute(2, 0, 1)[None] / 127.5 - 1 for frame in frames)
    found = pairwise(model.features(x) for x in scaled)
    return float(torch.cat([model.distance(a, b) for a, b in found]).mean())
