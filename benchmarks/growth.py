"""How the time of a UNet step grows with the number of frames and with the size of the picture.

    python -m benchmarks.growth --json benchmarks/results

On a GPU with SD 1.5's shapes and random weights, on a CPU with the small model.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.environment import save
from benchmarks.models import load
from benchmarks.timing import alternate
from zs2.attention import FrameAttention, Share
from zs2.device import DTYPES, pick_device, pick_dtype
from zs2.pipeline import Pipeline
from zs2.weights import SMALL


@torch.inference_mode()
def measure(pipe: Pipeline, frames: int, size: int, seconds: float) -> dict[str, float]:
    """Seconds of a step with both guidance branches, by how frames share attention."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * frames, *pipe.latent_shape((size, size)), generator=generator)
    rows = rows.to(pipe.device, pipe.dtype)
    condition = pipe.encode(["", "a bear dancing on the street"])
    condition = pipe.weights.unet.prepare(condition)
    t = torch.tensor(500, device=pipe.device)
    kinds = {
        "momentum": FrameAttention(0.98),
        "self": FrameAttention(0),
    }

    def step(attention: FrameAttention) -> Tensor:
        share = Share(attention.momenta(frames, pipe.device), keep=False)
        return pipe.weights.unet(rows, t, condition, share)

    calls = {kind: partial(step, attention) for kind, attention in kinds.items()}
    return alternate(calls, pipe.device, seconds=seconds)


def main() -> None:
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    sizes = [256, 384, 512, 640, 768] if gpu else [64, 128, 192, 256, 320]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="pixels")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring each figure")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    dtype = pick_dtype("auto", device)
    pipe = load(None if gpu else SMALL, device, dtype)
    usual = 512 if gpu else 128
    points = [("frames", n, usual) for n in args.frames] + [("size", 8, s) for s in args.sizes]
    rows = []
    for axis, frames, size in points:
        times = measure(pipe, frames, size, args.seconds)
        rows.append({"axis": axis, "frames": frames, "size": size, "seconds": times})
        shown = "  ".join(f"{name} {1000 * value:8.2f} ms" for name, value in times.items())
        print(f"{frames:3} frames of {size}x{size}  {shown}")
    if args.json:
        name = next(n for n, d in DTYPES.items() if d == dtype)
        model = "SD 1.5, random weights" if gpu else "the small model"
        save(args.json, "growth", name, {"model": model, "rows": rows})


if __name__ == "__main__":
    main()
