"""The files of IP-Adapters and of their image encoders: read strictly, misfits refused by name."""

from pathlib import Path

import pytest
import torch
from folders import edit_json
from pictures import VISION, form, write_adapter, write_encoder
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from zs2.checkpoint import ip_adapter
from zs2.checkpoint.header import Entry
from zs2.checkpoint.ip_adapter import load_ip_adapter, read_image_encoder, read_ip_adapter
from zs2.errors import InputError
from zs2.models.ip_adapter import IPAdapter, IPAdapterConfig, cross_attentions
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig

SDXL = UNetConfig(
    block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
    up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    cross_attention_dim=2048,
    attention_head_dim=(5, 10, 20),
    transformer_layers_per_block=(1, 2, 10),
    use_linear_projection=True,
)


@pytest.fixture
def unet(random_pipe) -> UNet:
    return random_pipe.weights.unet


@pytest.fixture
def encoder(tmp_path) -> Path:
    return write_encoder(tmp_path / "image_encoder")


def refused(message: str, *args: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_ip_adapter(*args)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "plus", "full"])
def test_each_form_is_told_from_its_shapes(name, unet, tmp_path, encoder):
    path = write_adapter(tmp_path / "ip.safetensors", name, unet)
    config, _, _ = read_ip_adapter(path)
    assert config == form(name, unet.config.cross_attention_dim)
    net, vision = load_ip_adapter(path, unet)
    assert all(net.state_dict()[key].equal(value) for key, value in load_file(path).items())
    assert vision.config.hidden_act == "gelu"


@pytest.mark.parametrize(
    ("config", "count", "channels"),
    [
        (UNetConfig(), 16, [320] * 2 + [640] * 2 + [1280] * 5 + [640] * 3 + [320] * 3 + [1280]),
        (SDXL, 70, [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10),
    ],
    ids=["1.5", "xl"],
)
def test_the_published_files_names_and_shapes(config, count, channels):
    """Down, up, and the middle last: SD 1.5's numbers are 1 to 31, SDXL's 1 to 139."""
    with torch.device("meta"):
        unet = UNet(config)
        found = [attention.to_k.out_features for attention in cross_attentions(unet)]
        plus = IPAdapterConfig("plus", 1280, config.cross_attention_dim, 16, 768, 4)
        net = IPAdapter(plus, found)
    assert found == channels
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert len([key for key in shapes if key.startswith("ip_adapter.")]) == 2 * count
    assert shapes[f"ip_adapter.{2 * count - 1}.to_v_ip.weight"] == (
        1280,
        config.cross_attention_dim,
    )
    assert {
        "image_proj.latents": (1, 16, 768),
        "image_proj.proj_in.weight": (768, 1280),
        "image_proj.layers.3.0.to_kv.weight": (1536, 768),
        "image_proj.layers.3.1.0.bias": (768,),
        "image_proj.layers.3.1.1.weight": (3072, 768),
        "image_proj.layers.3.1.3.weight": (768, 3072),
        "image_proj.norm_out.weight": (config.cross_attention_dim,),
    }.items() <= shapes.items()


def test_faces_by_insightface_are_refused_by_name(unet, tmp_path):
    path = tmp_path / "faceid.safetensors"
    for key in ("proj.0.bias", "perceiver_resampler.proj_in.weight"):
        save_file({f"image_proj.{key}": torch.zeros(3)}, path)
        refused("FaceID IP-Adapter, .* face recogniser", path, unet)


def test_what_is_no_ip_adapter_is_refused(unet, tmp_path, encoder):
    path = tmp_path / "other.safetensors"
    save_file({"image_proj.something": torch.zeros(3)}, path)
    refused("is an IP-Adapter without its tensors", path, unet)
    save_file({"x.lora_down.weight": torch.zeros(3)}, path)
    refused("is a LoRA, not an IP-Adapter: give it with --lora", path, unet)
    refused("not an IP-Adapter: give it with --image-encoder", encoder / "model.safetensors", unet)
    path = write_adapter(tmp_path / "ip.safetensors", "plain", unet)
    refused("not a CLIP vision encoder: give it with --ip-adapter", path, unet, path)


def test_an_adapter_of_another_family_is_refused_by_name(unet, tmp_path):
    """Both named; widths that no family has are refused by shape."""
    shapes = {"image_proj.proj.weight": (3072, 20), "ip_adapter.1.to_k_ip.weight": (32, 768)}
    path = tmp_path / "ip.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    with torch.device("meta"):
        xl = UNet(SDXL)
    refused("is an IP-Adapter for SD 1.x, and the model is SDXL", path, xl)


def test_what_does_not_fit_the_model_is_refused(unet, random_pipe, tmp_path, encoder):
    other = UNet(UNetConfig(**{**vars(unet.config), "cross_attention_dim": 48}))
    path = write_adapter(tmp_path / "ip.safetensors", "plain", other)
    refused(r"image_proj.proj.weight has shape \[192, 20\], expected \[128, 20\]", path, unet)
    path = write_adapter(tmp_path / "ip.safetensors", "plain", unet)
    tensors = load_file(path)
    del tensors["ip_adapter.3.to_v_ip.weight"]
    save_file(tensors, path)
    refused("lacks 1 of .* tensors: ip_adapter.3.to_v_ip.weight", path, unet)


def test_the_encoder_is_found_beside_the_adapter_or_given(unet, tmp_path):
    """SDXL's adapters for ViT-H look in the folder of SD 1.x's."""
    (tmp_path / "sdxl_models").mkdir()
    path = write_adapter(tmp_path / "sdxl_models/ip.safetensors", "plain", unet)
    refused("no image encoder beside it.*--image-encoder", path, unet)
    other = write_encoder(tmp_path / "sdxl_models/image_encoder")
    edit_json(other / "config.json", projection_dim=21)  # bigG's, which it was not trained with
    refused("no image encoder beside it", path, unet)
    given = write_encoder(tmp_path / "elsewhere")
    assert load_ip_adapter(path, unet, given)[1].config.projection_dim == 20
    write_encoder(tmp_path / "models/image_encoder")
    assert load_ip_adapter(path, unet)[1].config.projection_dim == 20
    refused("none cannot be read", path, unet, tmp_path / "none")


def test_an_encoder_of_another_width_is_refused(unet, tmp_path, encoder):
    edit_json(encoder / "config.json", hidden_size=36)
    path = write_adapter(tmp_path / "ip.safetensors", "plus", unet)
    refused("gives 36 values, and .* takes 32: .*ViT-H/14", path, unet, encoder)
    path = write_adapter(tmp_path / "ip.safetensors", "plain", unet)
    edit_json(encoder / "config.json", hidden_size=32, projection_dim=24)
    refused("gives 24 values, and .* takes 20", path, unet, encoder)


def test_a_folder_of_both_towers_is_an_encoder(tmp_path):
    text = {key: VISION[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
    both = CLIPModel(
        CLIPConfig(
            text_config={**text, "num_hidden_layers": 1}, vision_config=VISION, projection_dim=24
        )
    )
    both.save_pretrained(tmp_path / "clip")
    config, entries = read_image_encoder(tmp_path / "clip")
    assert config.projection_dim == 24
    assert "visual_projection.weight" in entries
    assert not [key for key in entries if key.startswith("text")]


@pytest.mark.parametrize(
    ("width", "layers", "projection", "act"),
    [(1024, 24, 768, "quick_gelu"), (1280, 32, 1024, "gelu"), (1664, 48, 1280, "gelu")],
    ids=["L", "H", "bigG"],
)
def test_a_file_alone_is_told_from_its_shapes(width, layers, projection, act, monkeypatch):
    shapes = {
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (257, width),
        "vision_model.embeddings.position_ids": (1, 257),
        "visual_projection.weight": (projection, width),
        "text_model.embeddings.token_embedding.weight": (49408, width),
    }
    shapes |= {f"vision_model.encoder.layers.{i}.mlp.fc1.weight": (5, width) for i in range(layers)}
    entries = {key: Entry(Path("x"), key, "F16", shape) for key, shape in shapes.items()}
    monkeypatch.setattr(ip_adapter, "read_header", lambda path: entries)
    config, kept = read_image_encoder(Path("x.safetensors"))
    assert (config.image_size, config.patch_size, config.hidden_size) == (224, 14, width)
    assert (config.num_hidden_layers, config.num_attention_heads) == (layers, 16)
    assert (config.hidden_act, config.projection_dim, config.intermediate_size) == (
        act,
        projection,
        5,
    )
    assert len(kept) == layers + 3


def test_an_unknown_file_needs_its_configuration(tmp_path, encoder):
    with pytest.raises(InputError, match=r"config\.json, by --image-encoder"):
        read_image_encoder(encoder / "model.safetensors")
