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
from benchmarks.timing import alternate, keep_memory
from zs2.device import DTYPES, pick_device
from zs2.kernels.momentum_scan import (
    momentum_scan,
    momentum_scan_reference,
)
from zs2.kernels.norm_momentum_scan import norm_momentum_scan

Scan = Callable[[], tuple[Tensor, ...]]
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


def coefficients(mu: Tensor) -> Tensor:
    """U of Listing 2's other function: U_ij = (1 - mu_j) mu_{j+1} .. mu_i, where mu_1 = 0."""
    mu = torch.cat([torch.zeros_like(mu[:1]), mu[1:]])
    below = torch.ones(len(mu), len(mu), device=mu.device).tril(-1).bool()
    decay = torch.where(below, mu[:, None], 1.0).cumprod(0).tril()
    return decay * (1 - mu)


def contenders(k: Tensor, v: Tensor, mu: Tensor, compile: bool) -> dict[str, Scan]:
    """Everything that scans k and v [B, F, N, C], by name."""
    frames_first = [x.transpose(0, 1).contiguous() for x in (k, v)]
    value, u = float(mu[-1]), coefficients(mu).to(k.dtype)
    scans: dict[str, Scan] = {
        "zs2": lambda: momentum_scan((k, v), mu, keep=False)[0],
        "matrix product": lambda: tuple((u @ x.flatten(2)).view(x.shape) for x in (k, v)),
        "paper's loop": lambda: tuple(paper_loop(x, value) for x in frames_first),
        "reference": lambda: momentum_scan_reference((k, v), mu)[0],
    }
    if compile:
        torch.compiler.reset()
        compiled = torch.compile(paper_loop)
        scans["compiled loop"] = lambda: tuple(compiled(x, value) for x in frames_first)
    return scans


def error(made: Tensor, x: Tensor, mu: Tensor) -> float:
    """Relative RMS error against float64, over all tokens, some at a time."""
    wrong, all_of_it = 0.0, 0.0
    for ours, part in zip(made.split(512, 2), x.split(512, 2), strict=True):
        state = part[:, 0].double()
        for i in range(x.shape[1]):
            state = state if i == 0 else mu[i] * state + (1 - mu[i]) * part[:, i].double()
            wrong += float((ours[:, i] - state).square().sum())
            all_of_it += float(state.square().sum())
    return (wrong / all_of_it) ** 0.5


def measure(
    tokens: int,
    channels: int,
    frames: int,
    dtype: torch.dtype,
    device: torch.device,
    compile: bool,
) -> list[dict[str, object]]:
    shape = (BRANCHES, frames, tokens, channels)
    generator = torch.Generator(device).manual_seed(0)
    k, v = (
        torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)
        for _ in range(2)
    )
    weight, bias = torch.ones(channels, device=device, dtype=dtype), k.new_zeros(channels)
    mu = torch.full((frames,), 0.98, device=device)
    scans = contenders(k, v, mu, compile)
    calls: dict[str, Callable[[], Any]] = {
        "copy": lambda: (k.clone(), v.clone()),
        **scans,
        "norm alone": lambda: F.layer_norm(k, (channels,), weight, bias),
        "norm and scan": lambda: norm_momentum_scan(k, weight, bias, mu, keep=False),
    }
    times = alternate(calls, device, seconds=0.5)
    moved = k.numel() * k.element_size()
    passes = dict.fromkeys(calls, 4) | {"norm alone": 2, "norm and scan": 3}
    copy_speed = passes["copy"] * moved / times["copy"]
    errors = {}
    for name, call in scans.items():
        made = [y if y.shape == k.shape else y.transpose(0, 1) for y in call()]
        errors[name] = max(error(y, x, mu.double()) for y, x in zip(made, (k, v), strict=True))
    normed = F.layer_norm(k.double(), (channels,), weight.double(), bias.double())
    errors["norm and scan"] = error(calls["norm and scan"]()[1], normed, mu.double())
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
    keep_memory()
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768] if gpu else [512])
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "fp16" if gpu else "bf16"])
    parser.add_argument("--levels", type=int, default=4 if gpu else 1, help="levels of the UNet")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    rows = []
    for size in args.sizes:
        for tokens, channels in LEVELS[size][: args.levels]:
            for frames in args.frames:
                for dtype in args.dtypes:
                    # Compiling takes seconds, more than all the measuring: largest layer only.
                    compile = (tokens, channels) == LEVELS[512][0]
                    part = measure(tokens, channels, frames, DTYPES[dtype], device, compile)
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
