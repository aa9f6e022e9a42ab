"""LayerNorm and the momentum scan (Eq. 2) of its result in one launch, as the UNet needs them.

    normed, scanned, state = norm_momentum_scan(x, weight, bias, mu)

On a GPU the hidden state is read once; elsewhere it is torch's norm, and then the scan. Needs
`momentum_scan.py` and nothing else.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zs2.kernels.momentum_scan import check, momentum_scan, on_gpu, traced, triton

WARP_VALUES = 640
"""Values of the rows that a program of one warp takes: 2 rows of 320 channels. A warp alone sums
its rows without waiting for others, and 20 values a lane leave it registers for the rest. Wider
rows are one to a program, with a second warp beyond 1280 channels."""
STAGES = 3
"""Frames on their way at a time, by asynchronous copies."""


def norm_momentum_scan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mu: Tensor,
    initial: Tensor | None = None,
    eps: float = 1e-5,
    keep: bool = True,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """LayerNorm and the momentum scan of its result, with one read of the hidden state.

    Queries come from the normed rows, keys and values from the scanned ones: the scan's weights sum
    to 1 and the projections are affine, so this equals scanning K and V, with half the traffic.

    Args:
        x: hidden state [B, F, N, C].
        weight, bias: the norm's, [C].
        mu, initial, keep: as for `momentum_scan`.
        out: where the final state is to lie, contiguous; it may be `initial`.

    Returns:
        Normed and scanned rows [B, F, N, C] in x's dtype, and the final state [B, N, C] float32;
        None without `keep`.

    Raises:
        ValueError: as `momentum_scan`, or weight and bias are not [C].
    """
    check([x], mu, None if initial is None else [initial])
    if weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:] or x.ndim != 4:
        raise ValueError(
            f"x is {[*x.shape]}, weight {[*weight.shape]} and bias {[*bias.shape]}: "
            "expected [B, F, N, C], [C] and [C]"
        )
    seen = traced(x, weight, bias, mu, *([] if initial is None else [initial]))
    if on_gpu(x) and not seen and x.dtype != torch.float64:
        return _triton_norm_scan(x, weight, bias, mu, initial, eps, keep, out)
    normed = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    (y,), finals = momentum_scan((normed,), mu, None if initial is None else (initial,), keep)
    final = finals[0] if finals else None
    return normed, y, final if out is None or final is None else out.copy_(final)


def _triton_norm_scan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mu: Tensor,
    initial: Tensor | None,
    eps: float,
    keep: bool,
    out: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, frames, rows, columns = x.shape
    normed, scanned = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    shape = (batch, rows, columns) if keep else (1,)  # not written, and yet a pointer
    # Each program reads its own part of the first state before it writes the last one there.
    final = torch.empty(shape, dtype=torch.float32, device=x.device) if out is None else out
    if not x.numel():
        return normed, scanned, final if keep else None
    head = 1 << max(0, (columns - 1).bit_length() - 1)  # the largest power of 2 below C
    height = 1 << max(0, (WARP_VALUES // columns).bit_length() - 1)
    with torch.cuda.device_of(x):
        _norm_scan_kernel[(math.ceil(rows / height), batch)](
            x,
            weight.contiguous(),
            bias.contiguous(),
            normed,
            scanned,
            final if initial is None else initial.contiguous(),
            final,
            mu.float().contiguous(),
            eps,
            frames,
            rows,
            rows * columns,
            *x.stride()[:3],
            CARRIED=initial is not None,
            KEEP=keep,
            ROWS=height,
            COLUMNS=columns,
            HEAD=head,
            TAIL=triton.next_power_of_2(max(1, columns - head)),
            STAGES=STAGES,
            num_warps=triton.next_power_of_2(math.ceil(columns / (2 * WARP_VALUES))),
            enable_fp_fusion=True,
        )
    return normed, scanned, final if keep else None


if triton is not None:
    import triton.language as tl

    @triton.jit
    def _norm_scan_kernel(
        x,
        weight,
        bias,
        normed,
        scanned,
        initial,
        final,
        mu,
        eps,
        frames,
        rows,  # N
        size,  # N * C
        stride_b,
        stride_f,
        stride_n,
        CARRIED: tl.constexpr,
        KEEP: tl.constexpr,
        ROWS: tl.constexpr,
        COLUMNS: tl.constexpr,  # C
        HEAD: tl.constexpr,
        TAIL: tl.constexpr,
        STAGES: tl.constexpr,
    ):
        # A block's sides are powers of 2, and SD's widths are 5 times one. As a head and a tail,
        # 4 and 1 of the 5, no lane stands idle: c counts the head's columns, d the tail's.
        b = tl.program_id(1).to(tl.int64)
        n = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        c = tl.arange(0, HEAD)[None, :]
        d = HEAD + tl.arange(0, TAIL)[None, :]
        head, tail = n < rows, n < rows
        if COLUMNS < HEAD + TAIL:
            head &= c < COLUMNS  # which a single channel needs
            tail &= d < COLUMNS
        w0 = tl.load(weight + c).to(tl.float32)
        z0 = tl.load(bias + c).to(tl.float32)
        w1 = tl.load(weight + d, mask=d < COLUMNS, other=0.0).to(tl.float32)
        z1 = tl.load(bias + d, mask=d < COLUMNS, other=0.0).to(tl.float32)
        at = b * size + n * COLUMNS
        s0 = tl.zeros((ROWS, HEAD), tl.float32)
        s1 = tl.zeros((ROWS, TAIL), tl.float32)
        if CARRIED:
            s0 = tl.load(initial + at + c, mask=head, other=0.0)
            s1 = tl.load(initial + at + d, mask=tail, other=0.0)
        read = x + b * stride_b + n * stride_n
        write = b * frames * size + n * COLUMNS
        for f in tl.range(0, frames, num_stages=STAGES):
            h0 = tl.load(read + c, mask=head, other=0.0).to(tl.float32)
            h1 = tl.load(read + d, mask=tail, other=0.0).to(tl.float32)
            m = tl.load(mu + f)
            if not CARRIED:
                m = tl.where(f == 0, 0.0, m)
            mean = ((tl.sum(h0, 1) + tl.sum(h1, 1)) / COLUMNS)[:, None]
            h0 -= mean
            h1 -= mean
            if COLUMNS < HEAD + TAIL:
                h0 = tl.where(head, h0, 0.0)
                h1 = tl.where(tail, h1, 0.0)
            variance = (tl.sum(h0 * h0, 1) + tl.sum(h1 * h1, 1)) / COLUMNS
            scale = tl.rsqrt(variance + eps)[:, None]
            h0 = h0 * scale * w0 + z0
            h1 = h1 * scale * w1 + z1
            s0 = m * s0 + (1.0 - m) * h0
            s1 = m * s1 + (1.0 - m) * h1
            tl.store(normed + write + c, h0.to(normed.dtype.element_ty), mask=head)
            tl.store(normed + write + d, h1.to(normed.dtype.element_ty), mask=tail)
            tl.store(scanned + write + c, s0.to(scanned.dtype.element_ty), mask=head)
            tl.store(scanned + write + d, s1.to(scanned.dtype.element_ty), mask=tail)
            read += stride_f  # step by step: f * stride_f may take more than 32 bits
            write += size
        if KEEP:
            tl.store(final + at + c, s0, mask=head)
            tl.store(final + at + d, s1, mask=tail)
