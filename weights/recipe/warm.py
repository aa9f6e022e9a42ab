"""A start from a finished small model of half the size, in place of random weights.

    python -m weights.recipe.warm --work ~/zs2-recipe --model MODEL

Writes what `weights.recipe.train` goes on from: the tokenizer with the new words, both CLIP towers,
a VAE of twice the size whose latents of a picture are at first the old one's of the smaller
picture, and the UNet, which therefore knows them already. It takes hours off.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call

import zs2
from weights.recipe import scenes
from weights.recipe.loop import fit
from weights.recipe.train import (
    FAST,
    PROJECTION,
    STEPS,
    UNET_CONFIG,
    VAE_CONFIG,
    VISION_CONFIG,
    Pool,
    text_config,
)
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet import UNet
from zs2.models.vae import VAE


def merges_of(word: str, merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The merges that a word still needs to become one token, after those that there are."""
    parts = [*word[:-1], word[-1] + "</w>"]
    for a, b in merges:
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == (a, b):
                parts[i : i + 2] = [a + b]
            i += 1
    needed = []
    while len(parts) > 1:
        needed.append((parts[0], parts[1]))
        parts[:2] = [parts[0] + parts[1]]
    return needed


def tokenizer(old: Path, new: Path) -> list[int]:
    """Write the tokenizer with the words that are new; each token's old number, -1 for none."""
    shutil.copytree(old, new, dirs_exist_ok=True)
    lines = (old / "merges.txt").read_text().splitlines()[1:]
    merges = [(a, b) for a, _, b in (line.partition(" ") for line in lines)]
    for word in scenes.words():
        merges += merges_of(word, merges)
    before = json.loads((old / "vocab.json").read_text("utf-8"))
    names = [name for name in before if not name.startswith("<|")][:512]
    names += [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    (new / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    (new / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n"
    )
    Tokenizer.load(new)
    return [before.get(name, -1) for name in names]


def clip(old: Mapping[str, Tensor], numbers: list[int]) -> dict[str, Tensor]:
    """The towers: rows for new tokens, and patches of twice the side."""
    new = dict(old)
    key = "text_model.embeddings.token_embedding.weight"
    rows = torch.randn(len(numbers), old[key].shape[1], generator=torch.Generator().manual_seed(0))
    rows *= old[key].std()
    known = torch.tensor([i for i, n in enumerate(numbers) if n >= 0])
    rows[known] = old[key][[n for n in numbers if n >= 0]]
    new[key] = rows
    key = "vision_model.embeddings.patch_embedding.weight"
    new[key] = old[key].repeat_interleave(2, -1).repeat_interleave(2, -2) / 4
    return new


NEW = {"fish": ["fish"], "house": ["house", "houses"], "cube": ["cube", "cubes"]}
"""Things to find words for: two that no tower knows, and the cube, which came out as a ball."""


def set_apart(clip: CLIP, tokens: Tokenizer, steps: int = 150) -> None:
    """Give the words of NEW rows with which the text tower, as it is, tells them from all others.

    What it makes of a random row lies among what it knows: fish beside houses, and both beside
    balls, which a UNet would take long to tell apart. So each row is moved until its thing lies far
    from the nearest other one. All other captions mean what they did.
    """
    tower = clip.text_model.requires_grad_(False)
    table = tower.embeddings.token_embedding.weight
    things = list(scenes.THINGS)
    new = [things.index(thing) for thing in NEW]
    own = torch.eye(len(things), dtype=torch.bool)[new]
    places = [[int(tokens.encode([word])[0, 1]) for word in forms] for forms in NEW.values()]
    into = torch.tensor([place for forms in places for place in forms])
    thing = torch.tensor([i for i, forms in enumerate(places) for _ in forms])

    torch.manual_seed(0)
    rows = torch.randn(len(NEW), table.shape[1]).requires_grad_()
    # As long as the rows of words that were learnt.
    size = table[tokens.encode(["ball star heart ring moon"])[0, 1:6]].norm(dim=1).mean()
    optimizer = torch.optim.Adam([rows], lr=0.02)
    captions = [
        tokens.encode([replace(scene, thing=thing).caption for thing in things])[:, :16]
        for scene in scenes.sample(24, seed=3)
    ]
    for _ in range(steps):
        learnt = (F.normalize(rows, dim=1) * size)[thing]
        state = {"embeddings.token_embedding.weight": table.index_put((into,), learnt)}
        seen = []
        for ids in captions:  # where the thing is named, at the end, and after it
            hidden = functional_call(tower, state, (ids,))  # (things, 16, D)
            named, end = int((ids[0] != ids[2]).int().argmax()), int(ids[0].argmax())
            seen.append(
                torch.stack((hidden[:, named], hidden[:, end], hidden[:, end + 1 :].mean(1)))
            )
        found = torch.stack(seen)  # (captions, 3, things, D)
        distance = (found[:, :, new, None] - found[:, :, None]).norm(dim=-1).mean(0)
        nearest = -torch.logsumexp(-distance.masked_fill(own, 1e3), dim=-1)  # softly
        optimizer.zero_grad()
        (-nearest.mean()).backward()
        optimizer.step()
    table[into] = learnt.detach()


def vae(old: VAE, pool: Pool, work: Path) -> VAE:
    """A VAE whose latents of a picture are the old one's of the picture at half the size.

    Its inner levels begin as the old one's; encoder and decoder learn the rest apart.
    """
    torch.manual_seed(7)
    model = VAE(VAE_CONFIG)
    state = model.state_dict()
    for key, tensor in old.state_dict().items():
        name = key
        if "encoder.down_blocks." in key:
            level = int(key.split(".")[2])
            name = key.replace(f"down_blocks.{level}.", f"down_blocks.{level + 1}.")
        if name in state and state[name].shape == tensor.shape:
            state[name] = tensor
    model.load_state_dict(state)

    def loss(generator: torch.Generator) -> Tensor:
        x = pool.batch(torch.randint(len(pool.pictures), (8,), generator=generator))
        top, left = (8 * torch.randint(0, 5, (2,), generator=generator)).tolist()
        x = x[..., top : top + 96, left : left + 96]
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            with torch.no_grad():
                target = old.encode(F.avg_pool2d(x, 2))[0].float()
            mean, logvar = model.encode(x)
            y = model.decode(target + 0.05 * torch.randn(target.shape, generator=generator))
        # The spread of a sample about the mean, small as in a trained VAE.
        spread = (logvar.float() + 6).square().mean()
        off = y.float() - x
        edges = sum(off.diff(dim=axis).abs().mean() for axis in (-1, -2))
        near = (mean.float() - target).square().mean()
        return near + off.abs().mean() + edges + 0.01 * spread

    return fit("vae-warm", model, loss, work, steps=STEPS["vae-warm"], lr=2e-3, seed=7)


def begin(work: Path, stage: str, state: Mapping[str, Tensor], step: int = 0) -> None:
    """What `fit` goes on from."""
    saved = {"model": dict(state), "averaged": dict(state), "optimizers": [], "step": step}
    torch.save(saved, work / f"{stage}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the smaller one")
    parser.add_argument("--steps", type=int, default=2000, help="of the VAE")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    STEPS["vae-warm"] = args.steps
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    numbers = tokenizer(args.model / "tokenizer", work / "tokenizer")
    old = {k: v.float() for k, v in load_file(args.model / "clip/model.safetensors").items()}
    both = CLIP(text_config(len(numbers)), VISION_CONFIG, PROJECTION)
    both.load_state_dict(clip(old, numbers))
    set_apart(both, Tokenizer.load(work / "tokenizer"))
    begin(work, "clip", both.state_dict(), STEPS["clip"])
    pipe = zs2.load(args.model, device="cpu", dtype="fp32")
    unet = UNet(UNET_CONFIG)
    unet.load_state_dict(pipe.weights.unet.state_dict())
    begin(work, "unet", unet.state_dict())
    assert isinstance(pipe.weights.vae, VAE)
    whole = vae(pipe.weights.vae, Pool.usual(work), work)
    begin(work, "vae", whole.state_dict())  # from here on its latents may move


if __name__ == "__main__":
    main()
