"""Does the picture move as the camera is asked to? Measured by optical flow on the small model.

    python -m benchmarks.camera --json benchmarks/results

20 prompts, 8 frames, each asked to move by 3 pixels a frame of 128 (as fast as Text2Video-Zero's 12
of 512), in four directions by turns, by `--camera` and by Text2Video-Zero's motion field, which
moves frame 1's latents. The flow between neighbours is averaged where the picture has edges.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from weights.recipe.scenes import sample
from zs2 import media
from zs2.device import DTYPES
from zs2.metrics.differences import change, motion
from zs2.metrics.flow import flow, grey
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.shots.camera import Camera
from zs2.shots.text2video_zero import Text2VideoZero

CAMERAS: dict[str, dict[str, Any]] = {
    "camera": {"lam": 0},
    "camera, lam 0.003": {"lam": 0.003},
    "camera, mu 0": {"lam": 0, "mu": 0},
    "camera, cfg 1.5": {"lam": 0, "cfg": 1.5},
}
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def moved(frames: Tensor) -> tuple[float, float]:
    """By how many pixels a frame the edges of uint8 frames [F, H, W, 3] move right and down."""
    pictures = grey(frames)
    flows = torch.cat(
        [flow(a[None], b[None], levels=4, window=31, rounds=5) for a, b in pairwise(pictures)]
    )  # (F-1, 2, H, W)
    down, right = torch.gradient(pictures[:-1], dim=(-2, -1))
    weight = torch.hypot(down, right)[:, None]
    mean = (flows * weight).sum((0, 2, 3)) / weight.sum()
    return float(mean[0]), float(mean[1])


def clip(pipe: Pipeline, method: str, prompt: str, seed: int, by: tuple[float, float]) -> Clip:
    x, y = by
    asked: dict[str, Any] = {"frames": 8, "seed": seed, "steps": 20}
    if method == "text2video-zero":
        size = pipe.weights.defaults.size
        feature: Any = Text2VideoZero(motion=(-512 * x / size, -512 * y / size))
    else:
        feature = Camera(x, y)
        asked |= CAMERAS[method]
    made = pipe(prompt, features=[feature], **asked)
    assert isinstance(made, Clip)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--pixels", type=float, default=3, help="a frame")
    methods = [*CAMERAS, "text2video-zero"]
    parser.add_argument("--methods", nargs="+", default=methods)
    parser.add_argument("--picture", type=Path, help="a .png of some clips, one a row")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load()
    prompts = [scene.caption for scene in sample(args.prompts, seed=16)]
    rows: dict[str, dict[str, list[float]]] = {}
    shown: list[Tensor] = []
    for i, prompt in enumerate(prompts):
        right, down = (args.pixels * d for d in DIRECTIONS[i % 4])
        for method in args.methods:
            frames = clip(pipe, method, prompt, i, (right, down)).frames
            x, y = moved(frames)
            across = math.hypot(x, y)
            along = (x * right + y * down) / args.pixels
            figures = {
                "angle": math.degrees(math.acos(max(-1.0, min(1.0, along / max(across, 1e-6))))),
                "size": across / args.pixels,
                "adjacent difference": motion(frames),
                "change": change(frames),
            }
            for name, value in figures.items():
                rows.setdefault(method, {}).setdefault(name, []).append(round(value, 4))
            if i < 3:
                shown.append(frames)
        print(i + 1, end=" ", flush=True)
        for method, row in rows.items():
            right_way = sum(
                a <= 20 and 0.5 <= s <= 2 for a, s in zip(row["angle"], row["size"], strict=True)
            )
            medians = {n: float(torch.tensor(v).median()) for n, v in row.items()}
            print(f"{method}: {right_way} as asked, {medians}", flush=True)
    if args.picture:
        media.save(args.picture, media.contact_sheet(torch.cat(shown), 8)[None], 1, {}, True)
    if args.json:
        dtype = next(name for name, kind in DTYPES.items() if kind == pipe.dtype)
        side = pipe.weights.defaults.size
        told = {"prompts": prompts, "pixels": args.pixels, "side": side, "rows": rows}
        save(args.json, "camera", dtype, told)


if __name__ == "__main__":
    main()
