"""Everything that can be wrong with a checkpoint is one sentence that names it."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from folders import edit_json, refused
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from zs2.checkpoint.build import _read, build
from zs2.checkpoint.header import read_header
from zs2.checkpoint.load import load_weights
from zs2.errors import InputError


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
    save_file({**load_file(file), "conv_in.bias": torch.zeros(32).to(torch.int8)}, file)


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
        (eight_bits, "conv_in.bias is stored as I8"),
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


ENTRY = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a": {ENTRY}}}'.encode("utf-16"),
        f'{{"a": {ENTRY.replace("8]", "8.0]")}}}',
        f'{{"a": {ENTRY.replace("[2]", "[2.0]")}}}',
        f'{{"a": {ENTRY.replace("[0,", "[false,")}}}',
        f'{{"a": {ENTRY.replace("[0,", "[-0,")}}}',
        f'{{"a": {ENTRY.replace("[2]", "[NaN]")}}}',
        f'{{"a": {ENTRY.replace("[2]", "[[0], 1000000000]")}}}',
        f'{{"a": {ENTRY.replace("8]", "9" * 4000 + "]")}}}',
        f'{{"a": {ENTRY[:-1]}, "dtype": "F32"}}}}',
        f'{{"a": {ENTRY[:-1]}, "more": {"[" * 200 + "]" * 200}}}}}',
        f'{{"\\ud800": {ENTRY}}}',
        f'{{"__metadata__": {{"a": "\\ud800"}}, "a": {ENTRY}}}',
    ],
)
def test_headers_are_read_as_strictly_as_by_the_library(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(content)) + content + bytes(8))
    with pytest.raises(InputError, match="its header makes no sense"):
        read_header(file)
    with pytest.raises(SafetensorError), safe_open(file, "pt"):
        pass
    for text in (  # the library takes these
        f'{{"a": {ENTRY}, "a": {ENTRY}}}',
        f'{{"a": {ENTRY.replace("[2]", "[" + "1, " * 100 + "2]")}}}',
    ):
        file.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(8))
        with pytest.raises(InputError, match="its header makes no sense"):
            read_header(file)


def test_a_header_whose_length_looks_like_a_pickle(tmp_path):
    content = f'{{"a": {ENTRY}}}'.encode().ljust(640)
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", 640) + content + bytes(8))
    assert file.read_bytes().startswith(b"\x80\x02")
    assert read_header(file)["a"].shape == (2,)


@pytest.mark.parametrize(("dtype", "shape"), [("F4", [16]), ("F8_E4M3FNUZ", [8]), ("C64", [1])])
def test_newer_dtypes_are_known_but_not_computed_with(folder, dtype, shape):
    text = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, 8]}}).encode()
    file = folder / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert read_header(file)["a"].bytes == 8
    file.write_bytes(file.read_bytes().replace(f'"{dtype}"'.encode(), f'"{dtype[1:]}?"'.encode()))
    with pytest.raises(InputError, match=r"a is stored as .*\?', which zs2 does not know"):
        read_header(file)


def test_what_changes_after_its_header_was_read_is_one_sentence(folder, monkeypatch):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    entries = read_header(file)
    file.write_bytes(b"gone")
    with pytest.raises(InputError, match=r"cannot be read: .*; download it again"):
        _read(entries, dict.fromkeys(entries, torch.zeros(1)), "cpu", torch.float32)


def test_a_tensor_in_two_shards(folder):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    for name in ("a.safetensors", "b.safetensors"):
        save_file(tensors, file.with_name(name))
    names = {key: "ab"[i % 2] + ".safetensors" for i, key in enumerate(tensors)}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": names}))
    file.unlink()
    refused(folder, r"is in a.safetensors and again in b.safetensors")


@pytest.mark.parametrize("part", ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_pipe_is_not_waited_for(folder, part):
    (folder / part).unlink()
    os.mkfifo(folder / part)
    refused(folder, f"{part} is no regular file")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("text_encoder", {"num_hidden_layers": 10**9}, "1000000000 is not supported: at most 100"),
        ("unet", {"layers_per_block": 10**9}, "1000000000 is not supported: at most 20"),
        ("vae", {"layers_per_block": 10**19}, "layers_per_block = 10000000000000000000 is not"),
        (
            "unet",
            {"block_out_channels": [32] * 10**6},
            r"block_out_channels = \[32, 32, .*\.\.\.\]",
        ),
        ("unet", {"sample_size": 10**400}, r"sample_size = 10+\.\.\.0+ is not supported"),
        ("unet", {"norm_eps": float("inf")}, "norm_eps = inf is not supported"),
        ("vae", {"scaling_factor": float("nan")}, "scaling_factor = nan is not supported"),
        ("text_encoder", {"intermediate_size": 2**62}, "fits no network"),
        ("unet", {"act_fn": "x" * 10**6}, "act_fn = x+[.]{3}x+ is not supported"),
        ("unet", {"act_fn": "\x1b[31m\n"}, r"act_fn = \\x1b\[31m\\n is not supported"),
    ],
)
def test_numbers_that_no_network_has(folder, part, changes, message):
    edit_json(folder / part / "config.json", **changes)
    refused(folder, message)


def test_a_configuration_nested_too_deep(folder):
    for depth in (30, 900, 100_000):
        (folder / "unet/config.json").write_text('{"a": ' + "[" * depth + "]" * depth + "}")
        refused(folder, "config.json is not JSON: it is nested too deep")


def test_of_a_library_s_many_lines_the_first_is_told():
    def make():
        raise RuntimeError("the reason\nException raised from f at g.cpp:1")

    with pytest.raises(InputError, match=r"fits no network: the reason$"):
        build(make, {}, Path("x"), "cpu", torch.float32)


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
    refused(folder, "only a file.s name is allowed")
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    refused(folder, "x.safetensors is missing")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"act_fn": "mish"}, "act_fn = mish is not supported"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet", {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ("unet", {"in_channels": 9}, "an inpainting model"),
        ("unet", {"in_channels": 5}, "5 input channels"),
        ("unet", {"in_channels": 8}, r"conv_in.weight has shape .* expected \[32, 8, 3, 3\]"),
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
    assert weights.schedule.beta_start == 0.00085
    assert weights.defaults.steps == 10


def test_weights_too_large_for_the_precision_are_told(folder):
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["quant_conv.weight"][0, 0, 0, 0] = 1e6
    save_file(tensors, file)
    refused(folder, "quant_conv.weight does not fit into float16", dtype=torch.float16)
    load_weights(folder, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("values", "message"), [({"size": 63}, "multiple of 2"), ({"steps": 0}, "at least 1")]
)
def test_defaults_that_cannot_be_sampled_with(folder, values, message):
    (folder / "zs2.json").write_text(json.dumps(values))
    refused(folder, message)


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
    assert load_weights(folder).text.towers[0].encoder.config.num_attention_heads == 8


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


def single_file(tmp_path: Path, **tensors: torch.Tensor) -> Path:
    path = tmp_path / "single.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "is a LoRA"),
        ("control_model.zero_convs.0.0.weight", "is a ControlNet"),
        ("conditioner.embedders.1.model.x.weight", "a text encoder alone for SDXL"),
        ("cond_stage_model.model.ln_final.weight", r"a text encoder alone for SD 2\.x"),
        ("first_stage_model.encoder.conv_in.weight", "half a VAE"),
        ("down_blocks.0.resnets.0.conv1.weight", "the UNet of a Stable Diffusion model alone"),
        ("text_model.embeddings.token_embedding.weight", "a text encoder alone"),
        ("model.diffusion_model.input_blocks.0.0.weight", "the UNet of"),
        ("bert.weight", "of a kind that zs2 does not know"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, name, message):
    refused(single_file(tmp_path, **{name: torch.zeros(1)}), message)


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpainting"), (5, "5 input channels")])
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
