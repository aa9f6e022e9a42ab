"""How good the small model is: do its stills show what their prompts say?

    python -m benchmarks.pictures --json benchmarks/results --sheet docs/pictures.png

Its own CLIP and a judge that shares nothing with it (`weights.recipe.judge`) answer. Half of the
prompts are combinations that were never trained on; the same for shuffled prompts tells what
chance would give, and for drawn scenes how far a judge can be trusted. How sharp pictures can be is
told by what the VAE gives back of drawn scenes.
"""

import argparse
from pathlib import Path
from statistics import mean as mean_of

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from weights.recipe import scenes
from weights.recipe.judge import VALUES, Judge, as_pixels, named, prompts
from weights.recipe.scenes import Scene
from zs2 import media
from zs2.checkpoint.load import load_clip
from zs2.device import name_of
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.weights import SMALL

DRAWN = 500  # scenes
SHEET = 64  # pictures
BATCH = 30


def stills(
    pipe: Pipeline, said: list[Scene], steps: int | None = None, cfg: float | None = None
) -> Tensor:
    """One still a scene, uint8 [B, H, W, 3], with seeds 1, 2, .."""
    made = []
    for start in range(0, len(said), BATCH):
        part = said[start : start + BATCH]
        seeds = [start + i for i in range(1, len(part) + 1)]
        clips = pipe([s.caption for s in part], frames=1, seed=seeds, steps=steps, cfg=cfg)
        assert not isinstance(clips, Clip)
        made += [clip.frames for clip in clips]
    return torch.cat(made)


def shares_right(
    clip: tuple[CLIP, Tokenizer], judge: Judge, pictures: Tensor, said: list[Scene]
) -> dict[str, dict[str, float]]:
    """The shares of pictures [B, 3, H, W] that are right: what a CLIP says, and what a judge."""
    answers = {
        "clip": {name: named(*clip, pictures, said, name) for name in VALUES},
        "judge": dict(judge.right(pictures, said)),
    }
    for right in answers.values():
        right["all"] = torch.stack([*right.values()]).all(0)
    return {
        who: {name: round(float(found.float().mean()), 4) for name, found in right.items()}
        for who, right in answers.items()
    }


@torch.inference_mode()
def lost_by_vae(pipe: Pipeline, pictures: Tensor) -> dict[str, float]:
    """What the VAE makes of pictures [B, 3, H, W] in -1..1: mean absolute errors, in 0..1.

    That of edges is of the differences between neighbours; beside it, how large these are.
    """
    vae = pipe.weights.vae
    made = []
    for part in pictures.split(4):
        mean, _ = vae.encode(part.to(pipe.device, vae.dtype))
        made.append(vae.decode(mean).float().cpu())
    off, drawn = (torch.cat(made) - pictures) / 2, pictures / 2

    def edges(x: Tensor) -> float:
        return mean_of([float(x.diff(dim=axis).abs().mean()) for axis in (-1, -2)])

    return {"error": float(off.abs().mean()), "edges off": edges(off), "edges": edges(drawn)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=SMALL)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--steps", type=int, help="the model's own unless told")
    parser.add_argument("--cfg", type=float, help="the model's own unless told")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sheet", type=Path, help="write 64 of the pictures as one .png")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()

    clip, judge = load_clip(args.model / "clip"), Judge.load()
    pipe = zs2.load(args.model, dtype=args.dtype)
    said = prompts(args.prompts)
    frames = stills(pipe, said, args.steps, args.cfg)
    drawn = scenes.sample(DRAWN, seed=6, held_out=True)
    shown = {
        "made": (as_pixels(frames), said),
        "shuffled": (as_pixels(frames), said[7:] + said[:7]),
        "drawn": (scenes.draw(drawn, range(10**9, 10**9 + DRAWN)), drawn),
    }
    figures: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ("clip", "judge")}
    for kind, (pictures, captions) in shown.items():
        for who, shares in shares_right(clip, judge, pictures, captions).items():
            figures[who][kind] = shares
            print(who, kind, shares, flush=True)
    vae = lost_by_vae(pipe, shown["drawn"][0][:100])
    print("vae", vae)
    if args.sheet:
        # The upper half are of trained combinations, the lower of held-out ones.
        chosen = torch.linspace(0, len(said) - 1, SHEET).long()
        for first in range(0, SHEET, 8):
            print(*(said[row].caption for row in chosen[first : first + 8].tolist()), sep=" | ")
        picture = media.contact_sheet(frames[chosen], 8)[None]
        settings: dict[str, object] = {"prompts": [said[row].caption for row in chosen.tolist()]}
        media.save(args.sheet, picture, 1, settings, overwrite=True)
    if args.json:
        result = {"prompts": len(said), "judges": figures, "vae": vae}
        save(args.json, "pictures", name_of(pipe.dtype), result)


if __name__ == "__main__":
    main()
