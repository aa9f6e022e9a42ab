"""The search of the dependency noise model (Algorithm 1) on a GPU, without storing a candidate.

    KL = a - sqrt(alpha) a - sqrt(1 - alpha) b,   a = mean(exp(p) p),   b = mean(exp(p) m),
    m  = inertia m' + sqrt(1 - inertia^2) n,      so b is as much of that of m' and of that of n.

Candidates n are Philox numbers with an address (`zs2.kernels.philox`), so they are drawn where they
are needed, twice: one launch scores all candidates of all clips, a second picks one for each clip,
solves for alpha, draws the chosen one again and mixes it in. Nothing waits for the host. Moved
are 4 V bytes a candidate and 12 V for the mix, with inertia 4 V and 12 V more.

The definition in plain torch is `zs2.noise.DependencyNoise`; the numbers are the same to float32
rounding. The file needs torch and triton alone.
"""

import math
import os

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

QUADS = 256  # a program's share of a frame, in groups of the four normals of a Philox counter


def available(x: Tensor) -> bool:
    """Whether the functions below can work on this tensor's device."""
    return triton is not None and (x.is_cuda or INTERPRET)


def draw(seeds: Tensor, frame: int, candidates: int, step: int, size: int) -> Tensor:
    """The normal numbers of a frame in one launch, see `zs2.draws.Draws`.

    Args:
        seeds: [B] int64, one a clip.
        frame, step: where they are drawn.
        candidates: K >= 1.
        size: V, the values of a frame.

    Returns:
        [B, K, V] float32.
    """
    seeds = seeds.contiguous()
    batch = len(seeds)
    made = torch.empty((batch, candidates, size), dtype=torch.float32, device=seeds.device)
    with torch.cuda.device_of(seeds):
        grid = (triton.cdiv(size, 4 * QUADS), candidates, batch)
        _draw_kernel[grid](seeds, made, frame, step, size, QUADS=QUADS, enable_fp_fusion=True)
    return made


def next_frame(
    previous: Tensor,
    turned: Tensor | None,
    seeds: Tensor,
    frame: int,
    step: int,
    lam: float,
    inertia: float,
    candidates: int,
    select: str,
) -> tuple[Tensor, Tensor | None]:
    """The noise that follows `previous` at KL = lam (Eq. 1), by exact search.

    Args:
        previous: [B, V] float32.
        turned: [B, V] float32, the direction m' that lasts; None if there is no inertia.
        seeds: [B] int64, one a clip.
        frame: index of the frame to make, from 1.
        step: of the sampler, 0 for the initial noise.
        lam: above 0.
        inertia: in [0, 1], how much of m' lasts.
        candidates: K in 1..65535.
        select: "unbiased" or "paper", see `zs2.noise.random_search`.

    Returns:
        The noise [B, V] float32, and m' for the next call or None.
    """
    previous = previous.contiguous()
    turned = None if turned is None else turned.contiguous()
    batch, size = previous.shape
    blocks = triton.cdiv(size, 4 * QUADS)
    # Each block's part of sum(exp(p) n) for every candidate; the last two rows are sum(exp(p) p)
    # and, with inertia, sum(exp(p) m').
    sums = torch.empty((batch, candidates + 2, blocks), dtype=torch.float64, device=previous.device)
    made = torch.empty_like(previous)
    turned_on = None if turned is None else torch.empty_like(turned)
    with torch.cuda.device_of(previous):
        _score_kernel[(blocks, candidates, batch)](
            previous,
            turned,
            seeds,
            sums,
            frame,
            step,
            size,
            blocks,
            candidates,
            QUADS=QUADS,
            enable_fp_fusion=True,
        )
        _mix_kernel[(blocks, batch)](
            previous,
            turned,
            seeds,
            sums,
            made,
            turned_on,
            frame,
            step,
            min(lam, 1e6),  # no KL comes near it
            float(inertia),
            math.sqrt(1 - inertia**2),
            size,
            blocks,
            candidates,
            PAPER=select == "paper",
            QUADS=QUADS,
            BLOCKS=triton.next_power_of_2(blocks),
            TILE=min(64, triton.next_power_of_2(candidates)),
            enable_fp_fusion=True,
        )
    return made, turned_on


if triton is not None:

    @triton.jit
    def _normals(seed, quad, frame, candidate, step):
        """The four normals at an address, as `zs2.kernels.philox.normal`."""
        quad = quad.to(tl.uint32)
        zero = 0 * quad
        a, b, c, d = tl.philox(seed, quad, zero + frame, zero + candidate, zero + step)
        n0, n1 = tl.pair_uniform_to_normal(tl.uint_to_uniform_float(a), tl.uint_to_uniform_float(b))
        n2, n3 = tl.pair_uniform_to_normal(tl.uint_to_uniform_float(c), tl.uint_to_uniform_float(d))
        return n0, n1, n2, n3

    @triton.jit(do_not_specialize=["frame", "step"])
    def _draw_kernel(seeds, made, frame, step, size, QUADS: tl.constexpr):
        k, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
        quad = tl.program_id(0) * QUADS + tl.arange(0, QUADS)
        normals = _normals(tl.load(seeds + b), quad, frame, k, step)
        row = made + (b * tl.num_programs(1) + k) * size
        for j in tl.static_range(4):
            i = 4 * quad + j
            tl.store(row + i, normals[j], mask=i < size)

    @triton.jit(do_not_specialize=["frame", "step"])
    def _score_kernel(
        previous,
        turned,
        seeds,
        sums,
        frame,
        step,
        size,
        blocks,
        candidates,
        QUADS: tl.constexpr,
    ):
        block, k, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
        quad = block * QUADS + tl.arange(0, QUADS)
        normals = _normals(tl.load(seeds + b), quad, frame, k, step)
        ab = tl.zeros((QUADS,), tl.float64)
        aa = tl.zeros((QUADS,), tl.float64)
        for j in tl.static_range(4):
            i = 4 * quad + j
            p = tl.load(previous + b * size + i, mask=i < size, other=0.0)
            weight = tl.where(i < size, tl.exp(p), 0.0)
            ab += (weight * normals[j]).to(tl.float64)
            aa += (weight * p).to(tl.float64)
        row = sums + b * (candidates + 2) * blocks + block
        tl.store(row + k * blocks, tl.sum(ab, 0))
        if k == 0:
            tl.store(row + candidates * blocks, tl.sum(aa, 0))
            if turned is not None:
                am = tl.zeros((QUADS,), tl.float64)
                for j in tl.static_range(4):
                    i = 4 * quad + j
                    p = tl.load(previous + b * size + i, mask=i < size, other=0.0)
                    m = tl.load(turned + b * size + i, mask=i < size, other=0.0)
                    am += (tl.exp(p) * m).to(tl.float64)
                tl.store(row + (candidates + 1) * blocks, tl.sum(am, 0))

    @triton.jit(do_not_specialize=["frame", "step"])
    def _mix_kernel(
        previous,
        turned,
        seeds,
        sums,
        made,
        turned_on,
        frame,
        step,
        lam,
        inertia,
        refresh,
        size,
        blocks,
        candidates,
        PAPER: tl.constexpr,
        QUADS: tl.constexpr,
        BLOCKS: tl.constexpr,
        TILE: tl.constexpr,
    ):
        clip = tl.program_id(1).to(tl.int64)
        # Every program of a clip picks for itself: a few thousand sums, and no launch between.
        rows = sums + clip * (candidates + 2) * blocks
        j = tl.arange(0, BLOCKS)
        a = tl.sum(tl.load(rows + candidates * blocks + j, mask=j < blocks, other=0.0), 0) / size
        lasting = a * 0  # the part of b that is of m'
        if turned is not None:
            row = rows + (candidates + 1) * blocks
            lasting = inertia * tl.sum(tl.load(row + j, mask=j < blocks, other=0.0), 0) / size
        least = a * 0 + float("inf")
        b = a * 0
        chosen = tl.program_id(0) * 0
        for start in tl.range(0, candidates, TILE):
            k = start + tl.arange(0, TILE)
            inside = (k < candidates)[:, None] & (j < blocks)[None, :]
            part = tl.load(rows + k[:, None] * blocks + j[None, :], mask=inside, other=0.0)
            mean = tl.sum(part, 1) / size
            if turned is not None:
                mean = lasting + refresh * mean
            distance = tl.abs(a - mean - lam) if PAPER else tl.abs(mean)
            distance = tl.where(k < candidates, distance, float("inf"))
            best = tl.argmin(distance, 0)
            nearest = tl.min(distance, 0)
            value = tl.sum(tl.where(tl.arange(0, TILE) == best, mean, 0.0), 0)
            b = tl.where(nearest < least, value, b)
            chosen = tl.where(nearest < least, start + best, chosen)
            least = tl.minimum(nearest, least)

        # a - keep a - fresh b = lam on the circle keep^2 + fresh^2 = 1, see zs2.noise.exact_search.
        square = a * a + b * b
        radius = tl.sqrt(square)
        level = tl.minimum(tl.maximum(a - lam, -radius), radius)
        root = tl.sqrt(tl.maximum(square - level * level, 0.0))
        keep = (a * level - b * root) / square
        fresh = (b * level + a * root) / square
        independent = lam >= a - b
        keep = tl.where(independent, 0.0, keep).to(tl.float32)
        fresh = tl.where(independent, 1.0, fresh).to(tl.float32)

        quad = tl.program_id(0) * QUADS + tl.arange(0, QUADS)
        normals = _normals(tl.load(seeds + clip), quad, frame, chosen, step)
        for n in tl.static_range(4):
            i = 4 * quad + n
            p = tl.load(previous + clip * size + i, mask=i < size, other=0.0)
            m = normals[n]
            if turned is not None:
                last = tl.load(turned + clip * size + i, mask=i < size, other=0.0)
                m = inertia * last + refresh * m
            tl.store(made + clip * size + i, keep * p + fresh * m, mask=i < size)
            if turned is not None:
                tl.store(turned_on + clip * size + i, keep * m - fresh * p, mask=i < size)
