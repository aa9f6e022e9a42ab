"""Does a picture show what its caption says? The small model's own CLIP answers.

    python -m weights.recipe.judge --model weights/tiny

An attribute is named right when, of all its values with the rest of the caption kept, the prompted
one gets the highest score. The figures are for 120 prompts, half of them from the combinations
that were never trained on; the same for shuffled prompts tells what chance would give.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from weights.recipe import scenes
from weights.recipe.scenes import Scene
from zs2.checkpoint.load import load_clip
from zs2.device import DTYPES
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer
from zs2.pipeline import Clip, Pipeline

VALUES = {"colour": tuple(scenes.COLOURS), "place": scenes.PLACES, "thing": scenes.THINGS}


def prompts(count: int = 120, seed: int = 5) -> list[Scene]:
    """Scenes to prompt with: half from trained combinations, half from held-out ones."""
    half = count // 2
    return scenes.sample(half, seed) + scenes.sample(count - half, seed, held_out=True)


@torch.inference_mode()
def named(
    clip: CLIP, tokenizer: Tokenizer, pictures: Tensor, said: Sequence[Scene], attribute: str
) -> Tensor:
    """Whether CLIP names an attribute right, [B] bool, for pictures [B, 3, H, W] in -1..1."""
    return among(clip, tokenizer, pictures, said, attribute, VALUES[attribute])


def among(
    clip: CLIP,
    tokenizer: Tokenizer,
    pictures: Tensor,
    said: Sequence[Any],
    attribute: str,
    values: Sequence[str],
) -> Tensor:
    """The same among given values, for scenes of any recipe."""
    captions = [replace(s, **{attribute: v}).caption for s in said for v in values]
    distinct = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    texts = clip.encode_text(tokenizer.encode(list(distinct)))
    rivals = torch.tensor([distinct[c] for c in captions]).unflatten(0, (len(said), len(values)))
    scores = (texts[rivals] @ clip.encode_image(pictures)[..., None])[..., 0]  # (B, values)
    prompted = torch.tensor([values.index(getattr(s, attribute)) for s in said])
    return scores.argmax(1) == prompted


def as_pixels(frames: Tensor) -> Tensor:
    """uint8 [F, H, W, 3] to [F, 3, H, W] in -1..1."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def stills(pipe: Pipeline, said: Sequence[Scene], seed: int = 1, batch: int = 30) -> Tensor:
    """One still a scene, [B, 3, H, W] in -1..1, each with a seed of its own."""
    made = []
    for start in range(0, len(said), batch):
        part = said[start : start + batch]
        seeds = [seed + start + i for i in range(len(part))]
        clips = pipe([s.caption for s in part], frames=1, seed=seeds)
        assert not isinstance(clips, Clip)
        made += [as_pixels(c.frames) for c in clips]
    return torch.cat(made)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the small model with its own CLIP.")
    parser.add_argument("--model", type=Path, default=Path("weights/tiny"))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    clip, tokenizer = load_clip(args.model / "clip")
    said = prompts()
    pipe = zs2.load(args.model, dtype=args.dtype)
    made = stills(pipe, said)
    drawn_scenes = scenes.sample(500, seed=6, held_out=True)
    drawn = scenes.draw(drawn_scenes, range(10**9, 10**9 + 500))
    shuffled = said[7:] + said[:7]
    figures = {}
    for attribute in VALUES:
        figures[attribute] = {
            "made": named(clip, tokenizer, made, said, attribute).float().mean().item(),
            "shuffled": named(clip, tokenizer, made, shuffled, attribute).float().mean().item(),
            "drawn": named(clip, tokenizer, drawn, drawn_scenes, attribute).float().mean().item(),
        }
    print(json.dumps(figures, indent=2))
    if args.json:
        dtype = next(name for name, kind in DTYPES.items() if kind == pipe.dtype)
        save(args.json, "judge", dtype, dict(figures))


if __name__ == "__main__":
    main()
