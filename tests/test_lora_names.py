"""Which layer a tensor of a LoRA is for: names as trainers write them."""

from collections import defaultdict
from functools import cache

import pytest
import torch

from zs2.checkpoint.lora_names import PREFIXES, Place, Places, aliases, by_position
from zs2.checkpoint.names import compvis_name
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig

SDXL = UNetConfig(
    block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2, 10),
    cross_attention_dim=2048,
    attention_head_dim=(5, 10, 20),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
BIG = CLIPTextConfig(
    hidden_size=1280, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
)


@cache
def places(family: str) -> Places:
    with torch.device("meta"):
        if family == "sd":
            return Places({"unet": UNet(UNetConfig()), "text_encoder": CLIPText(CLIPTextConfig())})
        return Places(
            {
                "unet": UNet(SDXL),
                "text_encoder": CLIPText(CLIPTextConfig()),
                "text_encoder_2": CLIPText(BIG, projected=True),
            }
        )


def layers(family: str, network: str) -> list[str]:
    keys = places(family).networks[network].state_dict()
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_every_layer_of_the_unet_is_found_in_both_layouts(family):
    find = places(family)
    for layer in layers(family, "unet"):
        single = compvis_name(f"{layer}.weight", find.networks["unet"].config)
        single = single.removeprefix("model.diffusion_model.").removesuffix(".weight")
        for name in (layer, single):
            place = Place("unet", layer)
            flat = name.replace(".", "_")
            for key in (
                f"lora_unet_{flat}.lora_down.weight",
                f"lycoris_{flat}.hada_w1_a",
                f"unet.{name}.lora_A.weight",
                f"base_model.model.{name}.lora_A.weight",
                f"diffusion_model.{name}.lora_down.weight",
                f"{name}.lora.down.weight",
            ):
                assert find(key)[0] == place, key


@pytest.mark.parametrize(
    ("family", "network", "prefixes"),
    [
        ("sd", "text_encoder", ("lora_te_", "lora_te1_", "text_encoder.", "")),
        ("xl", "text_encoder", ("lora_te1_", "text_encoder.")),
        ("xl", "text_encoder_2", ("lora_te2_", "text_encoder_2.")),
    ],
)
def test_every_layer_of_the_text_encoders_is_found(family, network, prefixes):
    for layer in layers(family, network):
        for prefix in prefixes:
            name = layer if prefix.endswith(".") or not prefix else layer.replace(".", "_")
            short = name.removeprefix("text_model.")
            assert places(family)(f"{prefix}{name}.lora_up.weight")[0] == Place(network, layer)
            assert places(family)(f"{prefix}{short}.lora_up.weight")[0] == Place(network, layer)


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_no_name_means_two_layers(family):
    meant = defaultdict(set)
    for network in places(family).networks:
        for layer in layers(family, network):
            for alias in aliases(places(family).networks[network], layer):
                for prefix in PREFIXES[network]:
                    meant[prefix + alias].add(layer)
    assert not [name for name, found in meant.items() if len(found) > 1]


Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
TEXT_Q = "text_model.encoder.layers.3.self_attn.q_proj"


@pytest.mark.parametrize(
    ("key", "layer", "part"),
    [
        (f"unet.{Q.replace('to_q', 'processor.to_q_lora.down.weight')}", Q, "down"),
        (f"unet.{Q}.lora.up.weight", Q, "up"),
        (f"{Q.replace('to_q', 'processor.to_q_lora.up.weight')}", Q, "up"),
        (f"unet.{OUT.replace('to_out.0', 'processor.to_out_lora.down.weight')}", OUT, "down"),
        (f"unet.{OUT}.lora_B.weight", OUT, "up"),
        (f"unet.{OUT}.lora_A.default.weight", OUT, "down"),
        (f"base_model.model.{OUT}.lora_magnitude_vector", OUT, "magnitude"),
        (f"base_model.model.{OUT}.lora_magnitude_vector.default.weight", OUT, "magnitude"),
        (f"unet.base_model.model.{Q}.lora_A.weight", Q, "down"),
        (f"text_encoder.{TEXT_Q.replace('q_proj', 'to_q_lora.up.weight')}", TEXT_Q, "up"),
        (f"text_encoder.{TEXT_Q}.lora_linear_layer.down.weight", TEXT_Q, "down"),
        ("lora_te_text_model_encoder_layers_3_self_attn_q_proj.alpha", TEXT_Q, "alpha"),
        ("base_model.model.encoder.layers.3.self_attn.q_proj.lora_A.weight", TEXT_Q, "down"),
        ("lora_unet_input_blocks_0_0.lora_mid.weight", "conv_in", "mid"),
        ("lora_unet_out_2.diff_b", "conv_out", "diff_b"),
        ("lora_unet_time_embed_0.dora_scale", "time_embedding.linear_1", "dora"),
        ("lora_unet_time_embedding_linear_1.lokr_w2_b", "time_embedding.linear_1", "lokr_w2_b"),
        ("lora_unet_conv_norm_out.w_norm", "conv_norm_out", "w_norm"),
        ("lora_unet_conv_out.on_input", "conv_out", "on_input"),
        ("lora_unet_conv_out.weight", "conv_out", "factor"),
        ("lora_unet_conv_out.oft_diag", "conv_out", "oft"),
        ("lora_unet_conv_out.a1.weight", "conv_out", "a1"),
        ("diffusion_model.input_blocks.0.0.set_weight", "conv_in", "set"),
    ],
)
def test_names_of_every_trainer(key, layer, part):
    place, found, _ = places("sd")(key)
    assert place is not None
    assert (place.layer, found) == (layer, part)


@pytest.mark.parametrize(
    "key",
    [
        "lora_unet_down_blocks_9_attentions_0_proj_in.lora_up.weight",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
        f"unet.{Q}.lora_B.bias",
        f"unet.{Q}.reshape_weight",
        "<s1>",
    ],
)
def test_names_that_are_none(key):
    place, part, _ = places("sd")(key)
    assert place is None or not part


def test_sdxls_second_text_encoder_has_a_projection():
    place, _, _ = places("xl")("lora_te2_text_projection.lora_down.weight")
    assert place == Place("text_encoder_2", "text_projection")
    assert places("xl")("lora_unet_label_emb_0_2.lora_up.weight")[0] == Place(
        "unet", "add_embedding.linear_2"
    )


def test_numbered_layers():
    """cloneofsimo's order, as its published files show it by their shapes."""
    networks = places("sd").networks
    classes = {"unet": {"CrossAttention", "Attention", "GEGLU"}, "text_encoder": {"CLIPAttention"}}
    order = by_position(networks, classes)
    assert [len(order[name]) for name in ("unet", "text_encoder")] == [144, 48]
    unet = [place.layer for place in order["unet"]]
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    inside = [
        *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    ]
    assert unet[:9] == [f"{block}.{name}" for name in inside]
    assert unet[54].startswith("up_blocks.1.attentions.0")
    assert unet[-1] == "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    text = [place.layer for place in order["text_encoder"]]
    first = "text_model.encoder.layers.0.self_attn"
    assert text[:4] == [f"{first}.{x}_proj" for x in ("k", "v", "q", "out")]
    short = by_position(networks, {"unet": {"CrossAttention"}})["unet"]
    assert [p.layer for p in short] == [name for name in unet if ".ff." not in name]
    with pytest.raises(ValueError, match="layers of ResnetBlock2D"):
        by_position(networks, {"unet": {"CrossAttention", "ResnetBlock2D"}})
