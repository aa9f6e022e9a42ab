"""Which steps and which guidance should be the small model's own?

    python -m benchmarks.defaults --json benchmarks/results

The share of stills in which all that the prompt names is seen, by the model's own CLIP and by a
judge that shares nothing with it (`weights.recipe.judge`); one value is changed at a time.
"""

import argparse
from pathlib import Path

import zs2
from benchmarks.environment import save
from benchmarks.pictures import shares_right, stills
from weights.recipe.judge import Judge, as_pixels, prompts
from zs2.checkpoint.load import load_clip
from zs2.device import name_of
from zs2.weights import SMALL

STEPS = (8, 12, 20, 50)
CFG = (1.5, 2.5, 4.0, 6.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe, clip, judge = zs2.load(dtype=args.dtype), load_clip(SMALL / "clip"), Judge.load()
    usual, said, rows = pipe.weights.defaults, prompts(args.prompts), []
    for steps, cfg in dict.fromkeys(
        [*((steps, usual.cfg) for steps in STEPS), *((usual.steps, cfg) for cfg in CFG)]
    ):
        pictures = as_pixels(stills(pipe, said, steps, cfg))
        right = shares_right(clip, judge, pictures, said)
        rows.append({"steps": steps, "cfg": cfg, **{who: row["all"] for who, row in right.items()}})
        print(rows[-1], flush=True)
    if args.json:
        told = {"prompts": len(said), "usual": {"steps": usual.steps, "cfg": usual.cfg}}
        save(args.json, "defaults", name_of(pipe.dtype), {**told, "rows": rows})


if __name__ == "__main__":
    main()
