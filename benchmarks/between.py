"""Frames made between two others, against repeating and blending: every second one is left out.

    python -m benchmarks.between --json benchmarks/results

Clips of 15 frames at the defaults lose their frames 2, 4, .. 14. The eight that are left get
frames between, by zs2, by repeating the one before and by the mean of both. Warping error is what
optical flow leaves of the difference between neighbours, where they differ; sharpness the mean
gradient of the frames between over that of the frames left out; distance the mean difference to
these, all of 0..255.
"""

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

import zs2
from benchmarks.environment import save
from weights.recipe.scenes import sample
from zs2.device import DTYPES
from zs2.metrics.differences import motion
from zs2.metrics.flow import backwards, residuals
from zs2.noise import DependencyNoise
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.shots.between import Between


class Half:
    """A noise model's frames 1, 3, 5, ..: what is left where every second one is left out."""

    def __init__(self, model: DependencyNoise) -> None:
        self.model = model

    def generate(self, draws: Any, frames: int) -> Any:
        for i, noise in enumerate(self.model.generate(draws, 2 * frames - 1)):
            if i % 2 == 0:
                yield noise


def sharpness(frames: Tensor) -> float:
    """Mean absolute difference of pixels beside and above each other."""
    x = frames.float()
    return float(x.diff(dim=1).abs().mean() + x.diff(dim=2).abs().mean())


def made(pipe: Pipeline, prompt: str, seed: int, steps: int, lam: float) -> dict[str, Tensor]:
    """The clip of 15 frames, and the three that are made of eight of them."""
    noise, half = DependencyNoise(lam), Half(DependencyNoise(lam))
    whole = pipe(prompt, frames=15, seed=seed, steps=steps, noise=noise)
    more = pipe(prompt, frames=8, seed=seed, steps=steps, noise=half, features=[Between(2)])
    assert isinstance(whole, Clip)
    assert isinstance(more, Clip)
    left = more.frames[::2]
    repeated = left.repeat_interleave(2, dim=0)[:15]
    blended = more.frames.clone()
    blended[1::2] = ((left[:-1].float() + left[1:].float()) / 2).round().byte()
    return {"whole": whole.frames, "zs2": more.frames, "repeated": repeated, "blended": blended}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lam", type=float, default=0.01)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load()
    prompts = [scene.caption for scene in sample(args.prompts, seed=15)]
    rows: dict[str, dict[str, list[float]]] = {}
    for seed, prompt in enumerate(prompts):
        clips = made(pipe, prompt, seed, args.steps, args.lam)
        out = clips["whole"]
        for name, frames in clips.items():
            between = frames[1::2]
            left = residuals(frames, backwards(frames))
            moved = (frames[1:] != frames[:-1]).flatten(1).any(1)  # a repeated frame has no error
            figures = {
                "warping error": float(left[moved].mean()) if moved.any() else 0.0,
                "largest step": max(motion(frames[i : i + 2]) for i in range(14)),
                "sharpness": sharpness(between) / sharpness(out[1::2]),
                "distance": float((between.float() - out[1::2].float()).abs().mean()),
            }
            for figure, value in figures.items():
                rows.setdefault(name, {}).setdefault(figure, []).append(round(value, 4))
        means = {n: {f: round(sum(v) / len(v), 3) for f, v in r.items()} for n, r in rows.items()}
        print(seed + 1, means, flush=True)
    if args.json:
        dtype = next(name for name, kind in DTYPES.items() if kind == pipe.dtype)
        result: dict[str, object] = {"prompts": prompts, "steps": args.steps, "lam": args.lam}
        save(args.json, "between", dtype, {**result, "rows": rows})


if __name__ == "__main__":
    main()
