"""What lambda and mu do, measured on the small model: motion and kept appearance, paired.

    python -m benchmarks.motion --json benchmarks/results

Every setting samples the same prompts with the same seeds, so differences are paired; their mean
comes with a 95 % bootstrap interval.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import zs2
from benchmarks.environment import save
from weights.recipe import judge
from weights.recipe.scenes import Scene
from zs2.checkpoint.load import load_clip
from zs2.device import DTYPES
from zs2.metrics.differences import appearance_distance, motion
from zs2.noise import DependencyNoise, IndependentNoise
from zs2.pipeline import Clip, Pipeline
from zs2.weights import SMALL

BATCH = 5


def paper(lam: float) -> DependencyNoise:
    """The paper's chain; what inertia does is measured apart (`benchmarks.inertia`)."""
    return DependencyNoise(lam, inertia=0.0)


LADDERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "lambda at mu 0.98": [
        (f"{lam:g}", {"noise": paper(lam), "mu": 0.98}) for lam in (0.0, 0.05, 0.1, 0.2)
    ],
    "mu at lambda 0.1": [
        (f"{mu:g}", {"noise": paper(0.1), "mu": mu}) for mu in (0.0, 0.5, 0.98, 1.0)
    ],
    "mu at independent noise": [
        (f"{mu:g}", {"noise": IndependentNoise(), "mu": mu}) for mu in (0.0, 0.5, 0.98, 1.0)
    ],
}


def clips(
    pipe: Pipeline, said: list[Scene], frames: int, steps: int | None, **options: Any
) -> list[Clip]:
    """One clip a scene, seeds 1, 2, ..; None takes the model's own steps."""
    made: list[Clip] = []
    for start in range(0, len(said), BATCH):
        part = said[start : start + BATCH]
        seeds = list(range(start + 1, start + 1 + len(part)))
        batch = pipe([s.caption for s in part], frames=frames, steps=steps, seed=seeds, **options)
        assert isinstance(batch, list)
        made += batch
    return made


def interval(difference: torch.Tensor, draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(difference), (draws, len(difference)), generator=generator)
    means = difference[index].mean(1)
    return float(means.quantile(0.025)), float(means.quantile(0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what lambda and mu do.")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()

    pipe = zs2.load(dtype=args.dtype)
    said = judge.prompts(args.prompts)
    began = time.monotonic()
    known: dict[str, list[Clip]] = {}  # the ladders share a rung

    def rung(options: dict[str, Any]) -> list[Clip]:
        key = repr(options)
        if key not in known:
            known[key] = clips(pipe, said, args.frames, args.steps, **options)
        return known[key]

    ladders = {}
    for name, rungs in LADDERS.items():
        figures = {}
        for value, options in rungs:
            made = rung(options)
            figures[value] = {
                "motion": [round(motion(c.frames), 3) for c in made],
                "appearance": [round(appearance_distance(c.frames), 4) for c in made],
            }
        first, last = (torch.tensor(figures[rungs[i][0]]["motion"]) for i in (0, -1))
        looks = [torch.tensor(figures[rungs[i][0]]["appearance"]) for i in (0, -1)]
        ladders[name] = {
            "rungs": figures,
            "motion, last - first": interval(last - first),
            "appearance, last - first": interval(looks[1] - looks[0]),
        }
        print(name)
        for value, figure in figures.items():
            means = {k: sum(v) / len(v) for k, v in figure.items()}
            print(
                f"  {value:>5}  motion {means['motion']:6.2f}  appearance {means['appearance']:.3f}"
            )
        print(f"  95 % of last - first: motion {ladders[name]['motion, last - first']}")

    still = max(
        int((c.frames.int() - c.frames[:1].int()).abs().max())
        for c in clips(pipe, said[:BATCH], args.frames, args.steps, lam=0.0, mu=1.0)
    )
    clip, tokenizer = load_clip(SMALL / "clip")
    kept, moved = [], []
    for scene, made_clip in zip(said, clips(pipe, said, 8, None), strict=True):
        frames = judge.as_pixels(made_clip.frames)
        eight = [scene] * 8
        kept.append(
            all(
                bool(judge.named(clip, tokenizer, frames, eight, a).all())
                for a in ("colour", "thing")
            )
        )
        moved.append(motion(made_clip.frames))
    defaults = {
        "colour and thing in every frame": sum(kept) / len(kept),
        "motion": sum(moved) / len(moved),
    }
    print(f"lambda 0, mu 1: frames differ by at most {still}\ndefaults: {defaults}")
    print(f"{time.monotonic() - began:.0f} s")
    if args.json:
        result = {
            "prompts": [s.caption for s in said],
            "frames": args.frames,
            "steps": args.steps,
            "ladders": ladders,
            "largest difference at lambda 0, mu 1": still,
            "defaults": defaults,
        }
        dtype = next(name for name, kind in DTYPES.items() if kind == pipe.dtype)
        save(args.json, "motion", dtype, result)


if __name__ == "__main__":
    main()
