"""A LoRA's file or folder, in every format that trainers write, against diffusers and PEFT."""

import json
from pathlib import Path

import peft
import pytest
import torch
from loras import (
    ATTN,
    FORMATS,
    as_compvis,
    as_diffusers,
    as_kohya,
    assert_merged,
    draw,
    expected,
    merged,
    networks,
    refused,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from zs2.checkpoint.load import load_weights
from zs2.checkpoint.lora import LoRA
from zs2.checkpoint.lora_file import LoRAFile
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.weights import Weights

REAL = [parent / "shared/data/lora" for parent in Path(__file__).parents]


@pytest.fixture(scope="module")
def weights(written) -> Weights:
    return load_weights(written)


@pytest.fixture(scope="module")
def drawn(weights) -> dict[str, dict[str, Tensor]]:
    return draw(weights)


@pytest.fixture
def file(weights, drawn, tmp_path) -> Path:
    path = tmp_path / "a.safetensors"
    save_file(as_kohya(drawn, weights), path)
    return path


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_weights(weights, drawn, write, tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file(write(drawn, weights), path)
    made = LoRA(f"{path}:0.5")(weights)
    states = {name: model.state_dict() for name, model in networks(made).items()}
    assert_merged(states, expected(weights, drawn, 0.5 * 6 / 3), weights)
    (receipt,) = made.receipts
    assert receipt.applied == {"LoRA in the UNet": 9, "LoRA in the text encoder": 2}
    assert receipt.unused == ()
    assert made.settings["lora"] == [f"{path}:0.5"]


@pytest.mark.parametrize("write", [as_kohya, as_diffusers])
def test_as_diffusers_fuses_it(weights, written, drawn, write, tmp_path):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    path = tmp_path / "lora.safetensors"
    save_file(write(drawn, weights), path)
    unet = UNet2DConditionModel.from_pretrained(written / "unet")
    state, alphas = StableDiffusionPipeline.lora_state_dict(str(path), unet_config=unet.config)
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet)
    unet.fuse_lora(lora_scale=0.7)
    theirs = {k.replace(".base_layer", ""): v for k, v in unet.state_dict().items()}
    theirs = {k: v for k, v in theirs.items() if "lora_" not in k}
    made = merged(weights, f"{path}:0.7")
    assert_merged(made, {**expected(weights, drawn, 0.7 * 2), "unet": theirs}, weights)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 8, f"{ATTN}.ff.net.2": 1}},
    ],
    ids=str,
)
def test_as_peft_merges_its_folder(weights, written, options, tmp_path):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(written / "unet")
    names = ["to_q", "to_k", "to_out.0", "ff.net.2", "conv1", "conv_in", "proj_in"]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=names, **options)
    torch.manual_seed(0)
    model = peft.get_peft_model(unet, config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.2)
            if "magnitude" in key:
                parameter.mul_(1.3)
    model.save_pretrained(tmp_path / "folder")
    made = LoRA(str(tmp_path / "folder"))(weights)
    theirs = model.merge_and_unload().state_dict()
    states = {name: network.state_dict() for name, network in networks(made).items()}
    assert_merged(states, {**expected(weights, {}, 0), "unet": theirs}, weights)
    (receipt,) = made.receipts
    assert receipt.unused == ()
    # The same as one file, with the configuration in its header, as diffusers writes it.
    tensors = load_file(tmp_path / "folder/adapter_model.safetensors")
    told = json.loads((tmp_path / "folder/adapter_config.json").read_text())
    told = {f"unet.{key}": value for key, value in told.items()}
    tensors = {k.replace("base_model.model.", "unet."): v for k, v in tensors.items()}
    path = tmp_path / "file.safetensors"
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps(told)})
    again = merged(weights, str(path))
    for name, state in states.items():
        assert all(again[name][key].equal(tensor) for key, tensor in state.items())


def test_a_file_that_names_a_layer_twice_is_applied_once(weights, drawn, tmp_path):
    path = tmp_path / "twice.safetensors"
    other = {key: -tensor for key, tensor in as_compvis(drawn, weights).items()}
    both = {**{k: t for k, t in other.items() if "te1" not in k}, **as_kohya(drawn, weights)}
    save_file({key: tensor.clone() for key, tensor in both.items()}, path)
    made = LoRA(str(path))(weights)
    states = {name: model.state_dict() for name, model in networks(made).items()}
    assert_merged(states, expected(weights, drawn, 2), weights)
    assert set(made.receipts[0].unused) == {key for key in both if "put_blocks" in key}


def test_what_has_no_use_is_told(weights, drawn, tmp_path):
    path = tmp_path / "some.safetensors"
    extra = {
        "lora_unet_down_blocks_7_proj_in.lora_up.weight": torch.zeros(1),
        "lora_te_text_model_encoder_layers_9_mlp_fc1.lora_up.weight": torch.zeros(1),
        "<s1>": torch.zeros(32),
        f"lora_unet_{ATTN.replace('.', '_')}_attn2_to_v.lora_up.weight": torch.zeros(32, 3),
        f"lora_unet_{ATTN.replace('.', '_')}_attn1_to_q.diff_b": torch.zeros(32),
    }
    save_file({**as_kohya(drawn, weights), **extra}, path)
    (receipt,) = LoRA(str(path))(weights).receipts
    assert set(receipt.unused) == set(extra)
    assert str(receipt).startswith(
        f"{path}:1.0: a LoRA, applied: 9 LoRA in the UNet, 2 LoRA in the text encoder; "
        "unused: 5 tensors, as "
    )


def test_folders(tmp_path, weights, drawn, file):
    refused("holds no LoRA: a folder needs adapter_model", tmp_path / "..")
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "pytorch_lora_weights.safetensors").write_bytes(file.read_bytes())
    made = merged(weights, str(folder))
    assert_merged(made, expected(weights, drawn, 2), weights)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"peft_type": "OFT"}, "PEFT's 'OFT', which zs2 does not support"),
        ({"r": 3, "lora_alpha": 1, "rank_pattern": {".*to_q": 2}}, "does not read the pattern"),
        ({"r": 0, "lora_alpha": 1}, "has r 0 and alpha 1"),
        ({"lora_alpha": 1}, "has r None and alpha 1"),
    ],
)
def test_configurations_that_make_no_sense(weights, drawn, told, words, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(as_diffusers(drawn, weights), path, {"lora_adapter_metadata": json.dumps(told)})
    refused(words, path, weights=weights)


def test_no_json_in_the_header(weights, drawn, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(as_diffusers(drawn, weights), path, {"lora_adapter_metadata": "{"})
    refused("lora_adapter_metadata is not JSON", path)


def numbered(pairs: int, metadata: dict[str, str], path: Path) -> Path:
    tensors = {}
    for i in range(pairs):
        tensors[f"unet:{i}:up"], tensors[f"unet:{i}:down"] = torch.ones(32, 1), torch.ones(1, 32)
    save_file(tensors, path, metadata)
    return path


def test_numbered_layers_must_be_as_many_as_the_models(weights, tmp_path):
    classes = {"unet": json.dumps(["CrossAttention"])}
    path = tmp_path / "x.safetensors"
    refused(
        "has 15 layers of the unet, and the model has 32",
        numbered(15, classes, path),
        weights=weights,
    )
    for told in ({}, {"unet": "{"}, {"unet": "1"}, {"unet": "[[]]"}):
        refused("does not say of which kind", numbered(32, told, path), weights=weights)
    classes = {"unet": json.dumps(["Transformer2DModel"])}
    refused("layers of Transformer2DModel", numbered(32, classes, path), weights=weights)
    made = LoRA(str(numbered(32, {"unet": json.dumps(["CrossAttention"])}, path)))(weights)
    assert made.receipts[0].applied == {"LoRA in the UNet": 32}


@pytest.mark.parametrize(("name", "unused"), [("analog", []), ("disney", ["<s1>", "<s2>"])])
def test_the_real_files_apply_in_full(name, unused):
    """On the names and shapes of SD 1.5."""
    path = next((p for parent in REAL if (p := parent / f"{name}.safetensors").exists()), None)
    if path is None:
        pytest.skip("the file is not here")
    with torch.device("meta"):
        models = {"unet": UNet(UNetConfig()), "text_encoder": CLIPText(CLIPTextConfig())}
    file = LoRAFile.open(path)
    found, spare = file.changes(models)
    assert spare == unused
    assert [sum(n == name for n, _ in found) for name in models] == [144, 48]
    for (network, key), what in found.items():
        up, down = (file.entries[what.keys[part]].shape for part in ("up", "down"))
        assert (up[0], down[1]) == models[network].get_parameter(key).shape
