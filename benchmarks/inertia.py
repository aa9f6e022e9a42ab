"""Noise with inertia against the paper's random walk, at equal change from first to last frame.

    python -m benchmarks.inertia --json benchmarks/results

More inertia also carries a clip further, so equal lambdas compare nothing. Each inertia samples the
same prompts with the same seeds at two lambdas, and its figures are read off the straight line
through the two, at the change that all shall have. The 95 % intervals are of the difference to no
inertia, from a bootstrap over prompts that repeats the whole reckoning. Needs
opencv-python-headless.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from benchmarks.motion import clips
from weights.recipe import judge
from weights.recipe.scenes import Scene
from zs2 import media
from zs2.checkpoint.load import load_clip
from zs2.device import DTYPES
from zs2.metrics.differences import appearance_distance, change, motion, persistence
from zs2.noise import DependencyNoise
from zs2.weights import SMALL

# Of each inertia two lambdas, whose clips change by 11 to 16 and by 20 to 24.
LADDERS = {
    0.0: (0.03, 0.12),
    0.5: (0.01, 0.035),
    0.8: (0.004, 0.014),
    0.95: (0.0025, 0.009),
    1.0: (0.0015, 0.006),
}
CHANGES = (15, 20)
# Other lengths, of which the first is everybody's first clip: inertia, lambda, frames, steps.
OTHERS = [
    (0.0, 0.01, 8, 20),
    (0.8, 0.01, 8, 20),
    (0.95, 0.005, 8, 20),
    (0.95, 0.01, 8, 20),
    (0.0, 0.06, 8, 20),
    (0.0, 0.12, 24, 15),
    (0.95, 0.01, 24, 15),
]
SIDE = 256  # flow is found at this size
JUMP = 10  # a pair of frames with a larger residual is a jump
PICTURE = (0.0, 0.95)  # inertia of each row, at the larger lambda

Made = tuple[Tensor, Tensor]  # uint8 frames [P, F, H, W, 3] and latents [P, F, C, h, w] of P clips


def opencv() -> Any:
    """OpenCV, for its optical flow."""
    try:
        return importlib.import_module("cv2")
    except ImportError:
        raise SystemExit(
            "The residual needs optical flow: pip install opencv-python-headless"
        ) from None


def residuals(frames: Tensor) -> Tensor:
    """What Farneback's flow leaves of each pair of uint8 frames [F, H, W, 3]: [F-1], 0..255."""
    cv2 = opencv()
    large = [cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for f in frames.numpy()]
    rows, columns = torch.meshgrid(*[torch.arange(float(SIDE))] * 2, indexing="ij")
    pixel = torch.stack([columns, rows], dim=-1)
    left = []
    for a, b in pairwise(large):
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (b, a)]
        flow = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 4, 21, 5, 7, 1.5, 0)
        at = (pixel + torch.from_numpy(flow)).numpy()
        warped = cv2.remap(a, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        left.append(cv2.absdiff(warped, b).mean())
    return torch.tensor(left)


def measure(made: Made) -> dict[str, list[float]]:
    """Every figure of every clip."""
    frames, latents = made
    left = torch.stack([residuals(one) for one in frames])  # (P, F-1)
    figures = {
        "change": [change(one) for one in frames],
        "adjacent difference": [motion(one) for one in frames],
        "residual": left.mean(1).tolist(),
        "jumps": (left > JUMP).double().mean(1).tolist(),
        "persistence": [persistence(one) for one in latents],
        "appearance": [appearance_distance(one) for one in frames],
    }
    return {name: [round(v, 4) for v in values] for name, values in figures.items()}


def at_change(rungs: list[dict[str, list[float]]], name: str, goal: float, index: Tensor) -> Tensor:
    """A figure at a given change, for draws of prompts [draws, P]: [draws].

    Change and figure are means over prompts; a straight line goes through the two rungs.
    """
    x, y = (
        torch.tensor([rung[kind] for rung in rungs], dtype=torch.float64)[:, index].mean(-1)
        for kind in ("change", name)
    )
    return y[0] + (goal - x[0]) / (x[1] - x[0]) * (y[1] - y[0])


def compare(ladders: dict[float, list[dict[str, list[float]]]], goal: float) -> dict[str, Any]:
    """For each inertia each figure at a change of `goal`, and its interval against inertia 0."""
    count = len(ladders[0.0][0]["change"])
    everyone = torch.arange(count)[None]
    draws = torch.randint(count, (10_000, count), generator=torch.Generator().manual_seed(0))
    rows: dict[str, Any] = {}
    for inertia, rungs in ladders.items():
        row = rows[f"{inertia:g}"] = {}
        for name in rungs[0]:
            difference = at_change(rungs, name, goal, draws)
            difference -= at_change(ladders[0.0], name, goal, draws)
            row[name] = {
                "mean": float(at_change(rungs, name, goal, everyone)),
                "difference": [float(difference.quantile(q)) for q in (0.025, 0.975)],
            }
    return rows


def right(frames: Tensor, said: list[Scene]) -> float:
    """Share of clips [P, F, H, W, 3] whose every frame shows the prompted colour and thing."""
    clip, tokenizer = load_clip(SMALL / "clip")
    kept = [
        all(
            bool(judge.named(clip, tokenizer, judge.as_pixels(one), [scene] * len(one), what).all())
            for what in ("colour", "thing")
        )
        for one, scene in zip(frames, said, strict=True)
    ]
    return sum(kept) / len(kept)


def picture(rows: list[Tensor], scale: int = 2, gap: int = 4) -> Tensor:
    """Every second frame of each clip [F, H, W, 3] in a row of its own: uint8 [H', W', 3]."""
    frames = torch.cat([row[::2] for row in rows])
    large = frames.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    large = torch.nn.functional.pad(large, (0, 0, 0, gap, 0, gap), value=255)
    return media.contact_sheet(large, columns=len(frames) // len(rows))[:-gap, :-gap].contiguous()


def keeper(folder: Path | None) -> Callable[[str, Callable[[], Made]], Made]:
    """What makes clips, or reads them from the folder where an earlier run left them."""

    def keep(name: str, make: Callable[[], Made]) -> Made:
        path = folder / f"{name}.pt" if folder else None
        if path is None:
            return make()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(make(), path)
        made: Made = torch.load(path)
        return made

    return keep


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what inertia does at equal change.")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--keep", type=Path, help="folder of clips: a second run makes no new ones")
    parser.add_argument("--picture", type=Path, help="also write the README's picture")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()

    opencv()  # say at once that it is missing
    began = time.monotonic()
    pipe, said, keep = zs2.load(dtype=args.dtype), judge.prompts(args.prompts), keeper(args.keep)

    def made(inertia: float, lam: float, frames: int, steps: int) -> Made:
        def make() -> Made:
            noise = DependencyNoise(lam, inertia=inertia)
            batch = clips(pipe, said, frames, steps, noise=noise)
            return torch.stack([c.frames for c in batch]), torch.stack([c.latents for c in batch])

        return keep(f"{inertia:g}_{lam:g}_{frames}_{steps}", make)

    ladders = {
        inertia: [
            {"lam": [lam] * len(said), **measure(made(inertia, lam, args.frames, args.steps))}
            for lam in lams
        ]
        for inertia, lams in LADDERS.items()
    }
    at = {str(goal): compare(ladders, goal) for goal in CHANGES}
    for goal, rows in at.items():
        print(f"change {goal}")
        for label, row in rows.items():
            print(f"  inertia {label:>4}", *(f"{n} {v['mean']:.3f}" for n, v in row.items()))

    others = []
    for inertia, lam, frames, steps in OTHERS:
        one = made(inertia, lam, frames, steps)
        means = {name: sum(values) / len(values) for name, values in measure(one).items()}
        about = {"inertia": inertia, "lam": lam, "frames": frames, "steps": steps}
        others.append({**about, "right": right(one[0], said), **means})
        print(others[-1])
    print(f"{time.monotonic() - began:.0f} s")

    if args.picture:
        # Not picked by eye: the prompt whose clips are nearest to the larger change.
        changes = torch.tensor([ladders[inertia][-1]["change"] for inertia in PICTURE])
        which = int((changes - CHANGES[-1]).abs().sum(0).argmin())
        lams = [LADDERS[inertia][-1] for inertia in PICTURE]
        shown = [
            made(inertia, lam, args.frames, args.steps)[0][which]
            for inertia, lam in zip(PICTURE, lams, strict=True)
        ]
        settings: dict[str, object] = {
            "prompt": said[which].caption,
            "inertia": list(PICTURE),
            "lam": lams,
        }
        media.save(args.picture, picture(shown)[None], fps=1, settings=settings, overwrite=True)
    if args.json:
        result = {
            "prompts": [s.caption for s in said],
            "frames": args.frames,
            "steps": args.steps,
            "ladders": {f"{inertia:g}": rungs for inertia, rungs in ladders.items()},
            "at change": at,
            "other lengths": others,
        }
        dtype = next(name for name, kind in DTYPES.items() if kind == pipe.dtype)
        save(args.json, "inertia", dtype, result)


if __name__ == "__main__":
    main()
