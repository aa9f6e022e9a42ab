"""A control from a path: ControlNet, Control-LoRA or T2I-Adapter; folder or single file.

A single file says nothing of its configuration: a ControlNet's is the UNet's. A file that holds
changes alone is made whole with the UNet's weights.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zs2.checkpoint.build import build, expected_shapes, read_tensor
from zs2.checkpoint.config import read_config
from zs2.checkpoint.header import Entry, component_weights
from zs2.checkpoint.hub import WEIGHTS, resolve
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Family, Kind, Role, check_family
from zs2.checkpoint.names import PREFIX, compvis_name
from zs2.checkpoint.t2i_adapter import load_adapter
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.t2i_adapter import T2IAdapter
from zs2.weights import Weights

DIFFERENCE, FACTORS = "difference", "lora_controlnet"
"""Tensors that only say what the others are."""
PICTURE = ("conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out")
"""The layers that read a control picture; in CompVis files each second number is an activation."""

Entries = Mapping[str, Entry]


@dataclass(frozen=True)
class ControlFile:
    """What a path holds, from headers alone: its tensors, and a folder's config.json."""

    path: Path
    entries: Entries
    values: Mapping[str, object]
    kind: Kind


def read_control(path: str | Path) -> ControlFile:
    """What a path or hub id holds.

    Raises:
        InputError: it is no control, or cannot be read.
    """
    path = resolve(path, "config.json", pick)
    entries = component_weights(path)
    kind = wanted(path, entries, Role.CONTROL)
    values = read_json(path / "config.json") if path.is_dir() else {}
    return ControlFile(path, entries, values, kind)


def load_control(path: str | Path, weights: Weights) -> ControlNet | T2IAdapter:
    """What controls a model, from a path or hub id.

    Args:
        weights: of the model; the control gets the device and dtype of its UNet.

    Raises:
        InputError: it is something else, of another family, or not complete.
    """
    file = read_control(path)
    check_family(file.path, file.kind, Family.of(weights.unet.config.cross_attention_dim))
    adapter = any(re.match(r"(adapter\.)?body\.", key) for key in file.entries)
    load = load_adapter if adapter else load_controlnet
    return load(file.path, file.entries, file.values, weights)


def pick(files: list[str]) -> list[str]:
    """Of a hub repository's files, those that are read: plain weights, or fp16 alone."""
    found = [f for f in files if WEIGHTS.fullmatch(f"/{f}")]
    return ["config.json", *([f for f in found if ".fp16" not in f] or found)]


def load_controlnet(
    path: Path, entries: Entries, values: Mapping[str, object], weights: Weights
) -> ControlNet:
    """A ControlNet of any form."""
    config = replace(
        ControlNetConfig.of(weights.unet.config),
        global_pool_conditions="shuffle" in path.stem,  # only its name tells
    )
    if values:
        config = read_config(ControlNetConfig, values, path / "config.json")
    prefix = "control_model." if any(k.startswith("control_model.") for k in entries) else ""
    ours = {compvis_control_name(k, config): k for k in expected_shapes(ControlNet, config, path)}
    found = {
        hugging_face_name(k.removeprefix(prefix), ours): entry
        for k, entry in entries.items()
        if k.startswith(prefix) and k not in (DIFFERENCE, FACTORS)
    }
    if FACTORS in entries:
        return from_factors(path, found, config, weights)
    if DIFFERENCE in entries:
        return from_differences(path, found, config, weights)
    first = weights.unet.conv_in.weight
    return build(lambda: ControlNet(config), found, path, first.device, first.dtype)


def from_differences(
    path: Path, found: Entries, config: ControlNetConfig, weights: Weights
) -> ControlNet:
    """A ControlNet from what it has more than the UNet; the sums are made in float32."""
    first = weights.unet.conv_in.weight
    net: ControlNet = build(lambda: ControlNet(config), found, path, first.device, torch.float32)
    for key, tensor in net.state_dict().items():
        if (base := tensor_of(weights.unet, key)) is not None:
            check_shape(path, key, tensor.shape, base)
            tensor += base
    return net.to(first.dtype)


def from_factors(
    path: Path, found: Entries, config: ControlNetConfig, weights: Weights
) -> ControlNet:
    """A Control-LoRA: weights of its own, and up @ down to add to the UNet's, in float32."""
    first = weights.unet.conv_in.weight
    tensors = {key: read_tensor(entry).to(first.device) for key, entry in found.items()}
    if odd := next((key for key, x in tensors.items() if not x.is_floating_point()), None):
        raise InputError(f"{path}: {odd} is stored as {found[odd].dtype}: give the fp16 one")
    tensors = {key: x.float() for key, x in tensors.items()}
    net: dict[str, Tensor] = {}
    for key, shape in expected_shapes(ControlNet, config, path).items():
        stem = key.removesuffix("weight")
        own, up, down = (tensors.pop(k, None) for k in (key, f"{stem}up", f"{stem}down"))
        if own is None and (base := tensor_of(weights.unet, key)) is not None:
            own = base.float()
            if up is not None and down is not None:
                change = up.flatten(1) @ down.flatten(1)
                check_shape(path, key, change.shape, own.flatten(1))
                own = own + change.reshape(own.shape)
        if own is None:
            raise InputError(f"{path} lacks {key}: it is not complete")
        if own.numel() != math.prod(shape):
            raise InputError(f"{path}: {key} has shape {[*own.shape]}, expected {[*shape]}")
        net[key] = own.reshape(shape).to(first.dtype)
        if not net[key].isfinite().all():
            raise InputError(f"{path}: {key} holds NaN or Inf, or does not fit into {first.dtype}")
    if tensors:
        raise InputError(f"{path} has {len(tensors)} tensors too many: {', '.join([*tensors][:3])}")
    with torch.device("meta"):
        model = ControlNet(config)
    model.load_state_dict(net, assign=True)
    return model.eval().requires_grad_(False)


def tensor_of(model: nn.Module, key: str) -> Tensor | None:
    """A tensor by its key, whole also where the model keeps it in 8 bits; None where there is none.

    (`state_dict` would hold its parts.)
    """
    path, _, name = key.rpartition(".")
    try:
        return getattr(model.get_submodule(path), name)
    except AttributeError:
        return None


def check_shape(path: Path, key: str, found: tuple[int, ...], ours: Tensor) -> None:
    """InputError unless what changes a tensor has its shape."""
    if tuple(found) != tuple(ours.shape):
        raise InputError(
            f"{path} was made for another model: {key} changes {[*found]}, "
            f"and the model's is {[*ours.shape]}"
        )


def compvis_control_name(key: str, config: ControlNetConfig) -> str:
    """Name in a CompVis file of a ControlNet's tensor, without `control_model.`"""
    *path, kind = key.split(".")
    if path[0] == "controlnet_cond_embedding":
        return f"input_hint_block.{2 * PICTURE.index('.'.join(path[1:]))}.{kind}"
    if path[0] == "controlnet_down_blocks":
        return f"zero_convs.{path[1]}.0.{kind}"
    if path[0] == "controlnet_mid_block":
        return f"middle_block_out.0.{kind}"
    return compvis_name(key, config).removeprefix(PREFIX["unet"])


def hugging_face_name(name: str, ours: Mapping[str, str]) -> str:
    """Our name for a ControlNet's tensor, or for one of a weight's factors; else as it is."""
    stem, _, kind = name.rpartition(".")
    if kind in ("up", "down") and (weight := ours.get(f"{stem}.weight")):
        return weight.removesuffix("weight") + kind
    return ours.get(name, name)
