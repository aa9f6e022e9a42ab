"""A path becomes models: folders and single files."""

import json
import shutil
import struct

import pytest
import torch
from conftest import scramble
from folders import TEXT, refused, write_tokenizer
from safetensors.torch import load_file, save_file

from zs2.checkpoint.header import read_header
from zs2.checkpoint.load import load_clip, load_weights


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


def test_a_dreambooth_folder_is_a_plain_model(written, tmp_path):
    """As diffusers' training script saves it."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    where = written / "tokenizer"
    unet = UNet2DConditionModel.from_pretrained(written / "unet")
    trained = scramble(unet, 7)
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(written / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(written / "text_encoder"),
        tokenizer=CLIPTokenizer(str(where / "vocab.json"), str(where / "merges.txt")),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(written / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(tmp_path / "dreambooth")
    weights = load_weights(tmp_path / "dreambooth")
    theirs = trained.state_dict()
    assert all(theirs[k].equal(t) for k, t in weights.unet.state_dict().items())
    said = weights.text.towers[0].tokenizer.encode(["a ball"])
    assert said.equal(load_weights(written).text.towers[0].tokenizer.encode(["a ball"]))


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


def test_a_folder_without_a_schedule_is_said_to_predict_epsilon(folder):
    shutil.rmtree(folder / "scheduler")
    with pytest.warns(UserWarning, match=r"no scheduler/scheduler_config.json: .* epsilon"):
        weights = load_weights(folder)
    assert weights.schedule.prediction_type == "epsilon"


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
