"""What computing the UNet's inner levels only now and then gains, and what it changes.

    python -m benchmarks.deepcache --json benchmarks/results

Time is of a step of SD 1.5's shapes with random weights, whole and outer level alone; the change is
of the small model's clips against those of the same seed without it.
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from benchmarks.models import load
from benchmarks.timing import alternate
from weights.recipe import scenes
from zs2.attention import FrameAttention, Share
from zs2.checkpoint.load import load_clip
from zs2.device import DTYPES, name_of, pick_device, pick_dtype
from zs2.metrics.clip import features, score
from zs2.metrics.flow import backwards, residuals
from zs2.pipeline import Clip, Feature
from zs2.shots.deepcache import Cached, DeepCache
from zs2.weights import SMALL

EVERY = (1, 2, 3, 5)
FRAMES = 8


@torch.inference_mode()
def times(size: int, dtype: torch.dtype) -> dict[str, float]:
    """Seconds of a whole step with both guidance branches, and of one of the outer level."""
    device = pick_device()
    pipe = load(None, device, dtype)
    shape = (2 * FRAMES, 4, size // 8, size // 8)
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    condition = pipe.weights.unet.prepare(pipe.encode(["", "a bear dancing on the street"]))
    momenta, t = FrameAttention().momenta(FRAMES, device), torch.tensor(500, device=device)

    def step(kept: int) -> Tensor:
        model = Cached(pipe.weights.unet, 2, kept=made[:kept], step=kept, t=t)
        return model(rows, t, condition, Share(momenta, keep=False))

    first = Cached(pipe.weights.unet, 2)
    first(rows, t, condition, Share(momenta, keep=False))
    made = first.kept
    return alternate({"whole": lambda: step(0), "outer": lambda: step(1)}, device, seconds=5.0)


def changes(clips: int) -> list[dict[str, float]]:
    """By how many steps lie between two whole ones: decibels, CLIP score and residual."""
    pipe = zs2.load(device="cpu", dtype="fp32")
    judge, tokens = load_clip(SMALL / "clip")
    figures: dict[int, list[tuple[float, float, float]]] = {every: [] for every in EVERY}
    for seed, scene in enumerate(scenes.sample(clips, seed=8)):
        exact = None
        for every in EVERY:
            steered: list[Feature] = [DeepCache(every)] if every > 1 else []
            clip = pipe(scene.caption, frames=FRAMES, seed=seed, features=steered)
            assert isinstance(clip, Clip)
            frames = clip.frames
            exact = frames if exact is None else exact
            off = (frames.float() - exact.float()).square().mean()
            shown = score(judge, tokens, features(judge, frames), scene.caption)
            left = float(residuals(frames, backwards(frames)).mean())
            figures[every].append((float(10 * torch.log10(255**2 / off)), shown, left))
    rows = []
    for every, found in figures.items():
        psnr, shown, left = (mean(values) for values in zip(*found, strict=True))
        rows.append({"every": every, "psnr": psnr, "clip score": shown, "residual": left})
        if every == 1:
            del rows[0]["psnr"]  # of a clip to itself
    return rows


def main() -> None:
    device = pick_device()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--size", type=int, default=512 if device.type == "cuda" else 256)
    usual = name_of(pick_dtype("auto", device))
    parser.add_argument("--dtype", choices=list(DTYPES), default=usual)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    result: dict[str, Any] = {"size": args.size, "frames": FRAMES, "clips": args.clips}
    result["step"] = times(args.size, DTYPES[args.dtype])
    print(result["step"], flush=True)
    result["rows"] = changes(args.clips)
    for row in result["rows"]:
        print(row)
    if args.json:
        save(args.json, "deepcache", args.dtype, result)


if __name__ == "__main__":
    main()
