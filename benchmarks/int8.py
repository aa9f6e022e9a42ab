"""Weights in 8 bits against whole ones: what they spare, and what they cost.

    python -m benchmarks.int8 --json benchmarks/results

Error and CLIP score are of the small model's clips; memory, time and the error of a step of SD
1.5's shapes with random weights, each measured in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import zs2
from benchmarks.environment import save
from benchmarks.models import load
from benchmarks.timing import alternate
from weights.recipe import scenes
from zs2.attention import FrameAttention, Share
from zs2.checkpoint.int8 import Int8
from zs2.checkpoint.load import load_clip
from zs2.denoise import Whole
from zs2.device import DTYPES, name_of, peak_memory, pick_device, pick_dtype
from zs2.estimate import model_memory
from zs2.metrics.clip import features, score
from zs2.pipeline import Clip, Pipeline
from zs2.weights import SMALL

PROMPT = "a bear dancing on the street"
FRAMES = 8


def small(clips: int) -> dict[str, float]:
    """The same clips of the small model both ways: decibels between them, and CLIP scores."""
    whole = zs2.load(device="cpu", dtype="fp32")
    eight = zs2.load(device="cpu", dtype="fp32", adapters=[Int8()])
    judge, tokens = load_clip(SMALL / "clip")
    errors: list[float] = []
    scores: dict[str, list[float]] = {"whole": [], "int8": []}
    for seed, scene in enumerate(scenes.sample(clips, seed=8)):
        made = {}
        for name, pipe in {"whole": whole, "int8": eight}.items():
            clip = pipe(scene.caption, frames=FRAMES, steps=20, seed=seed)
            assert isinstance(clip, Clip)
            made[name] = clip.frames
        off = (made["whole"].float() - made["int8"].float()).square().mean()
        errors.append(float(10 * torch.log10(255**2 / off)))
        for name, frames in made.items():
            scores[name].append(score(judge, tokens, features(judge, frames), scene.caption))
    return {"psnr": mean(errors), **{f"clip score, {name}": mean(s) for name, s in scores.items()}}


@torch.inference_mode()
def large(kind: str, size: int, dtype: torch.dtype) -> dict[str, Any]:
    """SD 1.5 in this process, whole or in 8 bits: bytes of the model and the peak of a clip."""
    device = pick_device()
    pipe = load(None, device, dtype)
    if kind == "int8":
        pipe = Pipeline(Int8()(pipe.weights), device, dtype)
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on, not that of loading
    else:
        torch.cuda.reset_peak_memory_stats(device)
    order = Whole(chunk=1, together=False)
    pipe(PROMPT, frames=FRAMES, size=size, steps=1, seed=1, order=order)
    return {"model": model_memory(pipe.weights), "peak": peak_memory(device)}


@torch.inference_mode()
def step(size: int, dtype: torch.dtype) -> dict[str, float]:
    """Seconds of a step with both guidance branches, and the relative error of what it predicts."""
    device = pick_device()
    rows = torch.randn(
        2 * FRAMES, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(0)
    ).to(device, dtype)
    t, momenta = torch.tensor(500, device=device), FrameAttention().momenta(FRAMES, device)
    times, predicted = {}, {}
    pipe = load(None, device, dtype)
    for name in ("whole", "int8"):
        if name == "int8":
            Int8()(pipe.weights)
        unet = pipe.weights.unet
        condition = unet.prepare(pipe.encode(["", PROMPT]))

        def call(unet=unet, condition=condition) -> torch.Tensor:  # type: ignore[no-untyped-def]
            return unet(rows, t, condition, Share(momenta, keep=False))

        times[name] = alternate({name: call}, device, seconds=10.0)[name]
        predicted[name] = call().float()
    error = (predicted["int8"] - predicted["whole"]).norm() / predicted["whole"].norm()
    return {**times, "relative error": float(error)}


def main() -> None:
    device = pick_device()
    usual = pick_dtype("auto", device)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=20, help="of the small model")
    parser.add_argument("--size", type=int, default=512, help="of a clip of SD 1.5, in pixels")
    parser.add_argument("--step-size", type=int, default=512 if device.type == "cuda" else 256)
    parser.add_argument("--dtype", choices=list(DTYPES), default=name_of(usual))
    parser.add_argument("--large", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    dtype = DTYPES[args.dtype]
    if args.large:
        print(json.dumps(large(args.large, args.size, dtype)))
        return
    result: dict[str, Any] = {"size": args.size, "step size": args.step_size, "frames": FRAMES}
    result["memory"] = {}
    for kind in ("whole", "int8"):
        command = [sys.executable, "-m", "benchmarks.int8", "--large", kind]
        command += ["--size", str(args.size), "--dtype", args.dtype]
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result["memory"][kind] = json.loads(made.stdout.splitlines()[-1])
        print(kind, result["memory"][kind], flush=True)
    result["step"] = step(args.step_size, dtype)
    print(result["step"], flush=True)
    result["small model"] = small(args.clips)
    print(result["small model"])
    if args.json:
        save(args.json, "int8", args.dtype, result)


if __name__ == "__main__":
    main()
