"""Weights kept in 8 bits, a scale for each output channel: `--int8`.

A quarter of float32's bytes, or half of fp16's. A layer's weights are made whole when it computes
and forgotten after, so that the models know nothing of it.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from zs2.weights import Weights


class EightBits(nn.Module):
    """How a layer's weight [out, ...] is kept: q int8 of its shape, and a scale [out, 1, ...]."""

    def forward(self, q: Tensor, scale: Tensor) -> Tensor:
        return q * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        largest = weight.float().flatten(1).abs().amax(1)
        scale = (largest / 127).to(weight.dtype).view(-1, *[1] * (weight.ndim - 1))
        # By the scale as it is kept: rounding it to 16 bits then costs nothing more. Only where it
        # is 0 something else divides, and anything will do; fp16 has scales below its normal ones.
        tiny = torch.finfo(torch.float32).tiny
        q = (weight.float() / scale.float().clamp(min=tiny)).round().clamp(-127, 127)
        return q.to(torch.int8), scale


class Int8:
    """An adapter: UNet and text encoders in 8 bits. It changes the given weights, layer by layer,
    so that no second copy is ever there; whatever changes weights comes before it.

    The VAE stays as it is: it is small, and what it loses is seen.
    """

    def __call__(self, weights: Weights) -> Weights:
        for network in (weights.unet, *(tower.encoder for tower in weights.text.towers)):
            for layer in [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
                register_parametrization(layer, "weight", EightBits())
        return replace(weights, settings={**weights.settings, "int8": True})
