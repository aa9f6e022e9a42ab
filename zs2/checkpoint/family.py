"""The configurations of a family's networks, for files that hold none."""

from dataclasses import dataclass, replace

from zs2.checkpoint.kinds import Family, Kind
from zs2.models.clip import CLIPTextConfig
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig


@dataclass(frozen=True)
class Preset:
    """The configurations of a family's networks, for files that hold none."""

    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig


PRESETS = {Family.SD1: Preset(UNetConfig(), VAEConfig(), CLIPTextConfig())}
"""Of the families whose single files zs2 reads."""


def preset_of(kind: Kind) -> Preset | None:
    """The configurations of a single file's networks; None where zs2 reads only folders."""
    preset = PRESETS.get(kind.family) if kind.family else None
    return preset and replace(preset, unet=replace(preset.unet, in_channels=kind.inputs))
