"""The README's moving pictures, made by the small model: what each capability does.

    python -m benchmarks.gallery
    python -m benchmarks.gallery --only loop travel

`benchmarks.pictures --sheet docs/pictures.png` makes the sheet of stills.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import zs2
from benchmarks.family import IMAGE_CFG, as_bytes, by_lanczos, panned
from weights.recipe import scenes
from weights.recipe.scenes import Scene
from zs2 import media
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.checkpoint.esrgan import load_esrgan
from zs2.models.esrgan import upscale
from zs2.noise import DependencyNoise, LoopNoise
from zs2.pipeline import Feature, Pipeline
from zs2.shot import Clip
from zs2.shots.between import Between
from zs2.shots.camera import Camera
from zs2.shots.control import Control
from zs2.shots.edit import Edit
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.travel import Travel

FAMILY = Path(__file__).parents[1] / "weights"
GAP = 6  # pixels
FRAMES = 16


def beside(clips: list[Tensor]) -> Tensor:
    """Clips uint8 [F, H, W, 3] in a row."""
    row = [torch.nn.functional.pad(c, (0, 0, 0, GAP), value=255) for c in clips]
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
        rows.append(torch.nn.functional.pad(beside(row), (0, 0, 0, 0, 0, GAP), value=255))
    return torch.cat(rows, dim=1)[:, :-GAP]


def inertia(pipe: Pipeline) -> Tensor:
    """The paper's walk above, motion with inertia below, every second frame, as a sheet."""
    rows = []
    for model in (DependencyNoise(0.12, inertia=0.0), DependencyNoise(0.009, inertia=0.95)):
        clip = pipe("a yellow star over the sea", frames=FRAMES, seed=1, noise=model)
        assert isinstance(clip, Clip)
        rows.append(clip.frames[::2])
    frames = torch.nn.functional.pad(torch.cat(rows), (0, 0, 0, GAP, 0, GAP), value=255)
    return media.contact_sheet(frames, FRAMES // 2)[None, :-GAP, :-GAP]


def loop(pipe: Pipeline) -> Tensor:
    """Last frames lead back to first ones."""
    said = {"a small purple moon over the sea": 3, "two pink hearts at sunset": 4}
    return beside([sample(pipe, p, noise=LoopNoise(0.02), mu=1.0, seed=s) for p, s in said.items()])


def init(pipe: Pipeline) -> Tensor:
    """A picture that no model made, and it set in motion."""
    scene = Scene("a", "big", "yellow", "star", "on green grass")
    picture = as_bytes(scenes.draw([scene], [10]))
    features: list[Feature] = [Init(picture, strength=0.6)]
    made = sample(pipe, scene.caption, lam=0.03, features=features, seed=2)
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
    features = [Travel({FRAMES - 1: "a big blue ball on yellow sand"})]
    return beside([sample(pipe, "a big red ball on yellow sand", features=features, seed=1)])


def camera(pipe: Pipeline) -> Tensor:
    """Stills under a camera that pans."""
    said = {"a small red ball over the sea": 3, "two pink hearts at sunset": -3}
    return beside(
        [
            sample(pipe, prompt, lam=0, cfg=1.5, seed=1, features=[Camera(x=x)])
            for prompt, x in said.items()
        ]
    )


def between(pipe: Pipeline) -> Tensor:
    """Frames between, blended above and the model's own below, as a sheet."""
    noise = DependencyNoise(0.03)
    clip = pipe("a red ball over the sea", frames=4, seed=1, noise=noise, features=[Between(2)])
    assert isinstance(clip, Clip)
    blended = clip.frames.clone()
    left = clip.frames[::2].float()
    blended[1::2] = ((left[:-1] + left[1:]) / 2).round().byte()
    return media.contact_sheet(torch.cat([blended, clip.frames]), len(blended))[None]


def drag(pipe: Pipeline) -> Tensor:
    """A star cut out and dragged, and what is made of the draft, as a sheet: docs/camera.md."""
    said = "a big yellow star at night"
    clip = pipe(said, frames=1, seed=2)
    assert isinstance(clip, Clip)
    still = clip.frames[0]
    empty = still.clone()
    empty[22:104, 22:106] = still[22:104, 106:107]  # the night goes on where the star was
    draft = empty.repeat(7, 1, 1, 1)
    free = torch.ones(7, *still.shape[:2])
    for i, x in enumerate(range(22, 43, 3)):
        draft[i, 22:104, x : x + 84] = still[22:104, 22:106]
        free[i, 22:104, x : x + 84] = 0
    features: list[Feature] = [Init(draft, strength=0.7), Mask(draft, free, strength=0.4)]
    made = pipe(said, frames=7, seed=2, features=features)
    assert isinstance(made, Clip)
    return media.contact_sheet(torch.cat([draft, made.frames]), 7)[None]


def control(pipe: Pipeline) -> Tensor:
    """A drawn scene under a camera that pans, its edges, and what two prompts make of them."""
    given = panned(Scene("two", "big", "yellow", "star", "on yellow sand"), 5, frames=FRAMES)
    maps = canny(given, 100, 200)
    net = load_control(FAMILY / "edges", pipe.weights)
    said = ("two big red stars on green grass", "two big blue stars at night")
    made = [sample(pipe, prompt, seed=1, features=[Control(net, maps)]) for prompt in said]
    return beside([given, maps, *made])


def extend(pipe: Pipeline) -> Tensor:
    """Every eighth frame of a clip of 32, and of the same one with 64, as a sheet."""
    rows = []
    for frames in (32, 64):
        clip = pipe("a red ball on green grass", frames=frames, lam=0.003, seed=1)
        assert isinstance(clip, Clip)
        row = clip.frames[::8]
        rows.append(torch.cat([row, torch.full_like(row[:1], 255).repeat(8 - len(row), 1, 1, 1)]))
    return media.contact_sheet(torch.cat(rows), 8)[None]


def edit(pipe: Pipeline) -> Tensor:
    """A clip, and what an editor makes of it that is told what to change."""
    given = sample(pipe, "a red ball on green grass", seed=1)
    editor = zs2.load(FAMILY / "editor")
    said = ("make it night", "make it blue", "make it two")
    return beside(
        [given, *(sample(editor, p, seed=1, features=[Edit(given, IMAGE_CFG)]) for p in said)]
    )


def larger(pipe: Pipeline) -> Tensor:
    """A part of a picture four times as large: by Lanczos' filter, and by the upscaler."""
    clip = pipe("a big yellow star at night", frames=1, seed=2)
    assert isinstance(clip, Clip)
    small = clip.frames[0]
    net = load_esrgan(FAMILY / "upscaler.safetensors", pipe.device, torch.float32)
    with torch.inference_mode():
        ours = upscale(net, small.permute(2, 0, 1) / 255).permute(1, 2, 0)
    both = (by_lanczos(small, 512), (ours * 255).round().byte())
    return beside([whole[None, 128:384, 128:384] for whole in both])


LAMS = (0.001, 0.003, 0.01, 0.03)
PICTURES: dict[str, Callable[[Pipeline], Tensor]] = {
    "clips": clips,
    "inertia": inertia,
    "loop": loop,
    "init": init,
    "mask": mask,
    "invert": invert,
    "travel": travel,
    "camera": camera,
    "between": between,
    "drag": drag,
    "control": control,
    "extend": extend,
    "edit": edit,
    "larger": larger,
}


def written(path: Path, frames: Tensor) -> Path:
    """A .png, or a moving .webp: lossy, in a third of a .gif's bytes and with all its colours."""
    path = path.with_suffix(".webp" if len(frames) > 1 else ".png")
    first, *others = map(Image.fromarray, frames.numpy())
    more = {"save_all": True, "append_images": others, "duration": 125, "loop": 0, "quality": 90}
    first.save(path, **(more if others else {}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES))
    args = parser.parse_args()
    pipe = zs2.load()
    for name in args.only:
        print(written(args.out / name, PICTURES[name](pipe)))


if __name__ == "__main__":
    main()
