"""Which family a model is of, told from the names and shapes of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from zs2.checkpoint.header import Entry
from zs2.checkpoint.names import PREFIX
from zs2.models.clip import CLIPTextConfig
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig


class Family(Enum):
    """The families of Stable Diffusion, by the name that people call them."""

    SD1 = "SD 1.x"
    SD2 = "SD 2.x"
    SDXL = "SDXL"

    @staticmethod
    def of(width: object) -> "Family | None":
        """The family whose prompt embeddings have this width."""
        return {768: Family.SD1, 1024: Family.SD2, 2048: Family.SDXL}.get(width)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Preset:
    """The configurations of a family's networks, for files that hold none."""

    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig


PRESETS = {Family.SD1: Preset(UNetConfig(), VAEConfig(), CLIPTextConfig())}
"""Of the families whose single files zs2 reads."""

INPUTS = {4: "", 8: ", Instruct-Pix2Pix"}
"""What a UNet is for that takes so many channels; others are refused."""


@dataclass(frozen=True)
class Kind:
    """What a single file is.

    Attributes:
        words: for people.
        preset: the configurations of its networks; None where zs2 cannot sample from it.
    """

    words: str
    preset: Preset | None = None


def identify(entries: Mapping[str, Entry]) -> Kind:
    """What a file is, from its tensors' names."""

    def has(*parts: str) -> bool:
        return any(part in key for key in entries for part in parts)

    if has("lora_down", "lora_up", "lora_A", "lora.down", "_lora."):
        kind = "a ControlNet LoRA" if has("lora_controlnet") else "a LoRA"
        return Kind(f"{kind}, not a model")
    if has("control_model.", "controlnet_cond_embedding.", "zero_convs."):
        return Kind("a ControlNet, not a model")
    if has("conditioner.embedders."):
        return Kind("an SDXL model, which zs2 does not support yet")
    if has("cond_stage_model.model."):
        return Kind("an SD 2.x single file, which zs2 does not support yet (give its folder)")
    first = PREFIX["unet"] + "input_blocks.0.0.weight"
    if first in entries:
        for component, prefix in PREFIX.items():
            if not has(prefix):
                return Kind(f"a Stable Diffusion file without its {component} ({prefix}*)")
        channels = (*entries[first].shape, 0, 0)[1]
        if odd := unusual_input(channels):
            return Kind(odd)
        preset = PRESETS[Family.SD1]
        unet = replace(preset.unet, in_channels=channels)
        return Kind(f"{Family.SD1.value}{INPUTS[channels]}", replace(preset, unet=unet))
    if has("first_stage_model.", "encoder.down.", "decoder.up_blocks.", "decoder.up."):
        return Kind("a VAE alone, not a model")
    if has("down_blocks.", "mid_block."):
        return Kind("a UNet alone, not a model (give the folder it belongs to)")
    if has("vision_model."):
        return Kind("a CLIP that scores pictures, not a model")
    if has("text_model.", "token_embedding"):
        return Kind("a text encoder alone, not a model")
    return Kind("not a model that zs2 knows")


def unusual_input(channels: Any) -> str | None:
    """What a UNet is that takes what zs2 cannot give it; None for the others."""
    if channels in INPUTS:
        return None
    kind = "an inpainting model" if channels == 9 else f"a UNet with {channels} input channels"
    return f"{kind}, which zs2 does not support yet"
