"""The recipe of the small model: scenes, tokenizer, CLIP, VAE and UNet, one after the other.

    python -m weights.recipe.train --work ~/zs2-recipe

Everything is seeded, logged to WORK/log.txt and resumed where it was interrupted; the finished
model is written by `python -m weights.recipe.export`. No data is needed: `scenes.py` draws it.
WORK belongs to one training: what is in it is taken as made by this code, from its own VAE.
"""

import argparse
import copy
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights.recipe import scenes
from weights.recipe.loop import fit, log
from weights.recipe.scenes import Scene
from zs2.condition import Condition
from zs2.models.clip import CLIP, CLIPTextConfig, CLIPVisionConfig
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.schedule import Schedule

SIZE = 128  # pixels
CROP = 64  # pixels a side of what the VAE is trained on
POOL = 40960  # scenes drawn once and kept
SHARD = 1024  # scenes in a file
HOTTEST = math.log(100)  # of CLIP's scale, as in its paper: more makes training unstable
STEPS = {"clip": 10500, "vision": 8000, "vae": 6000, "unet": 7100}
PROMPT_DROPOUT = 0.1
OFTEN = {"cube": 3.0, "flower": 2.5, "house": 2.0, "fish": 2.0}  # the UNet learns them late
FAST = torch.cpu._is_avx512_bf16_supported()  # bf16 helps only processors that have it

VAE_CONFIG = VAEConfig(
    block_out_channels=(32, 32, 64, 96), layers_per_block=1, norm_num_groups=16, scaling_factor=1.0
)
UNET_CONFIG = UNetConfig(
    sample_size=16,
    block_out_channels=(96, 160),
    down_block_types=("CrossAttnDownBlock2D",) * 2,
    up_block_types=("CrossAttnUpBlock2D",) * 2,
    layers_per_block=1,
    cross_attention_dim=128,
    attention_head_dim=4,
)
PROJECTION = 128


def text_config(vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        eos_token_id=vocabulary - 1,
    )


VISION_CONFIG = CLIPVisionConfig(
    image_size=SIZE,
    patch_size=16,
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=4,
    num_attention_heads=4,
)


class Pool:
    """Drawn scenes: what they say, and pictures as uint8 [n, 3, size, size], drawn once.

    Args:
        folder: where the pictures are kept.
        seed: of the first, in millions; the others' follow.
    """

    def __init__(self, folder: Path, said: Sequence[Scene], seed: int, size: int = SIZE) -> None:
        self.scenes, self.folder, self.seed, self.size = said, folder, seed, size
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as workers:
            paths = list(workers.map(self.shard, range(0, len(said), SHARD)))
        self.pictures = torch.cat([torch.load(path, weights_only=True) for path in paths])

    def shard(self, start: int) -> Path:
        """Draw some of the scenes, if that was not done before."""
        path = self.folder / f"{start:06d}.pt"
        if path.exists():
            return path
        drawn = []
        rows = max(1, 64 * SIZE**2 // self.size**2)  # as many as fill the same memory
        for first in range(start, min(start + SHARD, len(self.scenes)), rows):
            part = self.scenes[first : min(first + rows, start + SHARD)]
            seeds = range(self.seed * 10**6 + first, self.seed * 10**6 + first + len(part))
            pictures = scenes.draw(part, seeds, self.size)
            drawn.append(((pictures + 1) * 127.5).round().to(torch.uint8))
        torch.save(torch.cat(drawn), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        return path

    def batch(self, index: Tensor) -> Tensor:
        """Pictures [B, 3, size, size] in -1..1."""
        return self.pictures[index].float() / 127.5 - 1

    @staticmethod
    def usual(work: Path) -> "Pool":
        """What the model learns from."""
        return Pool(work / "scenes", scenes.sample(POOL, seed=1), seed=1)


def train_tokenizer(work: Path) -> Tokenizer:
    """CLIP's BPE in small: all bytes, and merges that make one token of every word of a caption."""
    from tokenizers import Tokenizer as Trained
    from tokenizers import models, pre_tokenizers, trainers

    folder = work / "tokenizer"
    if not (folder / "merges.txt").exists():
        captions = sorted({s.caption for s in scenes.sample(20000, seed=0)})
        trained = Trained(models.BPE(end_of_word_suffix="</w>"))
        trained.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=4096, end_of_word_suffix="</w>", show_progress=False
        )
        trained.train_from_iterator(captions, trainer)
        merges = [tuple(m) for m in json.loads(trained.to_str())["model"]["merges"]]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges)]
        words += ["<|startoftext|>", "<|endoftext|>"]
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = {word: i for i, word in enumerate(words)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n")
        special = {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
        }
        (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
        config = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return Tokenizer.load(folder)


def new_clip(vocabulary: int) -> CLIP:
    """Both towers, with the position of each patch told by sines of its row and column.

    A vision tower that starts out knowing which patches are neighbours learns shapes from a tenth
    of the pictures (Beyer et al., Better plain ViT baselines).
    """
    model = CLIP(text_config(vocabulary), VISION_CONFIG, PROJECTION)
    for embedding in (m for m in model.modules() if isinstance(m, nn.Embedding)):
        nn.init.normal_(embedding.weight, std=0.02)
    side, width = SIZE // VISION_CONFIG.patch_size, VISION_CONFIG.hidden_size
    frequency = 100.0 ** -(torch.arange(width // 4) * 4 / width)
    row, column = (torch.arange(side**2) // side, torch.arange(side**2) % side)
    angles = [axis[:, None] * frequency for axis in (row, column)]
    waves = torch.cat([wave for a in angles for wave in (a.sin(), a.cos())], dim=1)
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight[1:] = 0.5 * waves
    return model


def tables(captions: list[scenes.Scene], pool: Pool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Which caption each scene of the pool has, which captions are held out, and their rivals.

    A caption's rivals in an attribute are those that differ in it alone, itself among them:
    [captions, values], in the order of the attribute's values.
    """
    number = {scene: i for i, scene in enumerate(captions)}
    rivals = {
        name: torch.tensor([[number[replace(s, **{name: v})] for v in values] for s in captions])
        for name, values in scenes.ATTRIBUTES.items()
    }
    caption = torch.tensor([number[s] for s in pool.scenes])
    return caption, torch.tensor([s.held_out for s in captions]), rivals


def train_clip(work: Path, pool: Pool, tokenizer: Tokenizer, vocabulary: int) -> CLIP:
    """Contrastive training where each picture's hardest rivals are always at hand.

    Colour and place tell most captions of a batch apart, so a plain batch would teach little else.
    To each picture's caption come those that differ in the thing, the count or the size alone; a
    picture is compared with all of these, its own and the others'. Held-out captions are left out:
    they would be learnt as never true.
    """
    captions = scenes.every()
    caption, held_out, rivals = tables(captions, pool)
    ids = tokenizer.encode([s.caption for s in captions])
    # The text tower is causal: what follows the longest caption's end changes nothing before it.
    ids = ids[:, : int((ids == vocabulary - 1).int().argmax(1).max()) + 1]

    torch.manual_seed(2)
    model = new_clip(vocabulary)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(POOL, (32,), generator=generator)
        said = caption[index]
        offered = torch.cat(
            [rivals[name][said].flatten() for name in ("thing", "count", "size")]
        ).unique()
        mirrored = torch.rand((32, 1, 1, 1), generator=generator) < 0.5
        pictures = pool.batch(index)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            image = model.encode_image(pictures.where(~mirrored, pictures.flip(-1)))
            text = model.encode_text(ids[offered])
        scores = model.logit_scale.clamp(max=HOTTEST).exp() * image.float() @ text.float().T
        scores = scores.masked_fill(held_out[offered], -1e4)
        things = torch.searchsorted(offered, rivals["thing"][said])
        own = torch.tensor([scenes.THINGS.index(captions[i].thing) for i in said.tolist()])
        among_all = F.cross_entropy(scores, torch.searchsorted(offered, said))
        return among_all + F.cross_entropy(scores.gather(1, things), own)

    return fit("clip", model, loss, work, steps=STEPS["clip"], lr=1e-3, muon=0.01, seed=2)


def train_vision(work: Path, pool: Pool, tokenizer: Tokenizer, vocabulary: int, clip: CLIP) -> CLIP:
    """More steps for the vision tower, which only scores; the text tower stays for the UNet.

    The features of all captions are computed once, and only the projections learn with the tower
    (after Zhai et al., LiT, with the towers' parts exchanged). So each picture can be compared with
    every caption that differs from its own in one attribute, except the held-out ones.
    """
    captions = scenes.every()
    caption, held_out, rivals = tables(captions, pool)
    values = scenes.values(captions)
    ids = tokenizer.encode([s.caption for s in captions])
    end = (ids == vocabulary - 1).int().argmax(1)
    with torch.no_grad():
        hidden = torch.cat([clip.text_model(part) for part in ids.split(256)])
    features = hidden[torch.arange(len(ids)), end]
    model = copy.deepcopy(clip)
    model.text_model.requires_grad_(False)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(POOL, (32,), generator=generator)
        mirrored = torch.rand((32, 1, 1, 1), generator=generator) < 0.5
        top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
        pictures = F.pad(pool.batch(index), (8, 8, 8, 8), mode="replicate")
        pictures = pictures[..., top : top + SIZE, left : left + SIZE]  # shifted by up to 8 pixels
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            image = model.encode_image(pictures.where(~mirrored, pictures.flip(-1)))
        text = F.normalize(model.text_projection(features), dim=-1)
        scores = model.logit_scale.clamp(max=HOTTEST).exp() * image.float() @ text.T
        scores = scores.masked_fill(held_out, -1e4)
        said = caption[index]
        losses = [
            F.cross_entropy(scores.gather(1, rivals[name][said]), values[name][said])
            for name in scenes.ATTRIBUTES
        ]
        return torch.stack(losses).sum()

    # torch's Muon computes in bf16, which other processors imitate, ten times slower.
    muon = 0.004 if FAST else 0
    return fit("vision", model, loss, work, steps=STEPS["vision"], lr=5e-4, muon=muon, seed=5)


def train_vae(work: Path, pool: Pool) -> VAE:
    """L1 reconstruction of crops and their edges; then latents get mean 0 and variance 1.

    What is finished is read from vae-normalised.pt: delete it to train on.
    """
    torch.manual_seed(3)
    model, finished = VAE(VAE_CONFIG), work / "vae-normalised.pt"
    if finished.exists():
        model.load_state_dict(torch.load(finished, weights_only=True))
        return model.eval()

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(POOL, (16,), generator=generator)
        top, left = torch.randint(0, SIZE - CROP + 1, (2,), generator=generator).tolist()
        x = pool.batch(index)[..., top : top + CROP, left : left + CROP]
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            mean, logvar = model.encode(x)
            mean, logvar = mean.float(), logvar.float()
            z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=generator)
            y = model.decode(z).float()
        kl = (mean.square() + logvar.exp() - 1 - logvar).mean()
        off = y - x
        edges = sum(off.diff(dim=axis).abs().mean() for axis in (-1, -2))
        return off.abs().mean() + off.square().mean() + edges + 1e-5 * kl

    averaged = fit("vae", model, loss, work, steps=STEPS["vae"], lr=1.5e-3, seed=3)
    with torch.no_grad():
        latents = torch.cat([averaged.encode(pool.batch(i))[0] for i in batches(2048)])
        normalise(averaged, latents)
    torch.save(averaged.state_dict(), finished)
    return averaged


def normalise(vae: VAE, latents: Tensor) -> None:
    """Fold each latent channel's mean and size into the 1x1 convolutions around it: exact.

    One scaling factor for all channels, as SD has it, could not.
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    assert quant.bias is not None
    assert post.bias is not None
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[:, None, None]


def batches(count: int, size: int = 4) -> list[Tensor]:
    """Rows, so few at once that what is computed of them stays in the cache."""
    return list(torch.arange(count).split(size))


@torch.no_grad()
def encode_pool(work: Path, pool: Pool, vae: VAE) -> Tensor:
    """Latents of the pool, [n, 4, 16, 16] bfloat16, encoded once in a folder."""
    path = work / "latents.pt"
    if not path.exists():
        log.info("encoding the scenes")
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            latents = [vae.encode(pool.batch(i))[0].bfloat16() for i in batches(len(pool.scenes))]
        torch.save(torch.cat(latents), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
    return torch.load(path, weights_only=True)


ALPHA_BAR = Schedule().alpha_bar.float()


def denoising(
    predict: Callable[[Tensor, Tensor], Tensor], latents: Tensor, generator: torch.Generator
) -> Tensor:
    """Loss of epsilon prediction on SD's schedule, weighted by min(SNR, 5) / SNR.

    Hang et al., Min-SNR.

    Args:
        predict: the noise in noised latents [B, C, h, w], at timesteps [B].
    """
    x = latents.float().contiguous(memory_format=torch.channels_last)
    # One timestep from each equal part of the schedule: less variance than independent draws.
    rows = len(x)
    t = (torch.arange(rows) + torch.rand(rows, generator=generator)) * len(ALPHA_BAR) / rows
    t = t.long()
    a = ALPHA_BAR[t][:, None, None, None]
    eps = torch.randn(x.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
        predicted = predict(a.sqrt() * x + (1 - a).sqrt() * eps, t)
    snr = a / (1 - a)
    return ((predicted.float() - eps).square() * (snr.clamp(max=5) / snr)).mean()


def train_unet(
    work: Path, latents: Tensor, often: Tensor, texts: Tensor, empty: Tensor, caption: Tensor
) -> UNet:
    """See `denoising`.

    Args:
        often: weights to draw the latents by, [POOL].
        texts: embeddings of the distinct captions, [n, 77, D].
        empty: which of them is the empty prompt's, [].
        caption: which of them belongs to each latent, [POOL].
    """
    torch.manual_seed(4)
    model = UNet(UNET_CONFIG)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 13 % faster
    for key, parameter in model.named_parameters():  # each residual branch begins at zero
        if key.endswith(("conv2.weight", "proj_out.weight", "conv_out.weight")):
            nn.init.zeros_(parameter)

    def loss(generator: torch.Generator) -> Tensor:
        index = often.multinomial(32, replacement=True, generator=generator)
        dropped = torch.rand(32, generator=generator) < PROMPT_DROPOUT
        told = Condition(texts[caption[index].where(~dropped, empty)].float())
        return denoising(lambda x, t: model(x, t, told), latents[index], generator)

    return fit("unet", model, loss, work, steps=STEPS["unet"], lr=4e-4, seed=4)


@torch.no_grad()
def embed(clip: CLIP, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of the distinct rows of ids, [n, 77, D] bfloat16, and each row's index there."""
    distinct, index = ids.unique(dim=0, return_inverse=True)
    parts = [clip.text_model(part).bfloat16() for part in distinct.split(256)]
    return torch.cat(parts), index


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the small model from nothing.")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--steps", nargs="+", default=[], metavar="STAGE=N", help="other steps")
    parser.add_argument("--stage", choices=[*STEPS, "all"], default="all")
    args = parser.parse_args()
    for stage, _, steps in (given.partition("=") for given in args.steps):
        if stage not in STEPS or not steps.isdecimal():
            parser.error(f"--steps takes STAGE=N, and stages are {', '.join(STEPS)}")
        STEPS[stage] = int(steps)
    args.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(sys.stderr), logging.FileHandler(args.work / "log.txt")],
    )
    pool = Pool.usual(args.work)
    tokenizer = train_tokenizer(args.work)
    ids = tokenizer.encode(["", *(s.caption for s in pool.scenes)])
    vocabulary = int(ids[0, 1]) + 1  # the end token is the last
    if args.stage == "vae":
        train_vae(args.work, pool)
        return
    clip = train_clip(args.work, pool, tokenizer, vocabulary)
    if args.stage in ("vision", "all"):
        train_vision(args.work, pool, tokenizer, vocabulary, clip)
    if args.stage in ("unet", "all"):
        texts, index = embed(clip, ids)
        vae = train_vae(args.work, pool)
        latents = encode_pool(args.work, pool, vae)
        often = torch.tensor([OFTEN.get(s.thing, 1.0) for s in pool.scenes])
        train_unet(args.work, latents, often, texts, index[0], index[1:])


if __name__ == "__main__":
    main()
