"""What shapes a UNet, named as in the Hugging Face layout."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class UNetConfig:
    """The fields of `unet/config.json` that shape the network; the defaults are SD 1.x's."""

    in_channels: int = 4
    out_channels: int = 4
    sample_size: int = 64
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_head_dim: int | tuple[int, ...] = 8  # holds the NUMBER of heads, whatever its name
    transformer_layers_per_block: int | tuple[int, ...] = 1
    use_linear_projection: bool = False
    upcast_attention: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    addition_embed_type: str | None = None  # "text_time" in SDXL
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    time_cond_proj_dim: int | None = None  # of a model that is told the guidance scale (LCM)

    NEUTRAL: ClassVar[dict[str, object]] = {
        "act_fn": "silu",
        "center_input_sample": False,
        "downsample_padding": 1,
        "dropout": 0.0,
        "encoder_hid_dim_type": None,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "resnet_time_scale_shift": "default",
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "attention_type": "default",
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "addition_embed_type_num_heads": 64,
        "class_embeddings_concat": False,
    }
    """Other keys that real files hold, with the one value that this network computes."""
    OMITTED: ClassVar[dict[str, object]] = {"cross_attention_dim": 1280}
    """What a key that a file leaves out means to diffusers, where our default is another."""

    @property
    def heads(self) -> tuple[int, ...]:
        """Number of attention heads at each level."""
        return self._each(self.attention_head_dim)

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of transformer blocks after each resnet, at each level."""
        return self._each(self.transformer_layers_per_block)

    @property
    def added(self) -> int:
        """Values E of `Condition.added` that the network takes; 0 is none.

        Raises:
            ValueError: they are of a kind that this network does not have.
        """
        kind, width = self.addition_embed_type, self.projection_class_embeddings_input_dim
        if kind not in (None, "text_time") or (kind is None) != (width is None):
            raise ValueError(f"addition_embed_type {kind} with {width} values is not supported")
        return width or 0

    def _each(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * len(self.block_out_channels) if isinstance(value, int) else value
