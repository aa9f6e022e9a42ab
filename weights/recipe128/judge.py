"""A judge that shares nothing with the model: a small classifier that learnt on drawn scenes.

    python -m weights.recipe128.judge train --work ~/zs2-128
    python -m weights.recipe128.judge made --work ~/zs2-128 --model weights/tiny --sheet sheet.png

It names count, size, colour, thing and place of a picture, each on its own. Its scenes are drawn
with other seeds than the model's, and its accuracy is told on scenes that it has not seen.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zs2
from weights.recipe.loop import fit
from weights.recipe128 import scenes
from weights.recipe128.scenes import Scene
from weights.recipe128.train import Pool
from zs2 import media
from zs2.pipeline import Pipeline
from zs2.shot import Clip

STEPS = 1500
VALUES = {name: values for name, values in scenes.ATTRIBUTES.items() if name != "size"}


class Judge(nn.Module):
    """Pictures [B, 3, 128, 128] in -1..1 to scores of each attribute's values."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for before, after in pairwise(widths)
        )
        # Where things are, for the count: the last map is not averaged but read whole.
        self.hidden = nn.Linear(4 * width * 16, 256)
        self.heads = nn.ModuleDict({n: nn.Linear(256, len(v)) for n, v in VALUES.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.avg_pool2d(x, 2)  # (B, 3, 64, 64)
        for layer in self.layers:
            x = layer(x)
        h = F.relu(self.hidden(x.flatten(1)))  # (B, 256)
        return {name: head(h) for name, head in self.heads.items()}


def truths(said: Sequence[Scene]) -> dict[str, Tensor]:
    """Which value of each attribute scenes have, [B]."""
    return {
        name: torch.tensor([values.index(getattr(s, name)) for s in said])
        for name, values in VALUES.items()
    }


def train(work: Path, steps: int) -> Judge:
    """On a pool of its own, mirrored and shifted at random."""
    pool = Pool(work / "judge-scenes", scenes.sample(8192, seed=77), seed=77)
    told = truths(pool.scenes)
    torch.manual_seed(9)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(pool.scenes), (64,), generator=generator)
        mirrored = torch.rand((64, 1, 1, 1), generator=generator) < 0.5
        top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
        x = F.pad(pool.batch(index), (8, 8, 8, 8), mode="replicate")
        x = x[..., top : top + 128, left : left + 128]
        x = x + 0.1 * torch.randn(x.shape, generator=generator)
        scores = judge(x.where(~mirrored, x.flip(-1)))
        return torch.stack([F.cross_entropy(scores[n], told[n][index]) for n in VALUES]).sum()

    judge = Judge()
    fit("judge", judge, loss, work, steps=steps, lr=2e-3, seed=9)
    return judge.eval()  # not the average, whose norms have no statistics


@torch.inference_mode()
def right(judge: Judge, pictures: Tensor, said: Sequence[Scene]) -> dict[str, Tensor]:
    """Whether the judge names what was said, [B] bool of each attribute."""
    scores = [judge(part) for part in pictures.split(64)]
    return {
        name: torch.cat([s[name] for s in scores]).argmax(1) == truth
        for name, truth in truths(said).items()
    }


def stills(pipe: Pipeline, said: Sequence[Scene], batch: int = 16) -> Tensor:
    """One still a scene, uint8 [B, H, W, 3], each with a seed of its own."""
    made = []
    for start in range(0, len(said), batch):
        part = said[start : start + batch]
        seeds = list(range(start, start + len(part)))
        clips = pipe([s.caption for s in part], frames=1, seed=seeds)
        assert not isinstance(clips, Clip)
        made += [clip.frames for clip in clips]
    return torch.cat(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["train", "made"])
    parser.add_argument("--work", type=Path, required=True, help="folder of the judge")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--model", type=Path, default=Path("weights/tiny"))
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--sheet", type=Path, help="a .png of 64 of the pictures")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    judge = train(args.work, args.steps)
    if args.what == "train":
        said = scenes.sample(1000, seed=78)
        pictures = scenes.draw(said, range(10**8, 10**8 + len(said)))
    else:
        half = args.prompts // 2
        said = scenes.sample(half, 5) + scenes.sample(args.prompts - half, 5, held_out=True)
        frames = stills(zs2.load(args.model), said)
        if args.sheet:
            media.save(args.sheet, media.contact_sheet(frames[:64], 8)[None], 1, {}, True)
            for i in range(0, 64, 8):
                print([s.caption for s in said[i : i + 8]])
        pictures = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        pictures = F.interpolate(pictures, (128, 128), mode="bilinear", antialias=True)
    found = right(judge, pictures, said)
    shares = {name: round(float(rights.float().mean()), 4) for name, rights in found.items()}
    shares["all"] = round(float(torch.stack([*found.values()]).all(0).float().mean()), 4)
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
