"""A whole clip by its phases, and the UNet step against diffusers' on the same weights.

    python -m benchmarks.sample --json benchmarks/results
    python -m benchmarks.sample --model PATH --size 512 --frames 8

Without --model: SD 1.5's real shapes with random weights. The product rate, which everything else
is a share of, is measured in the same run.
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.environment import save
from benchmarks.models import diffusers_pipeline, diffusers_unet, load
from benchmarks.timing import alternate
from zs2.attention import FrameAttention, Share
from zs2.denoise import Whole
from zs2.device import DTYPES, peak_memory, pick_device, pick_dtype
from zs2.estimate import clip_memory
from zs2.graph import Graph
from zs2.noise import DependencyNoise, sample_noise
from zs2.pipeline import Pipeline

PROMPT = "a bear dancing on the street"
Result = dict[str, Any]
ORDERS = {
    "zs2": Whole(),
    "zs2 --chunk 2": Whole(chunk=2),
    "zs2 --split-guidance": Whole(together=False),
    "zs2 --graph": Whole(graph=True),
}
RIVALS = {
    "diffusers' UNet and DDIM": "StableDiffusionPipeline",
    "Text2Video-Zero": "TextToVideoZeroPipeline",
}


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / alternate({"product": lambda: a @ b}, device)["product"]


def flops(call: Callable[[], Any]) -> int:
    # Imported here: it takes 80 MB, which are no clip's.
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    # torch counts attention on a GPU, and leaves it out on a CPU.
    cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=cpu) as counter:
        call()
    return counter.get_total_flops()


@torch.inference_mode()
def phases(pipe: Pipeline, size: int, frames: int, compare: bool, compile: bool) -> Result:
    """Seconds of every part of a clip, and of diffusers' UNet in the same place."""
    device, unet = pipe.device, pipe.weights.unet
    shape = pipe.latent_shape((size, size))
    noise = sample_noise(DependencyNoise(), [1], frames, shape, device)
    rows = torch.cat([noise[0], noise[0]]).to(pipe.dtype)  # both guidance branches
    told = pipe.encode(["", PROMPT])
    condition = unet.prepare(told)  # once a clip
    t = torch.tensor(500, device=device)

    def step(attention: FrameAttention, unet: Callable[..., Tensor] = unet) -> Tensor:
        return unet(rows, t, condition, Share(attention.momenta(frames, device), keep=False))

    momentum = FrameAttention(0.98)
    calls: dict[str, Callable[[], Any]] = {
        "momentum": lambda: step(momentum),
        "self": lambda: step(FrameAttention(0)),
        "cross-frame": lambda: step(FrameAttention(1)),
    }
    if device.type == "cuda":
        for name in ("momentum", "self"):
            graph = Graph(lambda _, call=calls[name]: call(), device)
            calls[f"{name}, graph"] = partial(graph, rows)
    if compile:
        compiled = torch.compile(unet)
        calls["momentum, compiled"] = lambda: step(momentum, compiled)
    difference = None
    if compare:
        theirs = diffusers_unet(unet)
        spread = told.prompt.repeat_interleave(frames, 0)
        calls["diffusers"] = lambda: theirs(rows, t, spread).sample
        if compile:
            theirs_compiled = torch.compile(theirs)
            calls["diffusers, compiled"] = lambda: theirs_compiled(rows, t, spread).sample
        ours, reference = calls["self"]().float(), calls["diffusers"]().float()
        difference = float((ours - reference).norm() / reference.norm())
    work = flops(calls["self"])
    times = alternate(calls, device, seconds=4.0)
    parts = {
        "text": lambda: pipe.encode(["", PROMPT]),
        "noise": lambda: sample_noise(DependencyNoise(), [1], frames, shape, device),
        "decode": lambda: pipe.decode(noise[0]),
    }
    rate = product_rate(device, pipe.dtype)
    return {
        "UNet step, s": times,
        "UNet step, TFLOP": work / 1e12,
        "UNet step, relative difference to diffusers": difference,
        "share of the product rate": {
            name: work / seconds / rate for name, seconds in times.items()
        },
        "product rate, GFLOP/s": rate / 1e9,
        "parts, s": alternate(parts, device, seconds=1.0),
    }


def contender(
    name: str, pipe: Pipeline, size: int, frames: int, steps: int, copy: bool
) -> Callable[[], Any]:
    """A whole clip from prompt to pixels, by whoever is named; `copy` as for `diffusers_unet`."""
    if name in ORDERS:
        order = ORDERS[name]
        return lambda: pipe(PROMPT, frames=frames, size=size, steps=steps, seed=1, order=order)
    theirs = diffusers_pipeline(RIVALS[name], pipe, copy)
    shared = {"height": size, "width": size, "num_inference_steps": steps, "output_type": "np"}
    if name == "Text2Video-Zero":
        t1 = max(1, steps * 47 // 50)  # its defaults for 50 steps are 44 and 47
        t0 = min(t1 - 1, steps * 44 // 50)
        return lambda: theirs(PROMPT, video_length=frames, t0=t0, t1=t1, **shared)
    return lambda: theirs(PROMPT, num_images_per_prompt=frames, **shared)


def clips(pipe: Pipeline, size: int, frames: int, steps: int, names: list[str]) -> Result:
    """Seconds of a whole clip by each contender, in turn."""
    calls = {name: contender(name, pipe, size, frames, steps, copy=True) for name in names}
    return {"steps": steps, "s": alternate(calls, pipe.device, seconds=4.0)}


def peak(name: str, model: Path | None, size: int, dtype: str) -> None:
    """Sample once in this process; print what it took as JSON: memory resident, or the GPU's."""
    device = pick_device()
    pipe = load(model, device, DTYPES[dtype])
    estimate = None
    if name in ORDERS:
        latent = pipe.latent_shape(size)
        clip = clip_memory(pipe.weights, pipe.dtype, device, 8, latent, ORDERS[name])
        estimate = ((peak_memory(device) or 0) + clip) / 1e6
    contender(name, pipe, size, 8, 2, copy=False)()
    print(json.dumps({"estimate, MB": estimate, "peak, MB": (peak_memory(device) or 0) / 1e6}))


def main() -> None:
    device = pick_device()
    gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint; without it, random weights")
    parser.add_argument("--size", type=int, default=512 if gpu else 256, help="pixels")
    parser.add_argument("--frames", type=int, default=8 if gpu else 4)
    parser.add_argument("--steps", type=int, default=50 if gpu else 2, help="of a whole clip")
    default = [n for n, d in DTYPES.items() if d == pick_dtype("auto", device)]
    default = default if gpu else ["fp32", *default]
    parser.add_argument("--dtypes", nargs="+", default=default, choices=list(DTYPES))
    parser.add_argument("--alone", action="store_true", help="leave diffusers out")
    parser.add_argument("--compile", action="store_true", help="torch.compile both UNets too")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    if args.peak:
        peak(args.peak, args.model, args.size, args.dtypes[0])
        return

    if not args.alone and not find_spec("diffusers"):
        print("diffusers is not installed: zs2 is measured alone", file=sys.stderr)
        args.alone = True
    names = [n for n in ORDERS if gpu or n != "zs2 --graph"] + [*([] if args.alone else RIVALS)]
    results: Result = {}
    for dtype in dict.fromkeys(args.dtypes):
        pipe = load(args.model, device, DTYPES[dtype])
        figures = phases(pipe, args.size, args.frames, not args.alone, args.compile)
        figures["clip"] = clips(pipe, args.size, args.frames, args.steps, names)
        del pipe
        gc.collect()
        memory = {}
        for name in names:
            command = [sys.executable, "-m", "benchmarks.sample", "--peak", name]
            command += ["--size", str(args.size), "--dtypes", dtype]
            command += ["--model", str(args.model)] if args.model else []
            made = subprocess.run(command, capture_output=True, text=True, check=True)
            memory[name] = json.loads(made.stdout.splitlines()[-1])
        figures["8 frames, 2 steps"] = memory
        results[dtype] = figures
        print(f"\n{dtype}, {args.frames} frames of {args.size}x{args.size}")
        print(json.dumps(figures, indent=2))
        if args.json:  # after each precision: what is measured is kept
            model = str(args.model) if args.model else "SD 1.5, random weights"
            result = {"model": model, "size": args.size, "frames": args.frames, "by dtype": results}
            result["left out"] = [d for d in args.dtypes if d not in results]
            name = f"sample {args.model.name}" if args.model else "sample"
            save(args.json, name, ", ".join(results), result)


if __name__ == "__main__":
    main()
