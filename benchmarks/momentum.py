"""The momentum scan of K and V at the layer shapes of SD 1.5, against everything else that does it.

    python -m benchmarks.momentum --json benchmarks/results

Copy speed is the limit: a scan reads every element once and writes it once, and so does a copy.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.environment import save
from benchmarks.timing import alternate
from zs2.device import DTYPES, pick_device
from zs2.kernels.momentum_scan import (
    momentum_scan,
    momentum_scan_reference,
    norm_momentum_scan,
)

BRANCHES = 2  # of classifier-free guidance
# Tokens and channels of the UNet's levels, for pictures of this many pixels.
LEVELS = {
    size: [((size // 8 >> level) ** 2, width) for level, width in enumerate((320, 640, 1280, 1280))]
    for size in (512, 768)
}


def paper_loop(x: Tensor, mu: float) -> Tensor:
    """Listing 2's for-loop over the frames of x [F, ...], made recurrent as Eq. 2 is."""
    frames = [x[0]]
    for index in range(1, len(x)):
        frames.append(frames[-1] * mu + x[index] * (1 - mu))
    return torch.stack(frames)


def matrix_product(x: Tensor, mu: Tensor) -> Tensor:
    """The other function of Listing 2, likewise: one product with U, for x [B, F, ...].

    U_ij = (1 - mu_j) mu_{j+1} .. mu_i, where mu_1 = 0.
    """
    mu = torch.cat([torch.zeros_like(mu[:1]), mu[1:]])
    below = torch.ones(len(mu), len(mu), device=mu.device).tril(-1).bool()
    decay = torch.where(below, mu[:, None], 1.0).cumprod(0).tril()
    return ((decay * (1 - mu)).to(x.dtype) @ x.flatten(2)).view(x.shape)


def contenders(
    k: Tensor, v: Tensor, mu: Tensor, compiled: Callable[..., Any]
) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Everything that scans k and v [B, F, N, C], by name."""
    frames_first = [x.transpose(0, 1).contiguous() for x in (k, v)]
    value = float(mu[-1])
    return {
        "zs2": lambda: momentum_scan((k, v), mu)[0],
        "matrix product": lambda: (matrix_product(k, mu), matrix_product(v, mu)),
        "compiled loop": lambda: tuple(compiled(x, value) for x in frames_first),
        "paper's loop": lambda: tuple(paper_loop(x, value) for x in frames_first),
    }


def error(made: Tensor, x: Tensor, mu: Tensor) -> float:
    """Relative RMS error against float64, on a part of the tokens."""
    part = slice(0, 64)
    state, frames = x[:, 0, part].double(), []
    for i in range(x.shape[1]):
        state = x[:, i, part].double() if i == 0 else mu[i] * state + (1 - mu[i]) * x[:, i, part]
        frames.append(state)
    expected = torch.stack(frames, dim=1)
    return float((made[:, :, part].double() - expected).norm() / expected.norm())


def measure(
    tokens: int, channels: int, frames: int, dtype: torch.dtype, device: torch.device
) -> list[dict[str, object]]:
    shape = (BRANCHES, frames, tokens, channels)
    generator = torch.Generator(device).manual_seed(0)
    k, v = (
        torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)
        for _ in range(2)
    )
    weight, bias = torch.ones(channels, device=device, dtype=dtype), k.new_zeros(channels)
    mu = torch.full((frames,), 0.98, device=device)
    torch.compiler.reset()
    scans = contenders(k, v, mu, torch.compile(paper_loop))
    calls: dict[str, Callable[[], Any]] = {
        "copy": lambda: (k.clone(), v.clone()),  # into new memory, as all the others
        **scans,
        "reference": lambda: momentum_scan_reference((k, v), mu),
        "norm alone": lambda: F.layer_norm(k, (channels,), weight, bias),
        "norm and scan": lambda: norm_momentum_scan(k, weight, bias, mu),
    }
    times = alternate(calls, device, seconds=0.5)
    moved = k.numel() * k.element_size()
    passes = dict.fromkeys(calls, 4) | {"norm alone": 2, "norm and scan": 3}
    copy_speed = passes["copy"] * moved / times["copy"]
    exact = mu.double()
    errors = {}
    for name, call in scans.items():
        y = call()[0]
        errors[name] = error(y if y.shape == k.shape else y.transpose(0, 1), k, exact)
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        speed = passes[name] * moved / seconds
        rows.append(
            {
                "tokens": tokens,
                "channels": channels,
                "frames": frames,
                "dtype": next(n for n, d in DTYPES.items() if d == dtype),
                "contender": name,
                "ms": round(1000 * seconds, 4),
                "GB/s": round(speed / 1e9, 1),
                "share of copy speed": round(speed / copy_speed, 3),
                "error": errors.get(name),
            }
        )
    return rows


def main() -> None:
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768] if gpu else [512])
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[8, 16, 32, 64] if gpu else [8, 32]
    )
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES) if gpu else ["fp32", "bf16"])
    parser.add_argument("--levels", type=int, default=4 if gpu else 1, help="levels of the UNet")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    rows = []
    for size in args.sizes:
        for tokens, channels in LEVELS[size][: args.levels]:
            for frames in args.frames:
                for dtype in args.dtypes:
                    part = measure(tokens, channels, frames, DTYPES[dtype], device)
                    rows += part
                    print(f"N {tokens}  C {channels}  F {frames}  {dtype}")
                    for row in part:
                        print(
                            f"  {row['contender']:15} {row['ms']:10} ms {row['GB/s']:8} GB/s  "
                            f"{row['share of copy speed']:.2f} of copy"
                        )
    if args.json:
        save(args.json, "momentum", ", ".join(args.dtypes), {"rows": rows})


if __name__ == "__main__":
    main()
