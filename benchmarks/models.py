"""Stable Diffusion 1.5 with random weights: what a measurement of speed or memory needs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zs2
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.pipeline import Pipeline
from zs2.schedule import Schedule
from zs2.weights import SMALL, Defaults, Weights


def random_network(model: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A network whose weights are small normal numbers: numbers of a real size, never NaN."""
    with torch.device("meta"):
        made: nn.Module = model(config)
    made = made.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    # Convolutions laid out as those that are loaded, while the memory is still untouched: what a
    # copy left behind would count as a clip's.
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator(device).manual_seed(0)
    for parameter in made.parameters():
        parameter.normal_(std=0.02, generator=generator)
    return made


def load(model: Path | None, device: torch.device, dtype: torch.dtype) -> Pipeline:
    """The pipeline of a checkpoint, or of SD 1.5's shapes with random weights."""
    if model is not None:
        name = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
        return zs2.load(model, device=str(device), dtype=name)
    words = Tokenizer.load(SMALL / "tokenizer")
    weights = Weights(
        text=Text((Tower(words, random_network(CLIPText, CLIPTextConfig(), device, dtype)),)),
        unet=random_network(UNet, UNetConfig(), device, dtype),
        vae=random_network(VAE, VAEConfig(), device, dtype),
        schedule=Schedule(),
        name="random",
        defaults=Defaults(512),
    )
    return Pipeline(weights, device, dtype)


def diffusers_unet(unet: UNet, copy: bool = True) -> Any:
    """The same UNet in diffusers.

    Args:
        copy: laid out as diffusers loads it, which is not channels_last; else sharing our memory.
    """
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        theirs = UNet2DConditionModel(**asdict(unet.config))
    theirs.load_state_dict(unet.state_dict(), assign=True)
    if copy:
        theirs.to(memory_format=torch.contiguous_format)
    return theirs.eval().requires_grad_(False)


def diffusers_pipeline(name: str, pipe: Pipeline, copy: bool) -> Any:
    """A pipeline of diffusers by the name of its class, with DDIM; see `diffusers_unet`."""
    import diffusers
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTextConfig as TheirTextConfig
    from transformers import CLIPTextModel, CLIPTokenizer

    weights = pipe.weights
    levels = len(weights.vae.config.block_out_channels)
    with torch.device("meta"):
        vae = AutoencoderKL(
            **asdict(weights.vae.config),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
    assert isinstance(weights.vae, VAE)
    vae.load_state_dict(weights.vae.state_dict(), assign=True)
    if copy:
        vae.to(memory_format=torch.contiguous_format)
    with torch.device("meta"):
        text = CLIPTextModel(TheirTextConfig(**asdict(weights.text.towers[0].encoder.config)))
    # A buffer of positions is theirs alone.
    positions = next(m for m in text.modules() if hasattr(m, "position_ids"))
    positions.position_ids = torch.arange(positions.position_ids.shape[-1])[None]
    # Newer transformers leave the prefix out.
    ours = weights.text.towers[0].encoder.state_dict()
    if not next(iter(text.state_dict())).startswith("text_model."):
        ours = {key.removeprefix("text_model."): tensor for key, tensor in ours.items()}
    text.load_state_dict(ours, assign=True)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    made = getattr(diffusers, name)(
        vae=vae,
        text_encoder=text.to(pipe.device),
        tokenizer=CLIPTokenizer.from_pretrained(SMALL / "tokenizer"),
        unet=diffusers_unet(weights.unet, copy),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made
