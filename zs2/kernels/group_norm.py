"""GroupNorm and SiLU of channels-last maps, with what is added before: y = silu(norm(x + add)).

    y = group_norm_silu(x, weight, bias, groups)
    y = group_norm_silu(x, weight, bias, groups, add=time)     # [B, C], the same at every position

On a GPU torch's group norm copies channels-last maps to channels-first ones and back, and the sums
before it and the SiLU after it are passes of their own. Here the map is read twice and written
once, 3 V values where the separate passes move 9 or more. Needs `momentum_scan.py`
beside it, torch, and on a GPU triton.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zs2.kernels.momentum_scan import on_gpu, traced, triton

TILE = 2048
"""Values of a tile, 16 a thread of its 4 warps."""
PARTS = 64
"""Programs, at most, that sum up one map."""


def group_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float = 1e-5,
    silu: bool = True,
    add: Tensor | None = None,
) -> Tensor:
    """GroupNorm (Wu and He 2018) of x + add over `groups` groups of channels, then SiLU.

    Args:
        x: [B, C, H, W].
        weight, bias: the norm's, [C].
        silu: whether x sigmoid(x) follows.
        add: [B, C], as a timestep and a convolution's bias.

    Returns:
        [B, C, H, W] in x's dtype and layout. Sums are float32, of float64 maps float64.

    Raises:
        ValueError: shapes do not fit.
    """
    batch, channels = x.shape[:2]
    if x.ndim != 4 or weight.shape != (channels,) or bias.shape != (channels,):
        raise ValueError(
            f"x is {[*x.shape]}, weight {[*weight.shape]} and bias {[*bias.shape]}: "
            "expected [B, C, H, W], [C] and [C]"
        )
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    if add is not None and add.shape != (batch, channels):
        raise ValueError(f"add is {[*add.shape]}, expected {[batch, channels]}")
    seen = traced(x, weight, bias, *([] if add is None else [add]))
    fits = x.is_contiguous(memory_format=torch.channels_last) and 0 < x[:1].numel() < 2**31
    if on_gpu(x) and fits and not seen and x.dtype != torch.float64:
        return _triton_group_norm(x, weight, bias, groups, eps, silu, add)
    return group_norm_silu_reference(x, weight, bias, groups, eps, silu, add)


def group_norm_silu_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float = 1e-5,
    silu: bool = True,
    add: Tensor | None = None,
) -> Tensor:
    """The definition, in torch's own steps."""
    if add is not None:
        x = x + add[:, :, None, None]
    # On a CPU, small 16-bit maps in channels_last go value by value, which takes up to eight times
    # as long as a copy whose channels are contiguous and the norm of that.
    if x.device.type == "cpu" and x.itemsize == 2 and x.shape[-2:].numel() < 1024:
        x = x.contiguous()
    y = F.group_norm(x, groups, weight, bias, eps)
    return F.silu(y, inplace=True) if silu else y


def _triton_group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool,
    add: Tensor | None,
) -> Tensor:
    batch, channels, height, width = x.shape
    positions = height * width
    # A tile's sides are powers of 2: SD's channels are multiples of 64, so no lane is idle.
    columns = math.gcd(channels, 64)
    rows = min(TILE // columns, triton.next_power_of_2(positions))
    tiles = triton.cdiv(positions, rows)
    steps = triton.cdiv(tiles, PARTS)
    parts = triton.cdiv(tiles, steps)
    y = torch.empty_like(x)
    sums = torch.empty((batch, parts, 2, channels), dtype=torch.float32, device=x.device)
    scales = torch.empty((batch, 2, channels), dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        _sum_kernel[(parts, channels // columns, batch)](
            x,
            sums,
            positions,
            channels,
            STEPS=steps,
            ROWS=rows,
            COLUMNS=columns,
            enable_fp_fusion=True,
        )
        _scale_kernel[(groups, batch)](
            x,
            sums,
            weight.contiguous(),
            bias.contiguous(),
            None if add is None else add.contiguous(),
            scales,
            positions,
            channels,
            parts,
            eps,
            SIZE=channels // groups,
            COLUMNS=triton.next_power_of_2(channels // groups),
            PARTS=triton.next_power_of_2(parts),
            num_warps=1,
            enable_fp_fusion=True,
        )
        _apply_kernel[(tiles, channels // columns, batch)](
            x,
            scales,
            y,
            positions,
            channels,
            SILU=silu,
            ROWS=rows,
            COLUMNS=columns,
            enable_fp_fusion=True,
        )
    return y


if triton is not None:
    import triton.language as tl

    @triton.jit
    def _sum_kernel(
        x, sums, positions, channels, STEPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
    ):
        """Sums of each channel and of its squares, over a part of the positions.

        Of x less its value at the first position: where the mean is large against the deviation,
        squares of x itself would leave nothing of the variance.
        """
        part, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
        c = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        x += b * positions * channels
        first = tl.load(x + c).to(tl.float32)
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        squares = tl.zeros((ROWS, COLUMNS), tl.float32)
        for step in tl.range(0, STEPS, num_stages=3):
            n = ((part * STEPS + step) * ROWS + tl.arange(0, ROWS))[:, None]
            h = tl.load(x + n * channels + c, mask=n < positions, other=0.0).to(tl.float32)
            h = tl.where(n < positions, h - first, 0.0)
            total += h
            squares += h * h
        c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        sums += (b * tl.num_programs(0) + part) * 2 * channels + c
        tl.store(sums, tl.sum(total, 0))
        tl.store(sums + channels, tl.sum(squares, 0))

    @triton.jit
    def _scale_kernel(
        x,
        sums,
        weight,
        bias,
        add,
        scales,
        positions,
        channels,
        parts,
        eps,
        SIZE: tl.constexpr,  # channels of a group
        COLUMNS: tl.constexpr,
        PARTS: tl.constexpr,
    ):
        """What the norm does to each channel, as a factor and an addend: y = factor x + addend."""
        g, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
        j = tl.arange(0, COLUMNS)
        c, inside = g * SIZE + j, j < SIZE
        p = tl.arange(0, PARTS)[:, None]
        read = sums + (b * parts + p) * 2 * channels + c[None, :]
        there = (p < parts) & inside[None, :]
        total = tl.sum(tl.load(read, mask=there, other=0.0), 0)
        squares = tl.sum(tl.load(read + channels, mask=there, other=0.0), 0)
        shift = tl.load(x + b * positions * channels + c, mask=inside, other=0.0).to(tl.float32)
        moved = tl.zeros((COLUMNS,), tl.float32)
        if add is not None:
            moved = tl.load(add + b * channels + c, mask=inside, other=0.0).to(tl.float32)
        # The channels' means and squared deviations make the group's (Chan et al. 1979).
        means = shift + moved + total / positions
        mean = tl.sum(tl.where(inside, means, 0.0), 0) / SIZE
        between = tl.where(inside, means - mean, 0.0)
        within = squares - total * total / positions
        variance = tl.sum(within / positions + between * between, 0) / SIZE
        factor = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
        factor *= tl.rsqrt(tl.maximum(variance, 0.0) + eps)
        addend = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
        addend += (moved - mean) * factor
        tl.store(scales + b * 2 * channels + c, factor, mask=inside)
        tl.store(scales + (b * 2 + 1) * channels + c, addend, mask=inside)

    @triton.jit
    def _apply_kernel(
        x,
        scales,
        y,
        positions,
        channels,
        SILU: tl.constexpr,
        ROWS: tl.constexpr,
        COLUMNS: tl.constexpr,
    ):
        n = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
        c = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        b = tl.program_id(2).to(tl.int64)
        at = b * positions * channels + n * channels + c
        h = tl.load(x + at, mask=n < positions, other=0.0).to(tl.float32)
        h = h * tl.load(scales + b * 2 * channels + c) + tl.load(
            scales + (b * 2 + 1) * channels + c
        )
        if SILU:
            h = h * tl.sigmoid(h)
        tl.store(y + at, h.to(y.dtype.element_ty), mask=n < positions)
