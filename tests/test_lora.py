"""LoRAs merged into a checkpoint."""

from dataclasses import replace
from pathlib import Path

import lycoris
import pytest
import torch
from conftest import scramble
from loras import ATTN, as_kohya, draw, kohya, networks, pairs, refused
from safetensors.torch import save_file
from torch import Tensor

from zs2.checkpoint.load import load_weights
from zs2.checkpoint.lora import LoRA, split_weight
from zs2.condition import Condition
from zs2.errors import InputError
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.text import Text, Tower
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.weights import Weights


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


def test_strength_0_is_the_plain_model(weights, file):
    made = LoRA(f"{file}:0")(weights)
    for name, model in networks(made).items():
        for key, tensor in networks(weights)[name].state_dict().items():
            assert tensor is not None
            assert model.state_dict()[key].data_ptr() == tensor.data_ptr()


def test_what_came_in_stays_as_it_was_and_is_shared(weights, file):
    before = {
        n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in networks(weights).items()
    }
    made = LoRA(str(file))(weights)
    assert weights.receipts == ()
    for name, model in networks(weights).items():
        new = dict(networks(made)[name].named_parameters())
        changed = set()
        for key, parameter in model.named_parameters():
            assert parameter.equal(before[name][key])
            if new[key] is not parameter:
                changed.add(key)
                assert new[key].stride() == parameter.stride()
                assert not new[key].requires_grad
        assert len(changed) == {"unet": 9, "text_encoder": 2}[name]
    assert made.vae is weights.vae


def test_deltas_are_of_the_original_weight_and_added_once(weights, drawn, tmp_path):
    """A product with W (GLoRA) does not see what the other file adds; bf16 is rounded once."""
    layer = f"{ATTN}.attn1.to_q"
    w = weights.unet.get_submodule(layer).weight
    eye = torch.eye(32)
    flat = "lora_unet_" + layer.replace(".", "_")
    names = ("a1", "a2", "b1", "b2")
    values = (eye, eye, torch.zeros(32, 32), torch.zeros(32, 32))
    save_file(
        {f"{flat}.{n}.weight": v.clone() for n, v in zip(names, values, strict=True)},
        tmp_path / "b.safetensors",
    )
    one = {k: v for k, v in drawn["unet"].items() if k.startswith(layer)}
    save_file(kohya("lora_unet_", one, None), tmp_path / "a.safetensors")
    files = [f"{tmp_path}/a.safetensors:0.5", f"{tmp_path}/b.safetensors:0.25"]
    delta = 0.5 * one[f"{layer}.up"] @ one[f"{layer}.down"]
    for order in (files, files[::-1]):
        made = LoRA(*order)(weights).unet.get_submodule(layer).weight
        torch.testing.assert_close(made, 1.25 * w + delta)
    half = replace(weights, unet=UNet(weights.unet.config).bfloat16())
    half.unet.load_state_dict(weights.unet.state_dict())
    made = LoRA(*files)(half).unet.get_submodule(layer).weight
    assert made.equal((1.25 * w.bfloat16().float() + delta).bfloat16())


def test_two_text_encoders(weights, tmp_path):
    """SDXL's: each by its own prefix, the second with its projection."""
    config = CLIPTextConfig(64, 16, 40, 48, 2, 4, projection_dim=24)
    first, second = (scramble(CLIPText(config, projected), 7) for projected in (False, True))
    words = weights.text.towers[0].tokenizer
    two = replace(weights, text=Text((Tower(words, first), Tower(words, second)), waves=8))
    layers = ["text_model.encoder.layers.1.self_attn.v_proj", "text_model.encoder.layers.0.mlp.fc2"]
    one, other = pairs(first, layers), pairs(second, [*layers[:1], "text_projection"], seed=2)
    files = {
        "kohya": {**kohya("lora_te1_", one), **kohya("lora_te2_", other)},
        "diffusers": {
            f"{name}.{key.removesuffix(part)}lora_linear_layer.{part}.weight": tensor
            for name, tensors in (("text_encoder", one), ("text_encoder_2", other))
            for key, tensor in tensors.items()
            for part in ("up", "down")
            if key.endswith(f".{part}")
        },
    }
    for (name, tensors), scale in zip(files.items(), (2, 1), strict=True):
        save_file(tensors, tmp_path / name)
        made = LoRA(str(tmp_path / name))(two)
        assert made.receipts[0].applied == {
            "LoRA in the text encoder": 2,
            "LoRA in text encoder 2": 2,
        }
        for tower, model, drawn in zip(
            made.text.towers, (first, second), (one, other), strict=True
        ):
            state, old = tower.encoder.state_dict(), model.state_dict()
            assert state.keys() == old.keys()
            for key, tensor in old.items():
                layer = key.removesuffix(".weight")
                if f"{layer}.up" in drawn:
                    tensor = tensor + scale * drawn[f"{layer}.up"] @ drawn[f"{layer}.down"]
                torch.testing.assert_close(state[key], tensor)


def test_nothing_applied_is_an_error(weights, tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(3, 1)}, tmp_path / "x.safetensors")
    refused(
        "fits no layer of this model: .*lora_unet_x", tmp_path / "x.safetensors", weights=weights
    )


def test_a_lora_of_another_family_is_named(weights, tmp_path):
    tensors = {
        f"lora_unet_{ATTN.replace('.', '_')}_attn2_to_k.lora_down.weight": torch.zeros(4, 2048)
    }
    tensors |= {
        f"lora_unet_{ATTN.replace('.', '_')}_attn2_to_k.lora_up.weight": torch.zeros(320, 4)
    }
    save_file(tensors, tmp_path / "xl.safetensors")
    with torch.device("meta"):
        sd = replace(weights, unet=UNet(UNetConfig()))
    refused("is a LoRA for SDXL, and the model is SD 1.x", tmp_path / "xl.safetensors", weights=sd)
    # Of a small model no family is known: shapes tell.
    words = r"change of shape \[320, 2048\] for a weight of \[32, 32\]: it was trained on another"
    refused(words, tmp_path / "xl.safetensors", weights=weights)


def test_values_that_are_no_numbers(weights, drawn, tmp_path):
    tensors = as_kohya(drawn, weights)
    key = next(k for k in tensors if k.endswith("up.weight"))
    tensors[key] = tensors[key] * torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    refused("holds NaN or Inf", tmp_path / "nan.safetensors", weights=weights)
    tensors[key] = torch.full_like(tensors[key], 1e5)
    save_file(tensors, tmp_path / "large.safetensors")
    half = replace(weights, unet=UNet(weights.unet.config).half().requires_grad_(False))
    refused("does not fit into float16", tmp_path / "large.safetensors", weights=half)


def test_a_file_that_vanished(weights, file):
    lora = LoRA(file)
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        lora(weights)


@pytest.mark.parametrize("weight", ["101", "-101", "nan", "inf"])
def test_weights_out_of_range(file, weight):
    refused("must lie in -100..100", f"{file}:{weight}")


def test_the_weight_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "b:2", "c"):
        Path(name).touch()
    assert split_weight("a.safetensors") == ("a.safetensors", 1)
    assert split_weight("a.safetensors:-0.25") == ("a.safetensors", -0.25)
    assert split_weight("b:2") == ("b:2", 1)
    assert split_weight("b:2:0.5") == ("b:2", 0.5)
    assert split_weight("c:1e-1") == ("c", 0.1)
    assert split_weight(r"C:\loras\a.safetensors") == (r"C:\loras\a.safetensors", 1)
    assert split_weight(r"C:\loras\a.safetensors:0.5") == (r"C:\loras\a.safetensors", 0.5)
    assert split_weight("owner/name:0.5") == ("owner/name", 0.5)
    refused("'much' is no weight: give a number, as c:0.8", "c:much")
    refused("'' is no weight", "c:")
    refused("an empty name does not exist", "")
    refused("does not exist: give a LoRA's file", "absent.safetensors:0.5")


def test_a_hub_id(monkeypatch, weights, file):
    def download(repository, marker, choose):
        assert (repository, choose([marker, "b"])) == ("owner/name", [marker])
        return file

    monkeypatch.setattr("zs2.checkpoint.lora.download", download)
    made = LoRA("owner/name:0.5")(weights)
    assert made.settings["lora"] == ["owner/name:0.5"]
    refused("owner/a.safetensors does not exist", "owner/a.safetensors")


LYCORIS = [
    {"algo": "lora", "use_tucker": True, "dora_wd": True},
    {"algo": "loha", "use_tucker": True},
    {"algo": "lokr", "use_tucker": True, "factor": 4, "train_norm": True},
    {"algo": "glora"},
    {"algo": "diag-oft"},
    {"algo": "ia3"},
    {"algo": "full"},
]


@pytest.mark.parametrize("options", LYCORIS, ids=str)
def test_a_whole_network_of_lycoris(weights, written, options, tmp_path):
    """Their file, applied by zs2, against their network at work in diffusers' UNet."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(written / "unet").requires_grad_(False)
    network = lycoris.create_lycoris(unet, 1.0, linear_dim=2, linear_alpha=1, **options)
    network.apply_to()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    path = tmp_path / "lycoris.safetensors"
    network.save_weights(str(path), torch.float32, {})
    made = LoRA(str(path))(weights)
    assert made.receipts[0].unused == ()
    x, prompt = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 32)
    t = torch.tensor([500, 500])
    with torch.no_grad():
        theirs = unet(x, t, prompt).sample
        ours, plain = (w.unet(x, t, Condition(prompt)) for w in (made, weights))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())
    assert (plain - ours).abs().max() > 0.01
