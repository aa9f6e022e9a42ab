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

NORM_BLOCK = 2048
"""Values of a program of norm and scan, in whole rows. Chosen by the compiler's count of registers,
which does not spill there for any width of the UNet; not yet timed."""


def norm_momentum_scan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mu: Tensor,
    initial: Tensor | None = None,
    eps: float = 1e-5,
    keep: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """LayerNorm and the momentum scan of its result, with one read of the hidden state.

    Queries come from the normed rows, keys and values from the scanned ones: the scan's weights sum
    to 1 and the projections are affine, so this equals scanning K and V, with half the traffic.

    Args:
        x: hidden state [B, F, N, C].
        weight, bias: the norm's, [C].
        mu, initial, keep: as for `momentum_scan`.

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
        return _triton_norm_scan(x, weight, bias, mu, initial, eps, keep)
    normed = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    (y,), finals = momentum_scan((normed,), mu, None if initial is None else (initial,), keep)
    return normed, y, *(finals or (None,))


def _triton_norm_scan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mu: Tensor,
    initial: Tensor | None,
    eps: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, frames, rows, columns = x.shape
    normed, scanned = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    shape = (batch, rows, columns) if keep else (1,)  # not written, and yet a pointer
    final = torch.empty(shape, dtype=torch.float32, device=x.device)
    if not x.numel():
        return normed, scanned, final if keep else None
    width = triton.next_power_of_2(columns)
    height = max(1, NORM_BLOCK // width)
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
            columns,
            rows * columns,
            *x.stride()[:3],
            CARRIED=initial is not None,
            KEEP=keep,
            ROWS=height,
            COLUMNS=width,
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
        columns,  # C
        size,  # N * C
        stride_b,
        stride_f,
        stride_n,
        CARRIED: tl.constexpr,
        KEEP: tl.constexpr,
        ROWS: tl.constexpr,
        COLUMNS: tl.constexpr,
    ):
        b = tl.program_id(1).to(tl.int64)
        n = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        c = tl.arange(0, COLUMNS)[None, :]
        inside = (n < rows) & (c < columns)
        last = 0 * n + frames - 1
        w = tl.load(weight + c, mask=c < columns, other=0.0).to(tl.float32)
        z = tl.load(bias + c, mask=c < columns, other=0.0).to(tl.float32)
        at = n * columns + c
        state = tl.zeros((ROWS, COLUMNS), tl.float32)
        if CARRIED:
            state = tl.load(initial + b * size + at, mask=inside, other=0.0)
        read = x + b * stride_b + n * stride_n + c
        write = b * frames * size + at
        ahead = tl.load(read, mask=inside, other=0.0)
        for f in tl.range(0, frames):
            h = ahead.to(tl.float32)
            read += stride_f
            ahead = tl.load(read, mask=inside & (f < last), other=0.0)
            m = tl.load(mu + f)
            if not CARRIED:
                m = tl.where(f == 0, 0.0, m)
            h = tl.where(inside, h - (tl.sum(h, 1) / columns)[:, None], 0.0)
            h = h * tl.rsqrt(tl.sum(h * h, 1) / columns + eps)[:, None] * w + z
            state = m * state + (1.0 - m) * h
            tl.store(normed + write, h.to(normed.dtype.element_ty), mask=inside)
            tl.store(scanned + write, state.to(scanned.dtype.element_ty), mask=inside)
            write += size
        if KEEP:
            tl.store(final + b * size + at, state, mask=inside)
