"""A path becomes models: folders and single files."""

import json
import shutil
import struct
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from folders import TEXT, refused, write_tokenizer
from safetensors.torch import load_file, save_file

from zs2.checkpoint.family import PRESETS, Family
from zs2.checkpoint.header import read_header
from zs2.checkpoint.load import load_clip, load_weights, single_file_names
from zs2.checkpoint.names import compvis_name
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig


def test_a_folder_as_diffusers_writes_it(written):
    weights = load_weights(written)
    theirs = load_file(written / "unet/diffusion_pytorch_model.safetensors")
    ours = weights.unet.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(theirs[k].equal(ours[k]) for k in theirs)
    assert weights.schedule.prediction_type == "v_prediction"
    assert weights.defaults.size == 16
    assert weights.text.towers[0].tokenizer.encode(["a"]).shape == (1, 77)
    assert not any(p.requires_grad for p in weights.unet.parameters())


def test_prediction_can_be_told(written):
    assert load_weights(written, prediction="epsilon").schedule.prediction_type == "epsilon"
    assert load_weights(written, prediction="v").schedule.prediction_type == "v_prediction"


def test_a_tokenizer_that_was_told_is_remembered(written):
    assert load_weights(written).settings["tokenizer"] is None
    weights = load_weights(written, tokenizer=written / "tokenizer")
    assert weights.settings["tokenizer"] == str(written / "tokenizer")


def test_dtype_is_cast_on_the_way(written):
    assert load_weights(written, dtype=torch.bfloat16).vae.quant_conv.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("shards", ["whole", "shards"])
@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_variants_and_shards(folder, shards, variant):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    file.unlink()
    if shards == "whole":
        save_file(tensors, file.with_name(f"diffusion_pytorch_model{variant}.safetensors"))
    else:
        names = [f"diffusion_pytorch_model{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
        keys = sorted(tensors)
        parts = {names[0]: keys[::2], names[1]: keys[1::2]}
        for name, part in parts.items():
            save_file({k: tensors[k] for k in part}, folder / "unet" / name)
        index = {"weight_map": {k: name for name, part in parts.items() for k in part}}
        name = f"diffusion_pytorch_model.safetensors.index{variant}.json"
        (folder / "unet" / name).write_text(json.dumps(index))
    ours = load_weights(folder).unet.state_dict()
    assert all(tensors[k].equal(ours[k]) for k in tensors)


def test_old_names(folder):
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    vae = load_file(file)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in vae.items():
        for new, name in old.items():
            if f"attentions.0.{new}." in key:
                key = key.replace(new, name)
        renamed[key] = value
    assert renamed.keys() != vae.keys()
    save_file(renamed, file)
    file = folder / "text_encoder/model.safetensors"
    text = {k.removeprefix("text_model."): v for k, v in load_file(file).items()}
    save_file({**text, "embeddings.position_ids": torch.arange(77.0)[None]}, file)
    weights = load_weights(folder)
    q = "decoder.mid_block.attentions.0.to_q.weight"
    assert weights.vae.state_dict()[q].equal(vae[q])
    norm = weights.text.towers[0].encoder.state_dict()["text_model.final_layer_norm.weight"]
    assert norm.equal(text["final_layer_norm.weight"])


# What a folder's files can be instead of weights.
def test_every_tensor_of_sd_15_has_its_place_in_a_single_file():
    names = single_file_names({}, PRESETS[Family.SD1])
    assert [len(table) for table in names.values()] == [686, 248, 196]
    flat = [name for table in names.values() for name in table.values()]
    assert len(set(flat)) == 686 + 248 + 196


def test_diffusers_reads_the_names_that_the_table_writes():
    """Their converters, on the full SD 1.5 key lists, against our tensors by identity."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils

    with torch.device("meta"):
        unet, vae = UNet(UNetConfig()).state_dict(), VAE(VAEConfig()).state_dict()
        their_unet = UNet2DConditionModel(cross_attention_dim=768)
        their_vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    single = {compvis_name(k, UNetConfig()): v for k, v in unet.items()}
    converted = single_file_utils.convert_ldm_unet_checkpoint(dict(single), dict(their_unet.config))
    assert {k: id(v) for k, v in converted.items()} == {k: id(v) for k, v in unet.items()}
    assert converted.keys() == their_unet.state_dict().keys()

    single = {compvis_name(k, VAEConfig()): v for k, v in vae.items()}
    converted = single_file_utils.convert_ldm_vae_checkpoint(dict(single), dict(their_vae.config))
    assert converted.keys() == vae.keys() == their_vae.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("bare", [False, True])
def test_a_single_file_and_a_folder_give_the_same_tensors(tmp_path, bare):
    """The real SD 1.5 configuration, 2 GB in fp16."""
    torch.manual_seed(0)
    ours, single = {}, {}
    for model, config in ((UNet, UNetConfig()), (VAE, VAEConfig()), (CLIPText, CLIPTextConfig())):
        with torch.device("meta"):
            shapes = model(config).state_dict()
        for key, tensor in shapes.items():
            value = torch.randn(tensor.shape).half() * 0.02
            ours[model, key] = value
            name = compvis_name(key, None if model is CLIPText else config)
            if model is CLIPText and bare:
                name = name.replace(".text_model.", ".")
            if model is VAE and "attn_1" in name and value.ndim == 2:
                value = value[:, :, None, None]
            single[name] = value
    single["model_ema.decay"] = torch.zeros(1)
    single["alphas_cumprod"] = torch.zeros(1000)
    single["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.zeros(1, 77)
    save_file(single, tmp_path / "sd.safetensors")
    write_tokenizer(tmp_path / "tokenizer", CLIPTextConfig().vocab_size)
    weights = load_weights(tmp_path / "sd.safetensors", dtype=torch.float16)
    for model, loaded in (
        (UNet, weights.unet),
        (VAE, weights.vae),
        (CLIPText, weights.text.towers[0].encoder),
    ):
        for key, tensor in loaded.state_dict().items():
            assert tensor.equal(ours[model, key]), key
    if bare:
        return  # newer transformers write it, and diffusers does not read it
    del weights
    theirs = read_by_diffusers(tmp_path)
    for model, part in ((UNet, theirs.unet), (VAE, theirs.vae), (CLIPText, theirs.text_encoder)):
        found = {k.removeprefix("text_model."): v for k, v in part.state_dict().items()}
        expected = {k.removeprefix("text_model."): v for (m, k), v in ours.items() if m is model}
        assert expected.keys() <= found.keys()
        assert {k for k in found if not k.endswith("position_ids")} == expected.keys()
        for key, tensor in expected.items():
            assert tensor.equal(found[key]), key


def read_by_diffusers(folder: Path):
    """The single file sd.safetensors, by a reader that is not ours."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig as TheirTextConfig

    where = folder / "config"
    levels = len(VAEConfig().block_out_channels)
    with torch.device("meta"):
        UNet2DConditionModel(**asdict(UNetConfig())).save_config(where / "unet")
        AutoencoderKL(
            **asdict(VAEConfig()),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        ).save_config(where / "vae")
    DDIMScheduler().save_config(where / "scheduler")
    TheirTextConfig(**asdict(CLIPTextConfig())).save_pretrained(where / "text_encoder")
    shutil.copytree(folder / "tokenizer", where / "tokenizer")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    index = {"_class_name": "StableDiffusionPipeline", **parts}
    (where / "model_index.json").write_text(json.dumps(index))
    return StableDiffusionPipeline.from_single_file(
        folder / "sd.safetensors",
        config=str(where),
        local_files_only=True,
        torch_dtype=torch.float16,
        safety_checker=None,
        feature_extractor=None,
    )


def test_a_tokenizer_can_be_told(folder, tmp_path):
    shutil.move(folder / "tokenizer", tmp_path / "words")
    assert (
        load_weights(folder, tokenizer=tmp_path / "words")
        .text.towers[0]
        .tokenizer.encode(["a"])
        .shape[1]
        == 77
    )
    refused(folder, "absent does not exist", tokenizer=tmp_path / "absent")


def test_a_contrastive_clip(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    vision = {k: TEXT[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    vision |= {"num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision)).save_pretrained(tmp_path / "clip")
    write_tokenizer(tmp_path / "tokenizer")
    clip, tokenizer = load_clip(tmp_path / "clip")
    assert clip.encode_text(tokenizer.encode(["a", "b"])).shape == (2, 512)


def test_headers_tell_without_reading(tmp_path):
    """A sparse file of 4 GB: nothing but its header is on the disk."""
    text = json.dumps({"w": {"dtype": "F16", "shape": [2**31], "data_offsets": [0, 2**32]}})
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text.encode())
        file.truncate(8 + len(text) + 2**32)
    assert read_header(path)["w"].bytes == 2**32
