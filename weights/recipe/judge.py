"""Does a picture show what its caption says? Two judges answer, which share nothing.

    python -m weights.recipe.judge --work ~/zs2-judge --out weights/judge.safetensors

One is the model's own CLIP: an attribute is named right when, of all its values with the rest of
the caption kept, the prompted one gets the highest score. The other is a classifier that learnt on
scenes drawn with seeds of its own; it names each attribute alone. `benchmarks.pictures` asks both.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weights.recipe import scenes
from weights.recipe.loop import fit
from weights.recipe.scenes import Scene
from weights.recipe.train import SIZE, Pool
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer

STEPS = 1500
POOL = 8192  # scenes
VALUES = {name: values for name, values in scenes.ATTRIBUTES.items() if name != "size"}
SHIPPED = Path(__file__).parents[1] / "judge.safetensors"


def prompts(count: int = 120, seed: int = 5) -> list[Scene]:
    """Scenes to prompt with: half from trained combinations, half from held-out ones."""
    half = count // 2
    return scenes.sample(half, seed) + scenes.sample(count - half, seed, held_out=True)


def as_pixels(frames: Tensor) -> Tensor:
    """uint8 [F, H, W, 3] to [F, 3, H, W] in -1..1."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def named(
    clip: CLIP, tokenizer: Tokenizer, pictures: Tensor, said: Sequence[Scene], attribute: str
) -> Tensor:
    """Whether CLIP names an attribute right, [B] bool, for pictures [B, 3, H, W] in -1..1."""
    values = VALUES[attribute]
    captions = [replace(s, **{attribute: v}).caption for s in said for v in values]
    distinct = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    texts = clip.encode_text(tokenizer.encode(list(distinct)))
    rivals = torch.tensor([distinct[c] for c in captions]).unflatten(0, (len(said), len(values)))
    scores = (texts[rivals] @ clip.encode_image(pictures)[..., None])[..., 0]  # (B, values)
    return scores.argmax(1) == truths(said)[attribute]


class Judge(nn.Module):
    """Pictures [B, 3, 128, 128] in -1..1 to scores of each attribute's values, [B, values]."""

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
        self.hidden = nn.Linear(4 * width * 16, 128)
        self.heads = nn.ModuleDict({n: nn.Linear(128, len(v)) for n, v in VALUES.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.avg_pool2d(x, 2)  # (B, 3, 64, 64)
        for layer in self.layers:
            x = layer(x)
        h = F.relu(self.hidden(x.flatten(1)))  # (B, 128)
        return {name: head(h) for name, head in self.heads.items()}

    @staticmethod
    def load(path: Path = SHIPPED) -> "Judge":
        judge = Judge()
        judge.load_state_dict(load_file(path))
        return judge.eval()

    @torch.inference_mode()
    def seen(self, pictures: Tensor) -> dict[str, Tensor]:
        """Which value of each attribute pictures [B, 3, H, W] show, [B]."""
        pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        scores = [self(part) for part in pictures.split(64)]
        return {name: torch.cat([s[name] for s in scores]).argmax(1) for name in VALUES}

    def right(self, pictures: Tensor, said: Sequence[Scene]) -> dict[str, Tensor]:
        """Whether each attribute is named as was said, [B] bool, for pictures [B, 3, H, W]."""
        seen = self.seen(pictures)
        return {name: seen[name] == truth for name, truth in truths(said).items()}


def truths(said: Sequence[Scene]) -> dict[str, Tensor]:
    """Which value of each attribute that a judge names scenes have, [B]."""
    found = scenes.values(said)
    return {name: found[name] for name in VALUES}


def roughened(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 3, H, W] less clean than drawn ones: bent, blurred, with spots and noise.

    A judge of drawn scenes alone reads their outlines to the pixel, and takes a ring that is only
    a little soft for a ball. What the model's own VAE or UNet does to pictures it never sees.
    """
    rows, size = len(x), x.shape[-1]

    def smooth(channels: int, cells: int) -> Tensor:
        coarse = torch.randn(rows, channels, cells, cells, generator=generator)
        return F.interpolate(coarse, (size, size), mode="bicubic")

    def strength(most: float) -> Tensor:
        return most * torch.rand(rows, 1, 1, 1, generator=generator)

    grid = F.affine_grid(torch.eye(2, 3).expand(rows, 2, 3), list(x.shape), align_corners=False)
    bend = strength(0.03) * smooth(2, 8)  # of half the picture: two pixels at most, mostly
    x = F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), "bilinear", "border", align_corners=False)
    side = int(torch.randint(size // 3, size, (), generator=generator))
    small = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    x = F.interpolate(small, (size, size), mode="bilinear")
    x = x + strength(0.2) * smooth(3, 16)
    return x + strength(0.2) * torch.randn(x.shape, generator=generator)


def train(work: Path, steps: int = STEPS) -> Judge:
    """On a pool of its own, mirrored, shifted and roughened at random."""
    pool = Pool(work / "judge-scenes", scenes.sample(POOL, seed=77), seed=77)
    told = truths(pool.scenes)
    torch.manual_seed(9)
    judge = Judge()

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(pool.scenes), (64,), generator=generator)
        mirrored = torch.rand((64, 1, 1, 1), generator=generator) < 0.5
        top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
        x = F.pad(pool.batch(index), (8, 8, 8, 8), mode="replicate")
        x = roughened(x[..., top : top + SIZE, left : left + SIZE], generator)
        scores = judge(x.where(~mirrored, x.flip(-1)))
        return torch.stack([F.cross_entropy(scores[n], told[n][index]) for n in VALUES]).sum()

    fit("judge", judge, loss, work, steps=steps, lr=2e-3, seed=9)
    return judge.eval()  # not the average, whose norms have no statistics


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the judge of the small model's pictures.")
    parser.add_argument("--work", type=Path, required=True, help="folder of scenes and checkpoints")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    args.work.mkdir(parents=True, exist_ok=True)
    judge = train(args.work, args.steps)
    save_file({k: v.half() for k, v in judge.state_dict().items()}, args.out)
    said = scenes.sample(1000, seed=78)
    right = judge.right(scenes.draw(said, range(10**8, 10**8 + len(said))), said)
    for name, named_right in right.items():
        print(f"{name}: {100 * named_right.float().mean():.1f} % of scenes it has not seen")


if __name__ == "__main__":
    main()
