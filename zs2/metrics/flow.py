"""Dense optical flow by polynomial expansion (Farnebaeck 2003), and what it does not explain.

Around every pixel a picture is written as f(p) = p' A p + b' p + c. One that is moved by d has
A2 = A1 and b2 = b1 - 2 A d, so d follows from both expansions, in the least squares of a window:
d = (sum A' A)^-1 sum A' (b1 - b2) / 2. From a coarse scale to fine ones, each begins with the flow
of the one before. The settings are those of OpenCV's function of the same name.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
SMALLEST = 32
"""Pixels of a side at the coarsest scale."""


def flow(
    a: Tensor,
    b: Tensor,
    levels: int = 3,
    window: int = 15,
    rounds: int = 3,
    reach: int = 5,
    sigma: float = 1.2,
) -> Tensor:
    """Where each pixel of pictures `a` goes in `b`: grey [B, H, W] in 0..255 to [B, 2, H, W].

    Args:
        levels: how often the pictures are halved.
        window: of the least squares, in pixels.
        rounds: at each scale.
        reach: pixels a side of the expansion.
        sigma: of its weights.

    Returns:
        Pixels to the right and down.
    """
    height, width = a.shape[-2:]
    d: Tensor | None = None
    while levels and min(height, width) / 2**levels < SMALLEST:
        levels -= 1
    for level in range(levels, -1, -1):
        h, w = (round(side / 2**level) for side in (height, width))
        smaller = [scaled(x, h, w, level) for x in (a, b)]
        r1, r2 = (expansion(x, reach, sigma) for x in smaller)  # (B, 5, h, w)
        if d is None:
            d = torch.zeros(len(a), 2, h, w, dtype=a.dtype, device=a.device)
        else:
            d = 2 * F.interpolate(d, (h, w), mode="bilinear")
        for _ in range(rounds):
            d = displaced(r1, r2, d, window)
    assert d is not None
    return d


def scaled(x: Tensor, height: int, width: int, level: int) -> Tensor:
    """Pictures [B, H, W] blurred and made smaller."""
    if level:
        sigma = (2**level - 1) / 2
        size = max(round(5 * sigma) | 1, 3)
        place = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
        weight = (-(place**2) / (2 * sigma**2)).exp()
        weight = weight / weight.sum()
    else:  # without a sigma OpenCV takes a binomial window
        size, weight = 3, x.new_tensor([0.25, 0.5, 0.25])
    weight = weight.view(1, 1, 1, -1)
    half = size // 2
    x = F.pad(x[:, None], (half, half, half, half), mode="reflect")
    x = F.conv2d(F.conv2d(x, weight), weight.mT)
    return F.interpolate(x, (height, width), mode="bilinear")[:, 0]


def expansion(x: Tensor, reach: int, sigma: float) -> Tensor:
    """b and A of each pixel of pictures [B, h, w]: (b_x, b_y, A_xx, A_yy, A_xy), [B, 5, h, w].

    The weighted least squares of 1, x, y, x^2, y^2 and xy in a Gaussian window.
    """
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = (-(place**2) / (2 * sigma**2)).exp()
    weight = weight / weight.sum()
    powers = torch.stack([weight * place**k for k in range(3)])  # (3, n)
    basis = ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1))  # powers of x and of y
    moments = [float((weight * place**k).sum()) for k in range(5)]
    gram = torch.tensor(
        [[moments[i + m] * moments[j + n] for m, n in basis] for i, j in basis], dtype=torch.float64
    )
    kernels = powers.to(x)[:, None, None]  # (3, 1, 1, n)
    x = F.pad(x[:, None], (reach,) * 4, mode="replicate")
    across = F.conv2d(x, kernels)  # (B, 3, .., w), by powers of x
    # Each of these by all powers of y.
    down = F.conv2d(across, kernels.mT.repeat(3, 1, 1, 1), groups=3).unflatten(1, (3, 3))
    found = torch.stack([down[:, i, j] for i, j in basis], dim=1)  # (B, 6, h, w)
    r = torch.einsum("ij,bjhw->bihw", gram.inverse().to(x), found)
    return torch.stack([r[:, 1], r[:, 2], r[:, 3], r[:, 4], r[:, 5] / 2], dim=1)


def displaced(r1: Tensor, r2: Tensor, d: Tensor, window: int) -> Tensor:
    """The flow after another round, [B, 2, h, w]."""
    h, w = d.shape[-2:]
    there, inside = moved_back(r2, d)
    # Where the flow leads out of the picture there is only the first expansion.
    bx, by = ((r1[:, i] - there[:, i] * inside) / 2 for i in (0, 1))
    a = torch.where(inside[:, None], (r1[:, 2:] + there[:, 2:]) / 2, r1[:, 2:])
    xx, yy, xy = a.unbind(1)
    bx = bx + xx * d[:, 0] + xy * d[:, 1]
    by = by + xy * d[:, 0] + yy * d[:, 1]
    sums = torch.stack(
        [
            xx * xx + xy * xy,
            (xx + yy) * xy,
            yy * yy + xy * xy,
            xx * bx + xy * by,
            xy * bx + yy * by,
        ],
        dim=1,
    )
    # Expansions near a border have seen what is not there.
    low = torch.tensor([0.14, 0.14, 0.4472, 0.4472, 0.4472], dtype=d.dtype, device=d.device)
    trust = [torch.ones(n, dtype=d.dtype, device=d.device) for n in (h, w)]
    for side in trust:
        n = min(len(low), len(side))
        side[:n] *= low[:n]
        side[-n:] *= low[:n].flip(0)
    # Both factors of each product are scaled, so the products are by the square.
    sums = sums * (trust[0][:, None] * trust[1]) ** 2
    half = window // 2
    sums = F.pad(sums, (half,) * 4, mode="replicate")
    for kernel in ((2 * half + 1, 1), (1, 2 * half + 1)):
        sums = F.avg_pool2d(sums, kernel, stride=1)
    g11, g12, g22, h1, h2 = sums.unbind(1)
    inverse = 1 / (g11 * g22 - g12 * g12 + 1e-3)
    return torch.stack([g22 * h1 - g12 * h2, g11 * h2 - g12 * h1], dim=1) * inverse[:, None]


def moved_back(x: Tensor, d: Tensor, padding: str = "zeros") -> tuple[Tensor, Tensor]:
    """What pictures [B, C, H, W] have where a flow leads, and whether that lies inside: [B, H, W].

    Between pixels linearly; outside it is 0, or with "border" what is nearest.
    """
    h, w = x.shape[-2:]
    column = torch.arange(w, dtype=d.dtype, device=d.device) + d[:, 0]
    row = torch.arange(h, dtype=d.dtype, device=d.device)[:, None] + d[:, 1]
    inside = (column >= 0) & (column < w - 1) & (row >= 0) & (row < h - 1)
    grid = torch.stack([2 * column / max(w - 1, 1) - 1, 2 * row / max(h - 1, 1) - 1], dim=-1)
    there = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)
    return there, inside


def grey(frames: Tensor) -> Tensor:
    """Frames [.., H, W, 3] in 0..255 to their luminance, [.., H, W] in 0..255."""
    return (frames.float() @ torch.tensor(GREY, device=frames.device)).round()


def backwards(frames: Tensor) -> Tensor:
    """Where each pixel of each frame but the first was in the one before: [F-1, 2, H, W]."""
    return torch.cat([flow(grey(b)[None], grey(a)[None]) for a, b in pairwise(frames)])


def residuals(frames: Tensor, back: Tensor) -> Tensor:
    """What flow leaves of each pair of frames: mean absolute difference [F-1], 0..255.

    Args:
        back: where each pixel of the later frame was, [F-1, 2, H, W].
    """
    left = []
    for a, b, d in zip(frames, frames[1:], back, strict=False):
        # Where a flow leads out of the picture, it is its border that goes on.
        warped, _ = moved_back(as_channels(a), d[None], padding="border")
        left.append((warped - as_channels(b)).abs().mean())
    return torch.stack(left)


def as_channels(picture: Tensor) -> Tensor:
    """[H, W, 3] to [1, 3, H, W] float32."""
    return picture.permute(2, 0, 1)[None].float()


def tc(frames: Tensor, back: Tensor) -> float:
    """Temporal consistency of EIDT-V (CVPR 2025): less is better, 0 for a still clip.

    mean |W f_i - f_{i+1}| + 0.1 (mean |flow's change across| + mean |its change down|), frames in
    0..1, zeros outside. EIDT-V's code moves a frame by the flow to the next one, the opposite of
    what leads there; here it is the right one, and values are lower than its own.
    """
    off = []
    for a, b, d in zip(frames, frames[1:], back, strict=False):
        warped, _ = moved_back(as_channels(a), d[None])
        off.append((warped - as_channels(b)).abs().mean() / 255)
    rough = back.diff(dim=-1).abs().mean((1, 2, 3)) + back.diff(dim=-2).abs().mean((1, 2, 3))
    return float((torch.stack(off) + 0.1 * rough).mean())


def size(d: Tensor) -> float:
    """Mean length of a flow [.., 2, H, W], in pixels."""
    return float(d.square().sum(-3).sqrt().mean())


JUMP = 10.0
"""A pair of frames with a larger residual is a jump."""


def jumps(left: Tensor) -> float:
    """Share of pairs whose residual is a jump's."""
    return float((left > JUMP).double().mean()) if len(left) else math.nan
