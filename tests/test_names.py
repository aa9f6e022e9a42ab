"""Where tensors lie in a CompVis file: names as SD 1.5's single file has them, written by hand."""

import pytest

from zs2.checkpoint.names import HARMLESS, compvis_name, current_name
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig

UNET = {
    "time_embedding.linear_1.weight": "time_embed.0.weight",
    "time_embedding.linear_2.bias": "time_embed.2.bias",
    "conv_in.weight": "input_blocks.0.0.weight",
    "down_blocks.0.resnets.0.norm1.weight": "input_blocks.1.0.in_layers.0.weight",
    "down_blocks.0.resnets.1.conv1.bias": "input_blocks.2.0.in_layers.2.bias",
    "down_blocks.0.attentions.1.norm.weight": "input_blocks.2.1.norm.weight",
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    ),
    "down_blocks.1.downsamplers.0.conv.bias": "input_blocks.6.0.op.bias",
    "down_blocks.2.downsamplers.0.conv.weight": "input_blocks.9.0.op.weight",
    "down_blocks.3.resnets.1.time_emb_proj.weight": "input_blocks.11.0.emb_layers.1.weight",
    "mid_block.resnets.0.norm2.bias": "middle_block.0.out_layers.0.bias",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (
        "middle_block.1.transformer_blocks.0.ff.net.0.proj.weight"
    ),
    "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
    "up_blocks.0.resnets.2.conv1.weight": "output_blocks.2.0.in_layers.2.weight",
    "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
    "up_blocks.1.attentions.2.proj_in.weight": "output_blocks.5.1.proj_in.weight",
    "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
    "up_blocks.2.upsamplers.0.conv.bias": "output_blocks.8.2.conv.bias",
    "up_blocks.3.resnets.2.conv_shortcut.bias": "output_blocks.11.0.skip_connection.bias",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0.bias": (
        "output_blocks.11.1.transformer_blocks.0.attn1.to_out.0.bias"
    ),
    "conv_norm_out.weight": "out.0.weight",
    "conv_out.bias": "out.2.bias",
}
VAE = {
    "quant_conv.weight": "quant_conv.weight",
    "post_quant_conv.bias": "post_quant_conv.bias",
    "encoder.conv_in.weight": "encoder.conv_in.weight",
    "encoder.down_blocks.0.resnets.0.norm1.weight": "encoder.down.0.block.0.norm1.weight",
    "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (
        "encoder.down.1.block.0.nin_shortcut.weight"
    ),
    "encoder.down_blocks.2.downsamplers.0.conv.bias": "encoder.down.2.downsample.conv.bias",
    "encoder.mid_block.attentions.0.group_norm.weight": "encoder.mid.attn_1.norm.weight",
    "encoder.mid_block.attentions.0.to_q.weight": "encoder.mid.attn_1.q.weight",
    "encoder.mid_block.attentions.0.to_k.bias": "encoder.mid.attn_1.k.bias",
    "encoder.conv_norm_out.bias": "encoder.norm_out.bias",
    "decoder.mid_block.resnets.0.conv1.weight": "decoder.mid.block_1.conv1.weight",
    "decoder.mid_block.resnets.1.conv2.weight": "decoder.mid.block_2.conv2.weight",
    "decoder.mid_block.attentions.0.to_v.weight": "decoder.mid.attn_1.v.weight",
    "decoder.mid_block.attentions.0.to_out.0.weight": "decoder.mid.attn_1.proj_out.weight",
    "decoder.up_blocks.0.resnets.0.conv1.weight": "decoder.up.3.block.0.conv1.weight",
    "decoder.up_blocks.0.upsamplers.0.conv.weight": "decoder.up.3.upsample.conv.weight",
    "decoder.up_blocks.2.resnets.0.conv_shortcut.bias": "decoder.up.1.block.0.nin_shortcut.bias",
    "decoder.up_blocks.3.resnets.2.norm2.weight": "decoder.up.0.block.2.norm2.weight",
    "decoder.conv_out.weight": "decoder.conv_out.weight",
}


@pytest.mark.parametrize(("ours", "theirs"), UNET.items())
def test_the_unets_names(ours, theirs):
    assert compvis_name(ours, UNetConfig()) == f"model.diffusion_model.{theirs}"


@pytest.mark.parametrize(("ours", "theirs"), VAE.items())
def test_the_vaes_names(ours, theirs):
    assert compvis_name(ours, VAEConfig()) == f"first_stage_model.{theirs}"


def test_a_name_that_is_none():
    with pytest.raises(KeyError, match="down_blocks"):
        compvis_name("down_blocks.9.resnets.0.conv1.weight", UNetConfig())


@pytest.mark.parametrize(
    ("component", "old", "new"),
    [
        ("vae", "query.weight", "to_q.weight"),
        ("vae", "key.weight", "to_k.weight"),
        ("vae", "value.bias", "to_v.bias"),
        ("vae", "proj_attn.weight", "to_out.0.weight"),
        ("vae", "group_norm.weight", "group_norm.weight"),
        ("vae", "to_out.0.weight", "to_out.0.weight"),
        ("unet", "key.weight", "key.weight"),
    ],
)
def test_names_of_older_folders(component, old, new):
    block = "decoder.mid_block.attentions.0."
    assert current_name(component, block + old) == block + new


def test_newer_text_encoders_leave_out_their_models_name():
    key = "encoder.layers.0.mlp.fc1.weight"
    assert current_name("text_encoder", key) == f"text_model.{key}"
    assert current_name("text_encoder", f"text_model.{key}") == f"text_model.{key}"


@pytest.mark.parametrize(
    "key",
    [
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "log_one_minus_alphas_cumprod",
        "posterior_variance",
        "sqrt_recipm1_alphas_cumprod",
        "lvlb_weights",
        "model_ema.decay",
        "model_ema.diffusion_modelinput_blocks00weight",
        "first_stage_model.loss.logvar",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "v_pred",
    ],
)
def test_what_never_matters(key):
    assert HARMLESS.search(key)


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.model_ema.weight",
        "control_model.input_hint_block.0.weight",
        "first_stage_model.encoder.conv_in.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        "model.diffusion_model.alphas_betas_noted",
        "model.my_betas",
    ],
)
def test_what_matters(key):
    assert not HARMLESS.search(key)
