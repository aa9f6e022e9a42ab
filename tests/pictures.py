"""What the tests of image prompts share: an adapter's files, its encoder's, and diffusers' own."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from folders import VAE_KEYS
from parity import scramble
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from zs2.models.ip_adapter import IPAdapter, IPAdapterConfig, cross_attentions
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 20,
    "hidden_act": "gelu",
}


def form(name: str, width: int) -> IPAdapterConfig:
    """A small adapter of each form, for prompts of a width."""
    return {
        "plain": IPAdapterConfig("plain", VISION["projection_dim"], width, tokens=4),
        "plus": IPAdapterConfig(
            "plus", VISION["hidden_size"], width, tokens=5, hidden=128, depth=4
        ),
        "full": IPAdapterConfig("full", VISION["hidden_size"], width),
    }[name]


def write_encoder(folder: Path, config: dict[str, object] = VISION) -> Path:
    scramble(CLIPVisionModelWithProjection(CLIPVisionConfig(**config)), 4).save_pretrained(folder)
    return folder


def write_adapter(path: Path, config: str | IPAdapterConfig, unet: UNet) -> Path:
    """An adapter of random weights, as the published files are; small if its form is named."""
    channels = [attention.to_k.out_features for attention in cross_attentions(unet)]
    if isinstance(config, str):
        config = form(config, unet.config.cross_attention_dim)
    save_file(scramble(IPAdapter(config, channels), 5).state_dict(), path)
    return path


def theirs(config: dict, encoder: Path, side: int) -> tuple[UNet, StableDiffusionPipeline]:
    """A UNet of random weights, and diffusers' pipeline around its twin.

    Args:
        side: of the square picture that the encoder takes.
    """
    unet = scramble(UNet2DConditionModel(**config)).requires_grad_(False)
    with torch.device("meta"):
        ours = UNet(UNetConfig(**config))
    ours.load_state_dict(unet.state_dict(), assign=True)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(**VAE_KEYS),
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size=side, crop_size=side),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(encoder),
    )
    return ours.eval().requires_grad_(False), pipe
