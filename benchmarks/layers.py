"""GroupNorm with SiLU and GEGLU at the layer shapes of SD 1.5, each beside torch's steps.

    python -m benchmarks.layers --json benchmarks/results

Copy speed is the limit: GroupNorm reads its map twice, for the sums and for the values, and writes
it once; GEGLU reads all and writes half. Only a GPU has kernels of zs2's own for these; elsewhere
zs2 takes the same steps.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.environment import save
from benchmarks.momentum import BRANCHES, LEVELS
from benchmarks.timing import alternate, keep_memory
from zs2.device import DTYPES, name_of, pick_device, pick_dtype
from zs2.kernels.geglu import geglu, geglu_reference
from zs2.kernels.group_norm import group_norm_silu, group_norm_silu_reference

FRAMES = 8

Row = dict[str, object]


def measure(tokens: int, channels: int, dtype: torch.dtype, device: torch.device) -> list[Row]:
    """Rows of both layers, for one level of the UNet."""
    rows, side = BRANCHES * FRAMES, round(tokens**0.5)
    generator = torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    x = drawn(rows, channels, side, side).to(memory_format=torch.channels_last)
    weight, bias, add = drawn(channels), drawn(channels), drawn(rows, channels)
    wide = drawn(rows, tokens, 8 * channels)
    norm = (x, weight, bias, 32, 1e-5, True, add)
    layers: dict[str, tuple[Tensor, float, dict[str, Callable[[], Tensor]]]] = {
        "GroupNorm": (
            x,
            3,
            {
                "zs2": lambda: group_norm_silu(*norm),
                "torch's steps": lambda: group_norm_silu_reference(*norm),
            },
        ),
        "GEGLU": (
            wide,
            1.5,
            {"zs2": lambda: geglu(wide), "torch's steps": lambda: geglu_reference(wide)},
        ),
    }
    found: list[Row] = []
    for layer, (given, passes, calls) in layers.items():
        times = alternate({"copy": given.clone, **calls}, device, seconds=0.5)
        moved = given.numel() * given.element_size()
        ours, theirs = (call().float() for call in calls.values())
        off = float((ours - theirs).norm() / theirs.norm())
        for name in calls:
            speed = passes * moved / times[name]
            found.append(
                {
                    "layer": layer,
                    "tokens": tokens,
                    "channels": channels,
                    "contender": name,
                    "ms": round(1000 * times[name], 4),
                    "GB/s": round(speed / 1e9, 1),
                    "share of copy speed": round(speed * times["copy"] / (2 * moved), 3),
                    "apart": off,
                }
            )
    return found


@torch.inference_mode()
def main() -> None:
    keep_memory()
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--levels", type=int, default=4 if gpu else 1, help="levels of the UNet")
    parser.add_argument("--dtype", choices=list(DTYPES))
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    dtype = DTYPES[args.dtype] if args.dtype else pick_dtype("auto", device)
    rows = []
    for tokens, channels in LEVELS[512][: args.levels]:
        for row in measure(tokens, channels, dtype, device):
            rows.append(row)
            print(row, flush=True)
    if args.json:
        save(args.json, "layers", name_of(dtype), {"frames": FRAMES, "rows": rows})


if __name__ == "__main__":
    main()
