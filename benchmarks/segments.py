"""What the paper's longer clips cost at their seams: attention that begins anew every M frames.

    python -m benchmarks.segments --json benchmarks/results

The same clips whole and in segments of 8 frames, noise and all else alike. A step is the mean
difference between neighbours, 0..255; colour distance is that of the later frames' histograms to
the first frame's, 0..2.
"""

import argparse
from pathlib import Path

import zs2
from benchmarks.environment import save
from weights.recipe.scenes import sample
from zs2.attention import FrameAttention
from zs2.device import name_of
from zs2.metrics.differences import appearance_distance, motion
from zs2.shot import Clip

SEGMENT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load()
    prompts = [scene.caption for scene in sample(args.prompts, seed=16)]
    ways = {"whole": FrameAttention(), "segments": FrameAttention(segment=SEGMENT)}
    rows: dict[str, dict[str, list[float]]] = {}
    for seed, prompt in enumerate(prompts):
        for name, attention in ways.items():
            clip = pipe(
                prompt, frames=args.frames, seed=seed, steps=args.steps, attention=attention
            )
            assert isinstance(clip, Clip)
            steps = [motion(clip.frames[i : i + 2]) for i in range(args.frames - 1)]
            seam = range(SEGMENT - 1, len(steps), SEGMENT)
            figures = {
                "at seams": [steps[i] for i in seam],
                "elsewhere": [step for i, step in enumerate(steps) if i > 0 and i not in seam],
                "first step": steps[:1],
                "colour distance": [appearance_distance(clip.frames)],
            }
            for figure, values in figures.items():
                mean = round(float(sum(values) / len(values)), 4)
                rows.setdefault(name, {}).setdefault(figure, []).append(mean)
        means = {n: {f: round(sum(v) / len(v), 3) for f, v in r.items()} for n, r in rows.items()}
        print(seed + 1, means, flush=True)
    if args.json:
        told: dict[str, object] = {"prompts": prompts, "frames": args.frames, "steps": args.steps}
        save(args.json, "segments", name_of(pipe.dtype), {**told, "segment": SEGMENT, "rows": rows})


if __name__ == "__main__":
    main()
