"""The README's moving picture: one prompt a row, more motion from left to right.

python -m benchmarks.gallery docs/clips.gif
"""

import argparse
from pathlib import Path

import torch

import zs2
from zs2 import media
from zs2.pipeline import Clip

PROMPTS = {"two big blue stars at night": 1, "a red ball on green grass": 1}
LAMS = (0.01, 0.05, 0.1, 0.2)
SCALE, GAP = 3, 6  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's picture.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    args = parser.parse_args()
    pipe = zs2.load()
    rows = []
    for prompt, seed in PROMPTS.items():
        row = []
        for lam in LAMS:
            clip = pipe(prompt, frames=args.frames, lam=lam, seed=seed)
            assert isinstance(clip, Clip)
            large = clip.frames.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)
            row.append(torch.nn.functional.pad(large, (0, 0, 0, GAP, 0, GAP), value=255))
        rows.append(torch.cat(row, dim=2))
    sheet = torch.cat(rows, dim=1)[:, :-GAP, :-GAP].contiguous()
    settings = {"prompts": list(PROMPTS), "lam": list(LAMS)}
    media.save(args.path, sheet, fps=8, settings=settings, overwrite=True)


if __name__ == "__main__":
    main()
