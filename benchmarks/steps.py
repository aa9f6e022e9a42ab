"""The steps of a clip: its first one, and the seams of the paper's longer clips.

    python -m benchmarks.steps --json benchmarks/results

The same clips whole, in segments of 8 frames, whose attention begins anew, without momentum, and
with a lambda that grows over the first frames; all else is alike. A step is the mean
difference between neighbours, 0..255; colour distance is that of the later frames' histograms to
the first frame's, 0..2.
"""

import argparse
from pathlib import Path
from typing import Any

import zs2
from benchmarks.environment import save
from weights.recipe.scenes import sample
from zs2.attention import FrameAttention
from zs2.device import name_of
from zs2.metrics.differences import appearance_distance, motion
from zs2.noise import DependencyNoise
from zs2.shot import Clip

SEGMENT = 8
LAM = 0.006


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load()
    prompts = [scene.caption for scene in sample(args.prompts, seed=16)]
    growing = [min(1.0, i / 4) * LAM for i in range(args.frames)]
    ways: dict[str, dict[str, Any]] = {
        "whole": {},
        f"segments of {SEGMENT}": {"attention": FrameAttention(segment=SEGMENT)},
        "μ 0": {"attention": FrameAttention(0)},
        "λ that grows over 4 frames": {"noise": DependencyNoise(growing)},
    }
    rows: dict[str, dict[str, list[float]]] = {}
    for seed, prompt in enumerate(prompts):
        for name, way in ways.items():
            asked = {"noise": DependencyNoise(LAM), **way}
            clip = pipe(prompt, frames=args.frames, seed=seed, steps=args.steps, **asked)
            assert isinstance(clip, Clip)
            steps = [motion(clip.frames[i : i + 2]) for i in range(args.frames - 1)]
            seam = range(SEGMENT - 1, len(steps), SEGMENT)
            figures = {
                "first step": steps[:1],
                "at seams": [steps[i] for i in seam],
                "elsewhere": [step for i, step in enumerate(steps) if i > 0 and i not in seam],
                "colour distance": [appearance_distance(clip.frames)],
            }
            for figure, values in figures.items():
                mean = round(float(sum(values) / len(values)), 4)
                rows.setdefault(name, {}).setdefault(figure, []).append(mean)
        means = {n: {f: round(sum(v) / len(v), 3) for f, v in r.items()} for n, r in rows.items()}
        print(seed + 1, means, flush=True)
    if args.json:
        told: dict[str, object] = {"prompts": prompts, "frames": args.frames, "steps": args.steps}
        save(args.json, "steps", name_of(pipe.dtype), {**told, "lam": LAM, "rows": rows})


if __name__ == "__main__":
    main()
