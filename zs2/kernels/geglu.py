"""GEGLU's gate (Shazeer 2020, GLU Variants Improve Transformer): y = a gelu(g) for x = [a, g].

    y = geglu(x)                     # [.., 2 H] -> [.., H]

The widest tensors of a transformer pass through it. On a GPU 2 H values of a row are read and H
written; torch's steps, gelu and a product, read 3 H and write 2 H. Needs `momentum_scan.py`
beside it, torch, and on a GPU triton.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zs2.kernels.momentum_scan import on_gpu, traced, triton

ROWS, COLUMNS = 8, 256
"""Of a tile: 16 values a thread of its 4 warps. SD's hidden widths are multiples of 256."""


def geglu(x: Tensor) -> Tensor:
    """a gelu(g), gelu exact.

    Args:
        x: [.., 2 H], a before g.

    Returns:
        [.., H] in x's dtype, computed in float32; float64 in float64.

    Raises:
        ValueError: the last dimension is odd.
    """
    if x.ndim < 1 or x.shape[-1] % 2:
        raise ValueError(f"x is {[*x.shape]}: its last dimension must be two halves")
    if on_gpu(x) and not traced(x) and x.dtype != torch.float64 and x.numel():
        return _triton_geglu(x.contiguous())
    return geglu_reference(x)


def geglu_reference(x: Tensor) -> Tensor:
    """The definition."""
    a, g = x.chunk(2, dim=-1)
    return a * F.gelu(g)


def _triton_geglu(x: Tensor) -> Tensor:
    hidden = x.shape[-1] // 2
    rows = x.numel() // (2 * hidden)
    y = torch.empty((*x.shape[:-1], hidden), dtype=x.dtype, device=x.device)
    columns = math.gcd(hidden, COLUMNS)
    with torch.cuda.device_of(x):
        _geglu_kernel[(triton.cdiv(rows, ROWS), hidden // columns)](
            x, y, rows, hidden, ROWS=ROWS, COLUMNS=columns, enable_fp_fusion=True
        )
    return y


if triton is not None:
    import triton.language as tl

    @triton.jit
    def _geglu_kernel(x, y, rows, hidden, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
        n = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        c = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        read = x + n * 2 * hidden + c
        a = tl.load(read, mask=n < rows, other=0.0).to(tl.float32)
        g = tl.load(read + hidden, mask=n < rows, other=0.0).to(tl.float32)
        h = a * (0.5 * g * (1.0 + tl.erf(g * 0.7071067811865476)))
        tl.store(y + n * hidden + c, h.to(y.dtype.element_ty), mask=n < rows)
