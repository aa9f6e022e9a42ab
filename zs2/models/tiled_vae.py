"""A VAE that works through large pictures in tiles, in the memory of one: `--tile PIXELS`.

Tiles overlap by a quarter of their side and are blended there, so that no seam shows. It is not
exact: each group norm sees its tile where it would have seen the whole picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zs2.models.taesd import TAESD, TAESDConfig
from zs2.models.vae import VAE, VAEConfig


@dataclass(frozen=True)
class TiledVAE:
    """A VAE as it is, but in tiles of `side` latents."""

    vae: VAE | TAESD
    side: int

    @property
    def config(self) -> VAEConfig | TAESDConfig:
        return self.vae.config

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.dtype

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B, 4, h, w] to pixels [B, 3, H, W]."""
        return blended(z, self.vae.decode, self.side, self.config.factor, 1)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B, 3, H, W] to the posterior's mean and log variance, [B, 4, h, w]."""

        def encode(part: Tensor) -> Tensor:
            return torch.cat(self.vae.encode(part), dim=1)

        factor = self.config.factor
        mean, logvar = blended(pixels, encode, self.side, 1, factor).chunk(2, dim=1)
        return mean, logvar


def blended(
    x: Tensor, network: Callable[[Tensor], Tensor], side: int, larger: int, smaller: int
) -> Tensor:
    """What a network makes of x [B, C, H, W], tile by tile, H larger / smaller high.

    Args:
        side: of a tile, in the coarser of the two grids.
        larger, smaller: the network's factor; one of them is 1.
    """
    h, w = x.shape[-2] // smaller, x.shape[-1] // smaller
    total: Tensor | None = None
    for top, bottom, rows in tiles(h, side):
        for left, right, columns in tiles(w, side):
            part = x[..., top * smaller : bottom * smaller, left * smaller : right * smaller]
            made = network(part).float()
            if total is None:
                shape = (*made.shape[:2], h * larger, w * larger)
                total = torch.zeros(shape, device=x.device)
            fine = rows.repeat_interleave(larger)[:, None] * columns.repeat_interleave(larger)
            to = (..., slice(top * larger, bottom * larger), slice(left * larger, right * larger))
            total[to] += made * fine.to(x.device)
    assert total is not None
    return total.to(x.dtype)


def tiles(length: int, side: int) -> Iterator[tuple[int, int, Tensor]]:
    """Start, stop and weights [stop - start] of the tiles of a line; everywhere they sum to 1."""
    step = side - side // 4
    count = max(1, -(-(length - side) // step) + 1)
    starts = [min(i * step, max(0, length - side)) for i in range(count)]
    # A ramp at both ends of each tile, which ends nowhere at 0; then shares of their sum.
    ramp = torch.minimum(torch.arange(1, side + 1), torch.arange(side, 0, -1)).clamp(max=side // 4)
    ramps = torch.zeros(count, length)
    for i, start in enumerate(starts):
        ramps[i, start : start + side] = ramp[: min(side, length - start)]
    for start, share in zip(starts, ramps / ramps.sum(0), strict=True):
        stop = min(start + side, length)
        yield start, stop, share[start:stop]
