"""Names in other layouts: where a tensor of the Hugging Face layout lies in a CompVis file, and
what older folders call it. Data, for `zs2.checkpoint.single_file` and `folder`.
"""

import re
from collections.abc import Iterator
from functools import cache

from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig

Pairs = Iterator[tuple[str, str]]

# What a CompVis file puts before each component's names. The text encoders' tell the family.
PREFIX = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
TEXT_PREFIXES = {
    "text_encoder": (
        "cond_stage_model.transformer.",  # SD 1.x
        "cond_stage_model.model.",  # SD 2.x
        "conditioner.embedders.0.model.",  # SD 2.x too, where SDXL's program wrote it
        "conditioner.embedders.0.transformer.",  # SDXL
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}

# Names inside a block: Hugging Face, CompVis.
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
UNET_TABLES = {".resnets.": UNET_RESNET}
VAE_TABLES = {".resnets.": VAE_RESNET, ".attentions.": VAE_ATTENTION}

# Older Hugging Face folders: the VAE's attention had names of its own.
OLD_VAE_ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}

# What a CompVis file may hold besides the three networks, and what never matters.
HARMLESS = re.compile(
    r"^(model_ema\.|first_stage_model\.(loss|model_ema)\.|lowvae)|"
    r"^(cond_stage_model|conditioner\.embedders\.0)\.transformer\.text_projection\.|"
    r"(^|\.)(position_ids|logit_scale|betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|"
    r"posterior_\w+|lvlb_weights|scale_factor|num_batches_tracked|decay|num_updates|ztsnr|v_pred)$"
)


def unet_blocks(config: UNetConfig) -> Pairs:
    """Blocks of the UNet: name in the Hugging Face layout, name in a CompVis file."""
    yield "time_embedding.linear_1", "time_embed.0"
    yield "time_embedding.linear_2", "time_embed.2"
    yield "time_embedding.cond_proj", "time_embed.cond_proj"
    yield "add_embedding.linear_1", "label_emb.0.0"
    yield "add_embedding.linear_2", "label_emb.0.2"
    yield "conv_in", "input_blocks.0.0"
    yield "conv_norm_out", "out.0"
    yield "conv_out", "out.2"
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    n = config.layers_per_block + 1  # a level's layers and its resize are numbered in one row
    for i, kind in enumerate(config.up_block_types):
        for j in range(n - 1):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n * i + j + 1}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{n * i + j + 1}.1"
        yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{n * (i + 1)}.0.op"
        for j in range(n):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n * i + j}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{n * i + j}.1"
        after = 2 if "CrossAttn" in kind else 1  # the upsampler follows whatever is there
        yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{n * i + n - 1}.{after}.conv"


def vae_blocks(config: VAEConfig) -> Pairs:
    """Blocks of the VAE: name in the Hugging Face layout, name in a CompVis file."""
    yield "quant_conv", "quant_conv"
    yield "post_quant_conv", "post_quant_conv"
    levels = len(config.block_out_channels)
    for half in ("encoder", "decoder"):
        yield f"{half}.conv_in", f"{half}.conv_in"
        yield f"{half}.conv_norm_out", f"{half}.norm_out"
        yield f"{half}.conv_out", f"{half}.conv_out"
        yield f"{half}.mid_block.resnets.0", f"{half}.mid.block_1"
        yield f"{half}.mid_block.resnets.1", f"{half}.mid.block_2"
        yield f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1"
    for i in range(levels):
        up = levels - 1 - i  # CompVis numbers the way up from the picture's side
        for j in range(config.layers_per_block + 1):
            yield f"encoder.down_blocks.{i}.resnets.{j}", f"encoder.down.{i}.block.{j}"
            yield f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.up.{up}.block.{j}"
        yield f"encoder.down_blocks.{i}.downsamplers.0.conv", f"encoder.down.{i}.downsample.conv"
        yield f"decoder.up_blocks.{i}.upsamplers.0.conv", f"decoder.up.{up}.upsample.conv"


@cache
def _blocks(config: UNetConfig | VAEConfig) -> dict[str, str]:
    return dict(unet_blocks(config) if isinstance(config, UNetConfig) else vae_blocks(config))


def compvis_name(key: str, config: UNetConfig | VAEConfig) -> str:
    """Name in a CompVis file of a tensor that the Hugging Face layout calls `key`.

    Args:
        config: of the component that the key belongs to.

    Raises:
        KeyError: no network of this configuration has it.
    """
    unet = isinstance(config, UNetConfig)
    blocks, words = _blocks(config), key.split(".")
    for end in range(1, len(words)):
        ours = ".".join(words[:end])
        if ours in blocks:
            *inner, kind = words[end:]  # ["conv1"], "weight"
            name = ".".join(inner)
            table = UNET_TABLES if unet else VAE_TABLES
            name = next((t.get(name, name) for part, t in table.items() if part in ours), name)
            prefix = PREFIX["unet" if unet else "vae"]
            return ".".join(part for part in (prefix + blocks[ours], name, kind) if part)
    raise KeyError(key)


def current_name(component: str, key: str) -> str:
    """Today's name for a tensor of a Hugging Face folder, whenever the folder was written."""
    if component.startswith("text_encoder") and not key.startswith(("text_model.", "text_proj")):
        return f"text_model.{key}"
    if component == "vae" and ".attentions." in key:
        block, old, kind = key.rsplit(".", 2)
        if old in OLD_VAE_ATTENTION:
            return f"{block}.{OLD_VAE_ATTENTION[old]}.{kind}"
    return key
