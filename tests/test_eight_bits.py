"""Weights of 8 bits in folders and files: cast, scaled where a number says so, and said once."""

import shutil
import warnings

import pytest
import torch
from folders import refused
from safetensors.torch import load_file, save_file

from zs2.checkpoint.load import load_weights

KEY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
TYPES = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


@pytest.fixture
def file(folder):
    return folder / "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("name", TYPES)
def test_eight_bits_are_cast_and_that_is_said_once(folder, file, name):
    tensors = {k: t.to(TYPES[name]) for k, t in load_file(file).items()}
    save_file(tensors, file)
    with pytest.warns(
        UserWarning, match=rf"holds weights of 8 bits \({name}\): .* cast to bf16"
    ) as w:
        weights = load_weights(folder, dtype=torch.bfloat16)
    assert len(w) == 1
    for key, tensor in weights.unet.state_dict().items():
        assert tensor.equal(tensors[key].to(torch.bfloat16)), key


def test_mixed_precision_is_not_worth_a_word(folder, file):
    tensors = load_file(file)
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    mixed = {k: t.to(kinds[i % 4]) for i, (k, t) in enumerate(tensors.items())}
    save_file(mixed, file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = load_weights(folder).unet.state_dict()
    assert all(ours[k].equal(t.float()) for k, t in mixed.items())


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_scale_is_multiplied_in(folder, file, spelling, shape):
    tensors = load_file(file)
    stem = KEY.removesuffix(".weight")
    small = (tensors[KEY] * 64).to(torch.float8_e4m3fn)
    beside = {
        KEY: small,
        f"{stem}.{spelling}": torch.full(shape, 1 / 64),
        f"{stem}.scale_input": torch.ones(()),
        f"{stem}.input_scale": torch.ones(()),
        f"{stem}.comfy_quant": torch.zeros(8, dtype=torch.uint8),
        "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
    }
    save_file({**tensors, **beside}, file)
    with pytest.warns(UserWarning, match="8 bits"):
        ours = load_weights(folder).unet.state_dict()
    assert ours[KEY].equal(small.float() / 64)
    assert all(ours[k].equal(t) for k, t in tensors.items() if k != KEY)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({KEY[:-6] + "weight_scale": torch.ones(32)}, "weight_scale scales parts of a tensor"),
        ({KEY: torch.zeros(32, 32, dtype=torch.int8)}, f"{KEY} is stored as I8: quantised"),
        ({KEY: torch.zeros(512, 1, dtype=torch.uint8)}, f"{KEY} is stored as U8: quantised"),
        ({"surprise": torch.zeros(3, dtype=torch.int64)}, "1 tensors too many: surprise"),
        ({"gone.weight_scale": torch.ones(())}, "1 tensors too many: gone.weight_scale"),
    ],
)
def test_other_ways_to_store_weights_are_refused(folder, file, tensors, message):
    save_file({**load_file(file), **tensors}, file)
    refused(folder, message)


def test_a_scale_in_another_file_is_left_over(folder, file):
    """It could not be read with the weight."""
    tensors = load_file(file)
    index = {"weight_map": {**dict.fromkeys(tensors, "a.safetensors")}}
    scale = KEY.replace(".weight", ".weight_scale")
    index["weight_map"][scale] = "b.safetensors"
    shutil.move(file, file.with_name("a.safetensors"))
    save_file({scale: torch.ones(())}, file.with_name("b.safetensors"))
    import json

    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    refused(folder, "1 tensors too many: .*weight_scale")
