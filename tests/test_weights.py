"""A path becomes models: folders and single files, and everything that can be wrong with them."""

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zs2.checkpoint import read_header
from zs2.errors import InputError
from zs2.keymaps import compvis_name
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet, UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.weights import load_clip, load_weights, single_file_names

UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
VAE_KEYS = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "eos_token_id": 513,
    "bos_token_id": 512,
}


def write_tokenizer(folder: Path, size: int = 514) -> None:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    words[-2:-2] = [f"filler{i}</w>" for i in range(size - len(words))]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A small Stable Diffusion folder, as diffusers and transformers write it."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig as TheirTextConfig
    from transformers import CLIPTextModel

    path = tmp_path_factory.mktemp("model") / "sd"
    path.mkdir()
    torch.manual_seed(0)
    UNet2DConditionModel(**UNET).save_pretrained(path / "unet")
    AutoencoderKL(**VAE_KEYS).save_pretrained(path / "vae")
    CLIPTextModel(TheirTextConfig(**TEXT)).save_pretrained(path / "text_encoder")
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(path / "scheduler")
    write_tokenizer(path / "tokenizer")
    return path


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "sd"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(path: Path, message: str, **options: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_weights(path, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_as_diffusers_writes_it(written):
    weights = load_weights(written)
    theirs = load_file(written / "unet/diffusion_pytorch_model.safetensors")
    ours = weights.unet.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(theirs[k].equal(ours[k]) for k in theirs)
    assert weights.ddim.prediction_type == "v_prediction"
    assert weights.sample.size == 16
    assert weights.tokenizer.encode(["a"]).shape == (1, 77)
    assert not any(p.requires_grad for p in weights.unet.parameters())


def test_prediction_can_be_told(written):
    assert load_weights(written, prediction="epsilon").ddim.prediction_type == "epsilon"
    assert load_weights(written, prediction="v").ddim.prediction_type == "v_prediction"


def test_a_tokenizer_that_was_told_is_remembered(written):
    assert load_weights(written).vocabulary is None
    weights = load_weights(written, tokenizer=written / "tokenizer")
    assert weights.vocabulary == str(written / "tokenizer")


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
    norm = weights.text_encoder.state_dict()["text_model.final_layer_norm.weight"]
    assert norm.equal(text["final_layer_norm.weight"])


# What a folder's files can be instead of weights.
def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def short_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def trailing(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0\0\0\0")


def lfs(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def html(file: Path) -> None:
    file.write_text("<!DOCTYPE html><html><body>Log in</body></html>")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def absurd(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 2**60) + b"{}" * 50)


def no_json(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 8) + b"12345678")


def overlapping(file: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({f"t{i}": entry for i in range(3)}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)


def deep(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)


def odd_metadata(file: Path) -> None:
    text = json.dumps({"__metadata__": {"a": 1}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)


def eight_bits(file: Path) -> None:
    save_file({**load_file(file), "conv_in.bias": torch.zeros(32).to(torch.float8_e4m3fn)}, file)


def renamed_pickle(file: Path) -> None:
    torch.save({"a": torch.zeros(2)}, file)


def nan(file: Path) -> None:
    tensors = load_file(file)
    tensors["conv_in.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, file)


def missing(file: Path) -> None:
    tensors = load_file(file)
    del tensors["conv_in.weight"], tensors["conv_out.bias"]
    save_file(tensors, file)


def extra(file: Path) -> None:
    save_file({**load_file(file), "surprise.weight": torch.zeros(1)}, file)


def misshaped(file: Path) -> None:
    save_file({**load_file(file), "conv_in.weight": torch.zeros(32, 4, 5, 5)}, file)


def other_family(file: Path) -> None:
    key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({**load_file(file), key: torch.zeros(32, 1024)}, file)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (truncated, "is truncated: .* of .* bytes"),
        (short_header, "truncated inside its header"),
        (trailing, "4 bytes after its end"),
        (lfs, "git-LFS pointer"),
        (html, "web page"),
        (empty, "is empty"),
        (absurd, "not a safetensors file"),
        (no_json, "not a safetensors file"),
        (overlapping, "is damaged"),
        (deep, "not a safetensors file"),
        (odd_metadata, "not a safetensors file"),
        (eight_bits, "conv_in.bias is stored as F8_E4M3"),
        (renamed_pickle, "is a pickle"),
        (nan, "conv_in.weight holds NaN"),
        (missing, "lacks 2 of .* tensors: conv_in.weight, conv_out.bias"),
        (extra, "1 tensors too many: surprise.weight"),
        (misshaped, r"conv_in.weight has shape \[32, 4, 5, 5\], expected \[32, 4, 3, 3\]"),
        (other_family, "looks like SD 2.x"),
    ],
)
def test_a_broken_file_is_named(folder, breakage, message):
    breakage(folder / "unet/diffusion_pytorch_model.safetensors")
    refused(folder, message)
    refused(folder, "unet")


def test_a_folder_with_only_pickles(folder):
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    refused(folder, r"diffusion_pytorch_model.bin is a pickle.*convert it: python -c")


def test_the_conversion_that_is_offered_works(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2), "step": 3}}, tmp_path / "x.ckpt")
    with pytest.raises(InputError) as caught:
        load_weights(tmp_path / "x.ckpt")
    command = str(caught.value).split("convert it: ")[1].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert load_file(tmp_path / "x.safetensors")["a"].equal(torch.ones(2))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_part_is_missing(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, f"has no {part}")


def test_a_shard_may_not_leave_its_folder(folder):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    index = file.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {"a": "../vae/x.safetensors"}}))
    file.unlink()
    refused(folder, "a path is not allowed")
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    refused(folder, "x.safetensors is missing")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"act_fn": "mish"}, "act_fn = mish is not supported"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet", {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ("unet", {"in_channels": 9}, "an inpainting model"),
        ("unet", {"in_channels": 8}, "an Instruct-Pix2Pix model"),
        ("unet", {"norm_num_groups": 7}, "fits no network"),
        ("unet", {"flip_sin_to_cos": False}, "flip_sin_to_cos = False is not supported"),
        ("unet", {"downsample_padding": 0}, "downsample_padding = 0 is not supported"),
        ("vae", {"mid_block_add_attention": False}, "mid_block_add_attention = False"),
        ("vae", {"act_fn": "relu"}, "act_fn"),
        ("text_encoder", {"hidden_act": "relu"}, "relu"),
        ("unet", {"sample_size": [16, 16]}, "sample_size = .* is not supported"),
        ("unet", {"in_channels": "4"}, "in_channels = 4 is not supported"),
        ("unet", {"attention_head_dim": 7}, "7 attention heads do not divide"),
        ("unet", {"cross_attention_dim": 48}, "they are of different models"),
        ("text_encoder", {"vocab_size": 300}, "has .* tokens, and .* knows 300"),
        ("text_encoder", {"max_position_embeddings": 60}, "makes 77 tokens .* reads 60"),
        ("vae", {"latent_channels": 16}, "they are of different models"),
    ],
)
def test_a_configuration_that_zs2_cannot_honour(folder, part, changes, message):
    edit_json(folder / part / "config.json", **changes)
    refused(folder, message)


def test_a_schedule_that_zs2_cannot_honour(folder):
    edit_json(folder / "scheduler/scheduler_config.json", beta_schedule="squaredcos_cap_v2")
    refused(folder, "scheduler_config.json: beta_schedule 'squaredcos_cap_v2' is not supported")


@pytest.mark.parametrize("values", [{"beta_start": "0.1"}, {"steps_offset": "1"}])
def test_a_schedule_of_the_wrong_type_is_named(folder, values):
    edit_json(folder / "scheduler/scheduler_config.json", **values)
    refused(folder, f"scheduler_config.json: {next(iter(values))} = .* is not supported")


def test_a_schedule_may_leave_values_out(folder):
    where = folder / "scheduler/scheduler_config.json"
    edit_json(where, beta_start=None, num_train_timesteps=10)
    weights = load_weights(folder)
    assert weights.ddim.beta_start == 0.00085
    assert weights.sample.steps == 10


def test_weights_too_large_for_the_precision_are_told(folder):
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["quant_conv.weight"][0, 0, 0, 0] = 1e6
    save_file(tensors, file)
    refused(folder, "quant_conv.weight does not fit into float16", dtype=torch.float16)
    load_weights(folder, dtype=torch.bfloat16)


def test_a_prediction_nobody_knows_is_refused(folder):
    refused(folder, "epsilon or v, not banana", prediction="banana")


def test_a_table_of_betas_is_not_ignored(folder):
    edit_json(folder / "scheduler/scheduler_config.json", trained_betas=[0.1, 0.2])
    refused(folder, r"scheduler_config.json: trained_betas = \[0.1, 0.2\] is not supported")


def test_a_key_that_is_left_out_means_what_it_means_to_transformers(folder):
    where = folder / "text_encoder/config.json"
    values = json.loads(where.read_text())
    del values["num_attention_heads"]
    where.write_text(json.dumps(values))
    assert load_weights(folder).text_encoder.config.num_attention_heads == 8


def test_quantised_weights_are_named(folder):
    file = folder / "text_encoder/model.safetensors"
    tensors = load_file(file)
    key = next(k for k in tensors if k.endswith("fc1.weight"))
    tensors[key] = tensors[key].to(torch.int8)
    save_file(tensors, file)
    refused(folder, "is stored as I8: quantised weights are not supported")


def test_configurations_that_are_no_json(folder):
    (folder / "unet/config.json").write_text("{")
    refused(folder, "config.json is not JSON")


def test_sdxl_folders_are_named(folder):
    (folder / "text_encoder_2").mkdir()
    refused(folder, "SDXL")


def single_file(tmp_path: Path, **tensors: torch.Tensor) -> Path:
    path = tmp_path / "single.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "is a LoRA"),
        ("control_model.zero_convs.0.0.weight", "is a ControlNet"),
        ("conditioner.embedders.0.transformer.text_model.x.weight", "SDXL"),
        ("cond_stage_model.model.ln_final.weight", r"SD 2\.x single file"),
        ("first_stage_model.encoder.conv_in.weight", "a VAE alone"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet alone"),
        ("text_model.embeddings.token_embedding.weight", "a text encoder alone"),
        ("model.diffusion_model.input_blocks.0.0.weight", "without its vae"),
        ("bert.weight", "not a model"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, name, message):
    refused(single_file(tmp_path, **{name: torch.zeros(1)}), message)


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpainting"), (8, "Instruct-Pix2Pix")])
def test_single_files_with_other_inputs_are_named(tmp_path, channels, kind):
    file = single_file(
        tmp_path,
        **{
            "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, channels, 3, 3),
            "first_stage_model.x": torch.zeros(1),
            "cond_stage_model.transformer.x": torch.zeros(1),
        },
    )
    refused(file, kind)


def test_every_tensor_of_sd_15_has_its_place_in_a_single_file():
    names = single_file_names({})
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
        (CLIPText, weights.text_encoder),
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
    assert load_weights(folder, tokenizer=tmp_path / "words").tokenizer.encode(["a"]).shape[1] == 77
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
