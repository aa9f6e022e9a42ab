"""The configurations of a family's networks, for files that hold none."""

from dataclasses import dataclass, replace

from zs2.checkpoint.kinds import Family, Kind
from zs2.models.clip import CLIPTextConfig
from zs2.models.tokenizer import END
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig


@dataclass(frozen=True)
class Preset:
    """The configurations of a family's networks, for files that hold none.

    Attributes:
        pads: the token that fills up a short prompt, for each text encoder; None is what the
            tokenizer says.
    """

    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig
    text_encoder_2: CLIPTextConfig | None = None
    pads: tuple[str | None, ...] = (None,)


_OPENCLIP = CLIPTextConfig(hidden_act="gelu")
_SD2 = Preset(
    UNetConfig(
        cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    ),
    VAEConfig(),
    replace(
        _OPENCLIP,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=23,
        num_attention_heads=16,
    ),
    pads=("!",),
)
_SDXL = Preset(
    UNetConfig(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=1280 + 6 * 256,
    ),
    VAEConfig(scaling_factor=0.13025, force_upcast=True),
    CLIPTextConfig(),
    replace(
        _OPENCLIP,
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
    ),
    pads=(END, "!"),
)
PRESETS = {
    Family.SD1: Preset(UNetConfig(), VAEConfig(), CLIPTextConfig()),
    Family.SD2: _SD2,
    Family.SDXL: _SDXL,
}


def preset_of(kind: Kind) -> Preset | None:
    """The configurations of a single file's networks; None where nothing tells its family."""
    if kind.family is None:
        return None
    preset = PRESETS[kind.family]
    unet = replace(preset.unet, in_channels=kind.inputs)
    if kind.family is Family.SD2 and kind.prediction == "v":
        # Made for 768 pixels, and its attention overflows in 16 bits.
        unet = replace(unet, sample_size=unet.sample_size * 3 // 2, upcast_attention=True)
    return replace(preset, unet=unet)
