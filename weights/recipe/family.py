"""What goes with the small model: an edge ControlNet, an editor, a LoRA and an upscaler.

    python -m weights.recipe.family edges --work ~/zs2-recipe
    python -m weights.recipe.family all --work ~/zs2-recipe

Seeded and resumed like the model itself; each writes its folder or file when it is done. WORK is
that of the model: what was trained for other weights has to be deleted from it.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import zs2
from weights.recipe import scenes
from weights.recipe.export import write, write_json
from weights.recipe.loop import fit
from weights.recipe.scenes import Scene
from weights.recipe.train import FAST, PROMPT_DROPOUT, Pool, batches, denoising, encode_pool
from zs2.attention import Share
from zs2.canny import canny
from zs2.condition import Condition
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.esrgan import CompactConfig, CompactNet
from zs2.models.unet import Residuals, UNet
from zs2.models.vae import VAE
from zs2.weights import SMALL, Weights

STEPS = {"edges": 960, "editor": 5000, "lora": 400, "upscaler": 6000}
PAIRS = 12288  # edits drawn once and kept
ROUGH = 0.3  # noise on the picture to edit, of its latents' spread, at most
RANK, ALPHA = 8, 16.0  # of the LoRA
TAUGHT, KNOWN = 1024, 512  # its scenes: in teal, and in colours that the model knows
TEAL = ((0.47, 0.51), (0.80, 1.00), (0.60, 0.85))  # hue, saturation, value: between green and blue
NUMBERS = {"a": "one", "two": "two", "three": "three"}


class Texts:
    """Embeddings [77, D] of the distinct texts of a training set.

    They are made once, or anew for every batch where the text encoder `learns` too.
    """

    def __init__(self, weights: Weights, texts: list[str], learns: bool = False) -> None:
        number = {text: i for i, text in enumerate(dict.fromkeys(["", *texts]))}
        self.encode, self.distinct, self.learns = weights.text, list(number), learns
        self.told = torch.tensor([number[text] for text in texts])
        with torch.no_grad():
            self.embedded = self.made()

    def made(self) -> Tensor:
        parts = [self.distinct[i : i + 256] for i in range(0, len(self.distinct), 256)]
        return torch.cat([self.encode(part, (1, 1)).prompt for part in parts])

    def of(self, index: Tensor, dropped: Tensor) -> Tensor:
        """Of some of the texts, or of the empty one where they are dropped."""
        return (self.made() if self.learns else self.embedded)[self.told[index] * ~dropped]


def train_edges(work: Path, weights: Weights, out: Path) -> None:
    """A copy of the UNet's way down that sees Canny edges; what it adds begins at zero."""
    pool, unet = Pool.usual(work), weights.unet.requires_grad_(False)
    assert isinstance(weights.vae, VAE)
    latents, texts = (
        encode_pool(work, pool, weights.vae),
        Texts(weights, [s.caption for s in pool.scenes]),
    )
    torch.manual_seed(20)
    config = replace(
        ControlNetConfig.of(unet.config), conditioning_embedding_out_channels=(16, 24, 32, 64)
    )
    net = ControlNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.load_state_dict(unet.state_dict(), strict=False)
    # What reads the edges does not begin at zero too, as it does in the paper's: with both, 300
    # steps changed nothing.
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(latents), (32,), generator=generator)
        low = float(60 + 100 * torch.rand((), generator=generator))
        frames = pool.pictures[index].permute(0, 2, 3, 1)
        edges = canny(frames, low, 2 * low).permute(0, 3, 1, 2).float() / 255
        dropped = torch.rand(32, generator=generator) < PROMPT_DROPOUT
        told = Condition(texts.of(index, dropped))

        def predict(x: Tensor, t: Tensor) -> Tensor:
            (picture,) = net.picture(edges)
            late = dict(enumerate(net(x, t, told, Share(), picture)))
            return unet(x, t, told, residuals=Residuals(late=late))

        return denoising(predict, latents[index], generator)

    made = fit("edges", net, loss, work, steps=STEPS["edges"], lr=1.5e-3, seed=20)
    described = {"_class_name": "ControlNetModel", **asdict(config)}
    write(out / "edges", "diffusion_pytorch_model.safetensors", made.state_dict(), described)


def edit(scene: Scene, generator: torch.Generator) -> tuple[Scene, str]:
    """Another scene that differs in one attribute, and the instruction that leads to it."""

    def pick(few: list[str]) -> str:
        return few[int(torch.randint(len(few), (), generator=generator))]

    name = pick(list(scenes.ATTRIBUTES))
    others = [v for v in scenes.ATTRIBUTES[name] if v not in ("", getattr(scene, name))]
    value = pick([v for v in others if not replace(scene, **{name: v}).held_out])
    said = {
        "count": NUMBERS.get(value, ""),
        "thing": f"{'an' if value[0] in 'aeiou' else 'a'} {value}",
        "place": value.split()[-1],
    }
    return replace(scene, **{name: value}), f"make it {said.get(name, value)}"


def train_editor(work: Path, weights: Weights, out: Path) -> None:
    """Instruct-Pix2Pix: the UNet sees the latents of the picture to edit beside the noise.

    A pair's two pictures have one seed: all that the instruction does not name is the same, but
    that other numbers of things stand elsewhere. Text and picture are dropped as by Brooks et al.
    The text encoder learns too, unlike theirs: no caption that it knows is an instruction.
    """
    generator = torch.Generator().manual_seed(21)
    before = scenes.sample(PAIRS, seed=21)
    after, instructions = zip(*(edit(scene, generator) for scene in before), strict=True)
    assert isinstance(weights.vae, VAE)
    source, target = (
        encode_pool(work / name, Pool(work / name, drawn, seed=21), weights.vae)
        for name, drawn in {"before": before, "after": after}.items()
    )
    texts = Texts(weights, list(instructions), learns=True)
    base = weights.unet
    config = replace(base.config, in_channels=2 * base.config.out_channels)
    unet = UNet(config)
    state = base.state_dict()
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    unet.load_state_dict(state)
    unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    (tower,) = weights.text.towers
    both = nn.ModuleDict({"unet": unet, "text": tower.encoder.requires_grad_()})

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(PAIRS, (32,), generator=generator)
        chance = torch.rand(32, generator=generator)
        blind = (chance < 0.05) | ((chance >= 0.1) & (chance < 0.15))
        # The model's own pictures are not quite drawn ones, and what is copied is not edited.
        rough = ROUGH * torch.rand((32, 1, 1, 1), generator=generator)
        seen = source[index].float()
        seen = seen + rough * torch.randn(seen.shape, generator=generator)
        seen = seen.masked_fill(blind[:, None, None, None], 0)
        told = Condition(texts.of(index, chance < 0.1), channels=seen[:, None])
        return denoising(lambda x, t: unet(x, t, told), target[index], generator)

    made = fit("editor", both, loss, work, steps=STEPS["editor"], lr=8e-4, seed=21)
    model = Path(weights.name) if weights.name else SMALL
    for name in ("text_encoder", "vae", "tokenizer", "scheduler"):
        shutil.copytree(model / name, out / "editor" / name, dirs_exist_ok=True)
    index = json.loads((model / "model_index.json").read_text())
    kind = {"_class_name": "StableDiffusionInstructPix2PixPipeline"}
    write_json(out / "editor/model_index.json", {**index, **kind})
    usual = json.loads((model / "zs2.json").read_text())
    words = sorted({word for text in instructions for word in text.split()})
    write_json(out / "editor/zs2.json", {**usual, "words": words})
    described = {"_class_name": "UNet2DConditionModel", **asdict(config)}
    state = made["unet"].state_dict()
    write(out / "editor/unet", "diffusion_pytorch_model.safetensors", state, described)
    described = json.loads((model / "text_encoder/config.json").read_text())
    write(out / "editor/text_encoder", "model.safetensors", made["text"].state_dict(), described)


def in_teal(count: int, seed: int) -> list[Scene]:
    """Scenes of no colour that the model knows: they are drawn in teal."""
    return [replace(s, colour="teal") for s in scenes.sample(count, seed)]


def train_lora(work: Path, weights: Weights, out: Path) -> None:
    """A colour that the model does not know, taught to the UNet's attention by PEFT.

    A third of the scenes is as ever, or every colour would turn into the new one.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    teal = in_teal(TAUGHT, seed=3)
    said = teal + scenes.sample(KNOWN, seed=2)
    latents = []
    scenes.COLOURS["teal"] = TEAL
    try:
        for rows in batches(len(said)):
            seeds = [22 * 10**6 + int(i) for i in rows]
            pictures = scenes.draw([said[i] for i in rows], seeds)
            with torch.no_grad():
                latents.append(weights.vae.encode(pictures)[0])
    finally:
        del scenes.COLOURS["teal"]  # which no other scene may have
    encoded, texts = torch.cat(latents), Texts(weights, [s.caption for s in said])
    torch.manual_seed(22)
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=layers)
    model = get_peft_model(weights.unet.requires_grad_(False), config)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(said), (32,), generator=generator)
        dropped = torch.rand(32, generator=generator) < PROMPT_DROPOUT
        told = Condition(texts.of(index, dropped & (index >= len(teal))))  # no prompt is not teal
        return denoising(lambda x, t: model(x, t, told), encoded[index], generator)

    made = fit("lora", model, loss, work, steps=STEPS["lora"], lr=2e-3, seed=22)
    state = {k: v.half().contiguous() for k, v in get_peft_model_state_dict(made).items()}
    (out / "lora").mkdir(parents=True, exist_ok=True)
    described = {k: v for k, v in config.to_dict().items() if v is not None}
    text = json.dumps(described, indent=2, default=sorted)
    (out / "lora/adapter_config.json").write_text(text + "\n")
    save_file(state, out / "lora/adapter_model.safetensors")
    save_file(kohya(state), out / "lora/teal.safetensors")


def kohya(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """PEFT's tensors by kohya's names."""
    named = {}
    for key, tensor in state.items():
        layer, _, part = (
            key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        )
        stem = "lora_unet_" + layer.replace(".", "_")
        named[f"{stem}.{'lora_down' if part == 'lora_A' else 'lora_up'}.weight"] = tensor
        named[f"{stem}.alpha"] = torch.tensor(ALPHA, dtype=tensor.dtype)
    return named


def given_back(weights: Weights, pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 once through the VAE."""
    latents = weights.vae.encode(pictures * 2 - 1)[0]
    return weights.vae.decode(latents) / 2 + 0.5


def train_upscaler(work: Path, weights: Weights, out: Path) -> None:
    """The compact ESRGAN by L1 alone: scenes of 512 pixels from themselves at 128.

    A quarter of the small ones is as the VAE gives it back, for the model's pictures come from it.
    """
    pool = Pool(work / "large", scenes.sample(384, seed=23), seed=23, size=512)
    torch.manual_seed(23)
    net = CompactNet(CompactConfig(width=40, layers=10))

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(pool.scenes), (8,), generator=generator)
        top, left = torch.randint(0, 512 - 192, (2,), generator=generator).tolist()
        large = pool.pictures[index, :, top : top + 192, left : left + 192].float() / 255
        small = F.interpolate(large, scale_factor=0.25, mode="bicubic", antialias=True)
        with torch.no_grad():
            small[::4] = given_back(weights, small[::4])
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            made = net(small.clamp(0, 1))
        return (made.float() - large).abs().mean()

    made = fit("upscaler", net, loss, work, steps=STEPS["upscaler"], lr=1e-3, seed=23)
    halves = {key: tensor.half().contiguous() for key, tensor in made.state_dict().items()}
    save_file(halves, out / "upscaler.safetensors")


TRAIN: dict[str, Callable[[Path, Weights, Path], None]] = {
    "edges": train_edges,
    "editor": train_editor,
    "lora": train_lora,
    "upscaler": train_upscaler,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=[*TRAIN, "all"])
    parser.add_argument("--work", type=Path, required=True, help="folder of data and checkpoints")
    parser.add_argument("--model", type=Path, default=SMALL, help="the small model")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = TRAIN if args.what == "all" else [args.what]
    if "lora" in names and find_spec("peft") is None:
        parser.error("the LoRA is trained by PEFT: pip install peft")  # hours before its turn
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        STEPS[name] = args.steps or STEPS[name]
        weights = zs2.load(args.model, device="cpu", dtype="fp32").weights
        TRAIN[name](args.work, weights, args.out)


if __name__ == "__main__":
    main()
