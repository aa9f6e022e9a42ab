"""The momentum scan over frames (Eq. 2): y_1 = x_1, y_i = mu_i y_{i-1} + (1 - mu_i) x_i.

    (k, v), state = momentum_scan((k, v), mu)                      # a clip, or its first chunk
    (k, v), state = momentum_scan((k, v), mu_of_next_frames, state)    # the chunk after it

On a GPU one Triton launch reads every element once and writes it once; on a CPU torch works through
blocks that stay in the cache. Takes plain tensors and knows nothing of zs2: copy this file alone
and it works, with torch, and on a GPU with triton.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRET or torch.version.cuda or torch.version.hip:
    try:
        import triton
        import triton.language as tl
    except ImportError:
        triton = None
else:
    triton = None  # a CPU build of torch: spare it the import

Tensors = tuple[Tensor, ...]
CPU_BLOCK = 1 << 19
"""Values of a frame at a time on a CPU: of 2^15 to 2^30 the fastest in bf16."""
SCAN_BLOCK = 1024
"""Values of a program of the scan: 8 a thread of its 4 warps, 16 bytes a load in 16-bit types."""


def momentum_scan(
    tensors: Sequence[Tensor],
    mu: Tensor,
    initial: Sequence[Tensor] | None = None,
    keep: bool = True,
) -> tuple[Tensors, Tensors]:
    """Running average over frames of any number of tensors at once (section 4.1, Eq. 2).

    Args:
        tensors: each [B, F, ...], of one shape, floating dtype and device; views of a packed
            projection are read in place, strides that differ cost a copy.
        mu: [F] on the same device, momentum of each frame in 0..1.
        initial: each [B, ...] float32 (float64 for float64 tensors), the final state of the frames
            before these; None where a clip begins, and then mu[0] has no effect.
        keep: whether to write the final state; where no chunk follows, nobody needs it.

    Returns:
        For each tensor y [B, F, ...], contiguous and in its dtype; and the final state [B, ...] in
        float32: hand it to the next chunk as `initial`, and any split of the frames gives the same
        clip. All sums are float32, those of float64 tensors and their states float64. Without
        `keep` there are no states.

    Raises:
        ValueError: the tensors differ, mu is not one value in 0..1 a frame (on a GPU the values
            are not looked at: the host would have to wait), initial does not fit, or one of them
            lies on another device.
    """
    check(tensors, mu, initial)
    if traced(*tensors, mu, *(initial or ())) or tensors[0].dtype == torch.float64:
        scanned, finals = momentum_scan_reference(tensors, mu, initial)
    elif on_gpu(tensors[0]):
        return _triton_scan(tensors, mu, initial, keep)
    else:
        states: Sequence[Tensor | None] = initial or [None] * len(tensors)
        made = [_cpu_scan(x, mu, state) for x, state in zip(tensors, states, strict=True)]
        scanned, finals = tuple(y for y, _ in made), tuple(final for _, final in made)
    return scanned, finals if keep else ()


def momentum_scan_reference(
    tensors: Sequence[Tensor], mu: Tensor, initial: Sequence[Tensor] | None = None
) -> tuple[Tensors, Tensors]:
    """Eq. 2 read aloud: the definition that every faster form is tested against."""
    scanned, finals = [], []
    for n, x in enumerate(tensors):
        frames, state = [], initial[n] if initial else None
        kind = _state_dtype(x)
        for x_i, mu_i in zip(x.to(kind).unbind(1), mu.to(kind), strict=True):
            state = x_i if state is None else mu_i * state + (1 - mu_i) * x_i
            frames.append(state)
        scanned.append(torch.stack(frames, dim=1).to(x.dtype))
        finals.append(frames[-1])
    return tuple(scanned), tuple(finals)


def _cpu_scan(x: Tensor, mu: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    # Averaging the first frame with itself leaves it as it is, whatever mu[0].
    final = (x[:, 0] if initial is None else initial).to(torch.float32, copy=True).contiguous()
    rows, results = _rows(x), _rows(y)  # (B, F, N, C)
    states = final.view(results[:, 0].shape)
    # The running average of a block stays in the cache while its frames stream by.
    n = max(1, CPU_BLOCK // max(1, rows[:, 0, :1].numel()))
    for block, result, state in zip(
        rows.split(n, 2), results.split(n, 2), states.split(n, 1), strict=True
    ):
        for i, share in enumerate(1 - mu.float()):
            state.lerp_(block[:, i].float(), share)
            result[:, i] = state
    return y, final


def _triton_scan(
    tensors: Sequence[Tensor], mu: Tensor, initial: Sequence[Tensor] | None, keep: bool
) -> tuple[Tensors, Tensors]:
    shape = tensors[0].shape
    xs = tuple(_rows(x) for x in tensors)
    if any(x.stride() != xs[0].stride() for x in xs):
        xs = tuple(x.contiguous() for x in xs)
    batch, frames, rows, columns = xs[0].shape
    ys = tuple(torch.empty(shape, dtype=x.dtype, device=x.device) for x in xs)
    # A state that is neither read nor written still needs a pointer.
    finals = initials = tuple(mu.new_empty(1, dtype=torch.float32) for _ in xs)
    if keep:
        finals = tuple(
            torch.empty(x[:, 0].shape, dtype=torch.float32, device=x.device) for x in tensors
        )
    if initial is not None:
        initials = tuple(state.contiguous() for state in initial)
    size = rows * columns
    if not batch * size:
        return ys, finals if keep else ()
    block = min(SCAN_BLOCK, triton.next_power_of_2(size))
    stride_b, stride_f, stride_n, _ = xs[0].stride()
    with torch.cuda.device_of(xs[0]):
        _scan_kernel[(triton.cdiv(size, block), batch, len(xs))](
            xs,
            ys,
            initials,
            finals,
            mu.float().contiguous(),
            frames,
            size,
            columns,
            stride_b,
            stride_f,
            stride_n,
            PACKED=stride_n == columns or rows == 1,
            CARRIED=initial is not None,
            KEEP=keep,
            BLOCK=block,
            enable_fp_fusion=True,
        )
    return ys, finals if keep else ()


if triton is not None:

    @triton.jit
    def _scan_kernel(
        xs,
        ys,
        initials,
        finals,
        mu,
        frames,
        size,  # N * C, values of a frame
        columns,  # C
        stride_b,
        stride_f,
        stride_n,
        PACKED: tl.constexpr,  # rows follow each other without a gap
        CARRIED: tl.constexpr,
        KEEP: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        b = tl.program_id(1).to(tl.int64)
        i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = i < size
        last = 0 * i + frames - 1  # a tensor: the interpreter takes no scalar into a mask
        # Value i of a frame: where it lies in x, whose rows may be parts of wider ones.
        at = i if PACKED else (i // columns) * stride_n + i % columns
        for t in tl.static_range(len(xs)):
            if tl.program_id(2) == t:
                state = tl.zeros((BLOCK,), tl.float32)
                if CARRIED:
                    state = tl.load(initials[t] + b * size + i, mask=inside, other=0.0)
                read = xs[t] + b * stride_b + at
                write = ys[t] + b * frames * size + i
                x = tl.load(read, mask=inside, other=0.0)
                for f in tl.range(0, frames):
                    # The next frame is under way while this one is computed and written.
                    read += stride_f
                    ahead = tl.load(read, mask=inside & (f < last), other=0.0)
                    m = tl.load(mu + f)
                    if not CARRIED:
                        m = tl.where(f == 0, 0.0, m)
                    state = m * state + (1.0 - m) * x.to(tl.float32)
                    tl.store(write, state.to(ys[t].dtype.element_ty), mask=inside)
                    write += size
                    x = ahead
                if KEEP:
                    tl.store(finals[t] + b * size + i, state, mask=inside)


def check(tensors: Sequence[Tensor], mu: Tensor, initial: Sequence[Tensor] | None) -> None:
    if isinstance(tensors, Tensor) or not tensors:
        raise ValueError("give a sequence of tensors, as (k, v), and at least one")
    for x in (*tensors, mu, *(initial or ())):
        if not isinstance(x, Tensor):
            raise ValueError(f"the scan takes tensors, and mu as one too, not {type(x).__name__}")
    first = tensors[0]
    if not first.is_floating_point():
        raise ValueError(f"tensors must be floating point, got {first.dtype}")
    for x in tensors:
        if (x.shape, x.dtype, x.device) != (first.shape, first.dtype, first.device):
            raise ValueError(
                f"tensors must be alike: {[*first.shape]} {first.dtype} {first.device}, "
                f"and {[*x.shape]} {x.dtype} {x.device}"
            )
    if mu.shape != first.shape[1:2]:
        raise ValueError(
            f"mu must hold one value for each of {first.shape[1]} frames: {[*mu.shape]}"
        )
    if first.ndim < 2:
        raise ValueError(f"tensors are [B, F, ...], not {[*first.shape]}")
    if mu.device.type == "cpu" and not torch.compiler.is_compiling() and mu.numel():
        low, high = mu.aminmax()
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise ValueError(f"momentum mu must lie in 0..1, got {float(low):g}..{float(high):g}")
    for x in (mu, *(initial or ())):
        if x.device != first.device:
            raise ValueError(f"the tensors are on {first.device}, mu or initial on {x.device}")
    if initial is not None:
        if len(initial) != len(tensors):
            raise ValueError(f"{len(initial)} initial states for {len(tensors)} tensors")
        for state in initial:
            if state.shape != first[:, 0].shape:
                raise ValueError(f"initial is {[*state.shape]}, expected {[*first[:, 0].shape]}")
            if state.dtype != _state_dtype(first):
                raise ValueError(f"initial is {state.dtype}, expected {_state_dtype(first)}")


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def traced(*tensors: Tensor) -> bool:
    """Whether autograd or torch.compile looks on: both make the best of the reference."""
    return torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    )


def on_gpu(x: Tensor) -> bool:
    return triton is not None and (x.is_cuda or INTERPRET)


def _rows(x: Tensor) -> Tensor:
    """x [B, F, ...] as [B, F, N, C] with C adjacent values, a view wherever strides allow it."""
    columns = x.shape[-1] if x.ndim > 2 else 1
    x = x.reshape(*x.shape[:2], -1, columns)
    return x if x.stride(-1) == 1 or columns == 1 else x.contiguous()
