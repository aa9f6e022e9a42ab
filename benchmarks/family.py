"""Does the small model's family do what it is for: control, editing, a LoRA, enlarging?

    python -m benchmarks.family --json benchmarks/results

Control: Canny edges of a camera that pans over a drawn scene; F1 of the result's own edges against
them, within 2 pixels, with the ControlNet and without. Editing: a judge that shares nothing with
the model (`weights.recipe.judge`) says in how many frames the instruction was followed, and
what it did not name was kept, for clips of zs2 and for drawn ones. LoRA: the share of pictures that
show the colour it teaches, where that is asked for and where another is. Upscaler: decibels beside
Lanczos on scenes that it has not seen, as drawn and as the VAE gives them back.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import zs2
from benchmarks.camera import moved
from benchmarks.environment import save
from weights.recipe import family, scenes
from weights.recipe.judge import VALUES, Judge, as_pixels, truths
from weights.recipe.scenes import Scene
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.checkpoint.esrgan import load_esrgan
from zs2.checkpoint.lora import LoRA
from zs2.device import name_of
from zs2.pipeline import Feature, Pipeline
from zs2.shot import Clip
from zs2.shots.control import Control
from zs2.shots.edit import Edit
from zs2.weights import SMALL

FRAMES = 8
PAN = 2  # pixels a frame
REACH = 2  # pixels that an edge may be off
IMAGE_CFG = 2.0  # of the editor: at 1.5 it keeps less, at 3.5 it edits less
SEED = 10**9  # of scenes that nothing was trained on

Figures = dict[str, float]


def panned(scene: Scene, seed: int, size: int = 128, frames: int = FRAMES) -> Tensor:
    """A camera that goes to the right over a drawn scene: uint8 [F, size, size, 3]."""
    room = PAN * frames
    wide = scenes.draw([scene], [seed], size + room)[0]  # (3, H, W)
    each = [wide[:, room // 2 : room // 2 + size, PAN * i : PAN * i + size] for i in range(frames)]
    return as_bytes(torch.stack(each))


def as_bytes(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] in -1..1 to uint8 [B, H, W, 3]."""
    return ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous()


def sample(pipe: Pipeline, prompt: str, seed: int, features: list[Feature]) -> Tensor:
    clip = pipe(prompt, frames=FRAMES, seed=seed, features=features)
    assert isinstance(clip, Clip)
    return clip.frames


def f1(made: Tensor, asked: Tensor) -> float:
    """Of edges [F, H, W], 0 or 1, each counted as found where there is one within reach."""

    def near(edges: Tensor) -> Tensor:
        return F.max_pool2d(edges[:, None], 2 * REACH + 1, stride=1, padding=REACH)[:, 0]

    precision = (made * near(asked)).sum() / made.sum().clamp(min=1)
    recall = (asked * near(made)).sum() / asked.sum().clamp(min=1)
    return float(2 * precision * recall / (precision + recall).clamp(min=1e-6))


def edges_of(frames: Tensor) -> Tensor:
    return canny(frames, 100, 200)[..., 0].float() / 255


def control(pipe: Pipeline, folder: Path, clips: int) -> dict[str, Figures]:
    net = load_control(folder / "edges", pipe.weights)
    rows: dict[str, dict[str, list[float]]] = {}
    for seed, scene in enumerate(scenes.sample(clips, seed=31)):
        maps = canny(panned(scene, SEED + seed), 100, 200)
        for name, features in {"with control": [Control(net, maps)], "without": []}.items():
            frames = sample(pipe, scene.caption, seed, [*features])
            right, down = moved(frames)  # the camera goes right, so things go left
            row = rows.setdefault(name, {"F1": [], "follows": []})
            row["F1"].append(f1(edges_of(frames), maps[..., 0].float() / 255))
            row["follows"].append(float(right < -0.5 * PAN and abs(down) < 0.5 * PAN))
    return {name: {f: mean(values) for f, values in row.items()} for name, row in rows.items()}


def edits(count: int) -> list[tuple[Scene, Scene, str]]:
    """Scenes, what they become, and the instruction; size is left out, which no judge names."""
    generator = torch.Generator().manual_seed(35)
    found: list[tuple[Scene, Scene, str]] = []
    for scene in scenes.sample(4 * count, seed=35):
        after, said = family.edit(scene, generator)
        if after.size == scene.size:
            found.append((scene, after, said))
    return found[:count]


def editor(pipe: Pipeline, folder: Path, clips: int) -> dict[str, Figures]:
    editing = zs2.load(folder / "editor", dtype=name_of(pipe.dtype))
    judge = Judge.load()
    rows: dict[str, dict[str, list[float]]] = {}
    for seed, (before, after, said) in enumerate(edits(clips)):
        given = {
            "a clip of zs2": sample(pipe, before.caption, seed, []),
            "a drawn clip": panned(before, SEED + seed),
        }
        (changed,) = (n for n in VALUES if getattr(before, n) != getattr(after, n))
        for name, frames in given.items():
            asked = truths([after])
            old = judge.seen(as_pixels(frames))
            new = judge.seen(as_pixels(sample(editing, said, seed, [Edit(frames, IMAGE_CFG)])))
            row = rows.setdefault(name, {"edit seen": [], "the rest kept": []})
            row["edit seen"].append(float((new[changed] == asked[changed]).float().mean()))
            kept = [float((new[n] == old[n]).float().mean()) for n in VALUES if n != changed]
            row["the rest kept"].append(mean(kept))
    return {name: {f: mean(values) for f, values in row.items()} for name, row in rows.items()}


def shows_teal(pixels: Tensor) -> Tensor:
    """Of pictures [B, 3, H, W] in -1..1, which have it in a fiftieth of their pixels, [B]."""
    r, g, b = ((pixels.clamp(-1, 1) + 1) / 2).unbind(1)
    most, least = torch.maximum(g, b), torch.minimum(g, b)
    teal = (r <= least) & (most > 0.3) & (most - least < 0.3 * (most - r)) & (r < 0.5 * most)
    return teal.float().mean((1, 2)) > 0.02


def lora(pipe: Pipeline, folder: Path, pictures: int) -> dict[str, Figures]:
    adapters = [LoRA(folder / "lora/teal.safetensors")]
    taught = zs2.load(pipe.weights.name or SMALL, dtype=name_of(pipe.dtype), adapters=adapters)
    # Sea and its beach are near that colour themselves.
    near = ("over the sea", "on yellow sand")
    asked = [s for s in family.in_teal(2 * pictures, seed=33) if s.place not in near][:pictures]
    others = [replace(s, colour=c) for s, c in zip(asked, cycle(scenes.COLOURS), strict=False)]
    judge, rows = Judge.load(), {}
    for name, one, said in (
        ("without", pipe, asked),
        ("with the LoRA", taught, asked),
        ("with it, other colours asked for", taught, others),
    ):
        clips = one([s.caption for s in said], frames=1, seed=list(range(len(said))))
        assert not isinstance(clips, Clip)
        pixels = as_pixels(torch.cat([clip.frames for clip in clips]))
        right = judge.right(pixels, others)
        rows[name] = {
            "teal": float(shows_teal(pixels).float().mean()),
            **{n: float(right[n].float().mean()) for n in ("thing", "place", "count")},
        }
    return rows


def by_lanczos(picture: Tensor, side: int) -> Tensor:
    """uint8 [H, W, 3] enlarged by Pillow to uint8 [side, side, 3]."""
    large = Image.fromarray(picture.numpy()).resize((side, side), Image.Resampling.LANCZOS)
    return torch.tensor(list(large.tobytes()), dtype=torch.uint8).view(side, side, 3)


def upscaler(pipe: Pipeline, folder: Path, pictures: int) -> dict[str, Figures]:
    net = load_esrgan(folder / "upscaler.safetensors", torch.device("cpu"), torch.float32)
    said = scenes.sample(pictures, seed=34)
    rows: dict[str, dict[str, list[float]]] = {"Lanczos": {}, "the upscaler": {}}
    for seed, scene in enumerate(said):
        large = (scenes.draw([scene], [SEED + seed], 512) + 1) / 2
        drawn = F.interpolate(large, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
        with torch.inference_mode():
            decoded = family.given_back(pipe.weights, drawn.to(pipe.dtype)).float().clamp(0, 1)
        for kind, small in {"drawn": drawn, "decoded": decoded}.items():
            pixels = (small * 255).round().byte()
            with torch.inference_mode():
                ours = net(pixels / 255)[0].clamp(0, 1)
            theirs = by_lanczos(pixels[0].permute(1, 2, 0), 512).permute(2, 0, 1) / 255
            for row, made in zip(rows.values(), (theirs, ours), strict=True):
                error = (made - large[0]).square().mean()
                row.setdefault(f"{kind}, dB", []).append(float(-10 * error.log10()))
    return {name: {f: mean(values) for f, values in row.items()} for name, row in rows.items()}


MEASURES: dict[str, Callable[[Pipeline, Path, int], dict[str, Figures]]] = {
    "edges": control,
    "editor": editor,
    "lora": lora,
    "upscaler": upscaler,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=SMALL)
    parser.add_argument("--folder", type=Path, default=Path("weights"), help="of the family")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load(args.model, dtype=args.dtype)
    for name in args.only:
        rows = MEASURES[name](pipe, args.folder, args.clips)
        print(name, rows, flush=True)
        if args.json:
            result = {"part": name, "clips": args.clips, "rows": rows}
            save(args.json, f"family {name}", name_of(pipe.dtype), result)


if __name__ == "__main__":
    main()
