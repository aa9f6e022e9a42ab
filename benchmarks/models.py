"""Stable Diffusion 1.5 with random weights: what a measurement of speed or memory needs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zs2
from zs2.ddim import DDIM
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet, UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.pipeline import Pipeline
from zs2.tokenizer import Tokenizer
from zs2.weights import SMALL, Sampling, Weights


def random_network(model: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A network whose weights are small normal numbers: numbers of a real size, never NaN."""
    with torch.device("meta"):
        made: nn.Module = model(config)
    made = made.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in made.parameters():
        parameter.normal_(std=0.02, generator=generator)
    # Convolutions laid out as those that are loaded.
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(model: Path | None, device: torch.device, dtype: torch.dtype) -> Pipeline:
    """The pipeline of a checkpoint, or of SD 1.5's shapes with random weights."""
    if model is not None:
        name = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
        return zs2.load(model, device=str(device), dtype=name)
    weights = Weights(
        tokenizer=Tokenizer.load(SMALL / "tokenizer"),
        text_encoder=random_network(CLIPText, CLIPTextConfig(), device, dtype),
        unet=random_network(UNet, UNetConfig(), device, dtype),
        vae=random_network(VAE, VAEConfig(), device, dtype),
        ddim=DDIM(),
        name="random",
        sample=Sampling(512),
    )
    return Pipeline(weights, device, dtype)


def diffusers_unet(unet: UNet) -> Any:
    """The same UNet in diffusers, sharing the weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        theirs = UNet2DConditionModel(**asdict(unet.config))
    theirs.load_state_dict(unet.state_dict(), assign=True)
    return theirs.eval().requires_grad_(False)


def text2video_zero(pipe: Pipeline) -> Any:
    """diffusers' Text2Video-Zero around the same weights."""
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoZeroPipeline
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
    vae.load_state_dict(weights.vae.state_dict(), assign=True)
    text = CLIPTextModel(TheirTextConfig(**asdict(weights.text_encoder.config))).to(pipe.dtype)
    # Newer transformers leave the prefix out. A buffer of positions is theirs alone.
    ours = weights.text_encoder.state_dict()
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
    made = TextToVideoZeroPipeline(
        vae=vae,
        text_encoder=text.to(pipe.device, pipe.dtype),
        tokenizer=CLIPTokenizer.from_pretrained(SMALL / "tokenizer"),
        unet=diffusers_unet(weights.unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made
