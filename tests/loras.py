"""LoRAs of random values, in the formats of trainers, and what they make of a checkpoint."""

import re
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from zs2.checkpoint.lora import LoRA
from zs2.checkpoint.names import compvis_name
from zs2.errors import InputError
from zs2.weights import Weights

ATTN = "down_blocks.0.attentions.0.transformer_blocks.0"
LINEAR = (f"{ATTN}.attn1.to_q", f"{ATTN}.attn2.to_k", f"{ATTN}.attn1.to_out.0", f"{ATTN}.ff.net.2")
CONVS = ("down_blocks.0.resnets.0.conv1", "up_blocks.1.resnets.0.conv_shortcut", "conv_in")
CONVS += ("down_blocks.0.downsamplers.0.conv", f"{ATTN.partition('.transformer')[0]}.proj_in")
TEXT = ("text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.0.mlp.fc1")


def draw(weights: Weights) -> dict[str, dict[str, Tensor]]:
    """Some layers of both networks, linear and convolutions."""
    models = networks(weights)
    return {
        "unet": pairs(models["unet"], LINEAR + CONVS),
        "text_encoder": pairs(models["text_encoder"], TEXT, seed=1),
    }


def pairs(model: nn.Module, layers: Iterable[str], seed: int = 0) -> dict[str, Tensor]:
    """Random up and down matrices of rank 3 for some layers: "LAYER.up", "LAYER.down"."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in layers:
        shape = model.get_submodule(layer).weight.shape
        up = (shape[0], 3, *(1,) * len(shape[2:]))
        for name, size in (("up", up), ("down", (3, *shape[1:]))):
            tensors[f"{layer}.{name}"] = 0.2 * torch.randn(size, generator=generator)
    return tensors


def kohya(prefix: str, tensors: dict[str, Tensor], alpha: float | None = 6.0) -> dict[str, Tensor]:
    named = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        flat = prefix + layer.replace(".", "_")
        named[f"{flat}.lora_{part}.weight"] = tensor
        if alpha is not None:
            named[f"{flat}.alpha"] = torch.tensor(alpha)
    return named


def networks(weights: Weights) -> dict[str, nn.Module]:
    return {"unet": weights.unet, "text_encoder": weights.text.towers[0].encoder}


def merged(weights: Weights, *files: str) -> dict[str, dict[str, Tensor]]:
    return {name: model.state_dict() for name, model in networks(LoRA(*files)(weights)).items()}


def expected(weights: Weights, tensors: dict[str, dict[str, Tensor]], scale: float) -> dict:
    """By hand: W + scale * up @ down."""
    states = {}
    for name, model in networks(weights).items():
        state = dict(model.state_dict())
        for key, up in tensors.get(name, {}).items():
            if key.endswith(".up"):
                layer = key.removesuffix(".up")
                down = tensors[name][f"{layer}.down"]
                delta = up.flatten(1) @ down.flatten(1)
                old = state[f"{layer}.weight"]
                state[f"{layer}.weight"] = old + scale * delta.reshape(old.shape)
        states[name] = state
    return states


def assert_merged(made: dict, wanted: dict, plain: Weights) -> None:
    """1e-4 of each weight's largest value, in every tensor; and something changed."""
    changed = 0
    for name, model in networks(plain).items():
        old = model.state_dict()
        assert made[name].keys() == old.keys()
        for key, tensor in wanted[name].items():
            tolerance = 1e-4 * tensor.abs().max().item()
            torch.testing.assert_close(made[name][key], tensor, rtol=0, atol=tolerance, msg=key)
            changed += not torch.allclose(tensor, old[key], atol=10 * tolerance)
    assert changed > 1


def as_kohya(drawn: dict, weights: Weights) -> dict[str, Tensor]:
    return {
        **kohya("lora_unet_", drawn["unet"]),
        **kohya("lora_te_", drawn["text_encoder"]),
    }


def as_compvis(drawn: dict, weights: Weights) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in drawn["unet"].items():
        layer, _, part = key.rpartition(".")
        single = compvis_name(f"{layer}.weight", weights.unet.config)
        single = single.removeprefix("model.diffusion_model.").removesuffix(".weight")
        renamed[f"{single}.{part}"] = tensor
    return {**kohya("lora_unet_", renamed), **kohya("lora_te1_", drawn["text_encoder"])}


def as_diffusers(drawn: dict, weights: Weights) -> dict[str, Tensor]:
    """PEFT's names, as diffusers writes them; without alpha the matrices are taken as they are."""
    letters = {"up": "lora_B", "down": "lora_A"}
    named = {}
    for network, tensors in drawn.items():
        for key, tensor in tensors.items():
            layer, _, part = key.rpartition(".")
            twice = 2 * tensor if part == "up" else tensor  # alpha / rank of the others
            named[f"{network}.{layer}.{letters[part]}.weight"] = twice
    return named


def as_old_diffusers(drawn: dict, weights: Weights) -> dict[str, Tensor]:
    named = {}
    for key, tensor in drawn["unet"].items():
        layer, _, part = key.rpartition(".")
        twice = 2 * tensor if part == "up" else tensor
        if ".attn" in layer:
            block, attn, name = re.fullmatch(r"(.*)\.(attn\d)\.(to_\w+)(?:\.0)?", layer).groups()
            named[f"unet.{block}.{attn}.processor.{name}_lora.{part}.weight"] = twice
        else:
            named[f"unet.{layer}.lora.{part}.weight"] = twice
    old = {"q_proj": "to_q"}
    for key, tensor in drawn["text_encoder"].items():
        layer, _, part = key.rpartition(".")
        twice = 2 * tensor if part == "up" else tensor
        block, _, last = layer.rpartition(".")
        ending = f"{old[last]}_lora" if last in old else f"{last}.lora_linear_layer"
        named[f"text_encoder.{block}.{ending}.{part}.weight"] = twice
    return named


FORMATS = (as_kohya, as_compvis, as_diffusers, as_old_diffusers)


def refused(words: str, *files: object, weights: Weights | None = None) -> None:
    def load() -> None:
        lora = LoRA(*map(str, files))
        if weights:
            lora(weights)

    with pytest.raises(InputError, match=words) as caught:
        load()
    assert "\n" not in str(caught.value)
