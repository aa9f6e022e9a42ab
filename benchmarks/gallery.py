"""The README's moving pictures, made by the small model: what each capability does.

python -m benchmarks.gallery docs
python -m benchmarks.gallery docs --only loop travel
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import zs2
from weights.recipe import scenes
from weights.recipe.scenes import Scene
from zs2 import media
from zs2.noise import LoopNoise
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.travel import Travel

GAP = 6  # pixels
FRAMES = 16


def beside(clips: list[Tensor], scale: int = 2) -> Tensor:
    """Clips uint8 [F, H, W, 3] enlarged, in a row."""
    large = [c.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for c in clips]
    row = [torch.nn.functional.pad(c, (0, 0, 0, GAP), value=255) for c in large]
    return torch.cat(row, dim=2)[:, :, :-GAP]


def sample(pipe: Pipeline, prompt: str, **options: object) -> Tensor:
    clip = pipe(prompt, frames=FRAMES, **options)  # type: ignore[arg-type]
    assert isinstance(clip, Clip)
    return clip.frames


def clips(pipe: Pipeline) -> Tensor:
    """Two prompts, more motion from left to right."""
    rows = []
    for prompt in ("two big blue stars at night", "a red ball on green grass"):
        row = [sample(pipe, prompt, lam=lam, seed=1) for lam in LAMS]
        rows.append(torch.nn.functional.pad(beside(row, 3), (0, 0, 0, 0, 0, GAP), value=255))
    return torch.cat(rows, dim=1)[:, :-GAP]


def loop(pipe: Pipeline) -> Tensor:
    """Last frames lead back to first ones."""
    said = {"a small purple moon over the sea": 3, "two pink hearts at sunset": 4}
    return beside([sample(pipe, p, noise=LoopNoise(0.02), mu=1.0, seed=s) for p, s in said.items()])


def drawn(thing: str) -> Tensor:
    """A picture that no model made: uint8 [1, H, W, 3]."""
    scene = Scene("a", "big", "yellow", thing, "on green grass")
    picture = scenes.draw([scene], [7])[0]  # (3, H, W) in -1..1
    return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0)[None]


def init(pipe: Pipeline) -> Tensor:
    """A drawn picture, and it set in motion under another prompt."""
    picture = drawn("star")
    made = sample(
        pipe,
        "a big red star on green grass",
        features=[Init(picture, strength=0.75)],
        seed=2,
    )
    return beside([picture.expand_as(made), made])


def mask(pipe: Pipeline) -> Tensor:
    """A clip, and it with its right half made anew."""
    given = sample(pipe, "two big blue stars at night", seed=1)
    right = torch.zeros(1, *given.shape[1:3])
    right[:, :, given.shape[2] // 2 :] = 1
    features = [Init(given, strength=1.0), Mask(given, right)]
    return beside([given, sample(pipe, "two big red stars at night", features=features, seed=3)])


def invert(pipe: Pipeline) -> Tensor:
    """A clip, and its own noise sampled with another prompt."""
    said = "two big blue stars at night"
    given = sample(pipe, said, seed=1)
    features = [Invert(given, prompt=said)]
    return beside([given, sample(pipe, "two big red stars at night", features=features, seed=1)])


def travel(pipe: Pipeline) -> Tensor:
    """The prompt changes over the clip."""
    features = [Travel({FRAMES - 1: "two big red stars on green grass"})]
    return beside([sample(pipe, "two big blue stars at night", features=features, seed=3)])


LAMS = (0.001, 0.003, 0.01, 0.03)
PICTURES: dict[str, Callable[[Pipeline], Tensor]] = {
    "clips": clips,
    "loop": loop,
    "init": init,
    "mask": mask,
    "invert": invert,
    "travel": travel,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES))
    args = parser.parse_args()
    pipe = zs2.load()
    for name in args.only:
        path = args.folder / f"{name}.gif"
        media.save(path, PICTURES[name](pipe).contiguous(), 8, {"picture": name}, overwrite=True)
        print(path)


if __name__ == "__main__":
    main()
