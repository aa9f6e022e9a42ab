"""LoRA and its relatives, merged into a checkpoint's weights once, at load.

weights = LoRA("style.safetensors:0.8", "thing.safetensors")(weights)

What each file adds to a weight is computed from the weight as it was, in float32; the sum is added
once, and then cast. To take a LoRA out, load the model again.
"""

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zs2.checkpoint.deltas import change
from zs2.checkpoint.hub import download, local_path
from zs2.checkpoint.kinds import Family, check_family
from zs2.checkpoint.lora_file import Change, LoRAFile
from zs2.errors import InputError
from zs2.receipt import Receipt, cut
from zs2.timeline import check_range
from zs2.weights import Weights

STRONGEST = 100
"""Far beyond what makes a picture: a larger weight is a slip."""
TOWERS = ("text_encoder", "text_encoder_2")
WORDS = {"unet": "the UNet", "text_encoder": "the text encoder", "text_encoder_2": "text encoder 2"}


@dataclass(frozen=True)
class Source:
    """A file and how much of it is wanted, from "FILE" or "FILE:WEIGHT".

    Attributes:
        name: the path or hub id as it was given.
    """

    name: str
    strength: float
    file: LoRAFile

    @staticmethod
    def parse(text: str) -> "Source":
        """
        Raises:
            InputError: there is no such file, it is no LoRA, or the weight is out of range.
        """
        name, strength = split_weight(text)
        path = local_path(name) if name else None
        if path is None:
            if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(?<!\.safetensors)", name, re.ASCII):
                raise InputError(f"{name or 'an empty name'} does not exist: give a LoRA's file")
            file = "pytorch_lora_weights.safetensors"
            path = download(name, file, lambda files: [f for f in files if f == file])
        return Source(name, strength, LoRAFile.open(path))

    def __str__(self) -> str:
        return f"{self.name}:{self.strength}"


def split_weight(text: str) -> tuple[str, float]:
    """The path and the weight of "FILE" or "FILE:WEIGHT"; a path may hold colons itself.

    Raises:
        InputError: the weight is none, or out of range.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or local_path(text) is not None:
        return text, 1.0
    try:
        strength = float(tail)
    except ValueError:
        if local_path(name) is None:  # "C:\\a.safetensors" has no weight
            return text, 1.0
        raise InputError(f"{text}: {tail!r} is no weight: give a number, as {name}:0.8") from None
    try:
        check_range(f"the weight of {name}", strength, STRONGEST, -STRONGEST)
    except ValueError as error:
        raise InputError(str(error)) from None
    return name, strength


class LoRA:
    """An adapter: the weights with LoRAs merged in. Give all at once: their sum is added once.

    Args:
        files: "FILE" or "FILE:WEIGHT": a safetensors file, a folder of PEFT's or diffusers', or a
            hub id. The weight is the strength, 1 unless told; at 0 nothing changes.

    Raises:
        InputError: a file is no LoRA, or a weight is out of range.
    """

    def __init__(self, *files: str | Path) -> None:
        self.sources = [Source.parse(str(file)) for file in files]

    def __call__(self, weights: Weights) -> Weights:
        """The weights with all files merged in, and a receipt for each file.

        Raises:
            InputError: a file is for another kind of model, or nothing in it fits this one.
        """
        towers = weights.text.towers
        networks: dict[str, nn.Module] = {"unet": weights.unet}
        networks |= {name: t.encoder for name, t in zip(TOWERS, towers, strict=False)}
        family = Family.of(weights.unet.config.cross_attention_dim)
        receipts = list(weights.receipts)
        changes: defaultdict[str, defaultdict[str, list[tuple[Source, Change]]]]
        changes = defaultdict(lambda: defaultdict(list))
        for source in self.sources:
            file = source.file
            check_family(file.path, file.kind, family)
            found, unused = file.changes(networks)
            if not found:
                raise InputError(f"{file.path} fits no layer of this model: it has {cut(unused)}")
            receipts.append(Receipt(str(source), file.kind.words, counted(found), tuple(unused)))
            for (network, key), what in found.items():
                if source.strength:
                    changes[network][key].append((source, what))
        new: Any = networks | {name: merge(networks[name], todo) for name, todo in changes.items()}
        text = (replace(t, encoder=new[name]) for name, t in zip(TOWERS, towers, strict=False))
        before: Any = weights.settings.get("lora", ())
        return replace(
            weights,
            unet=new["unet"],
            text=replace(weights.text, towers=tuple(text)),
            settings={**weights.settings, "lora": [*before, *map(str, self.sources)]},
            receipts=tuple(receipts),
        )


def counted(found: Mapping[tuple[str, str], Change]) -> Counter[str]:
    """How many tensors of each network a file changes, by method."""
    return Counter(
        f"{what.method.name} in {words}"
        for name, words in WORDS.items()
        for (network, _), what in found.items()
        if network == name
    )


@torch.no_grad()
def merge(model: nn.Module, changes: Mapping[str, Sequence[tuple[Source, Change]]]) -> nn.Module:
    """A network like `model` with some tensors changed; the others are the same objects.

    Raises:
        InputError: a change has another shape than its tensor, or is not finite.
    """
    from safetensors import SafetensorError, safe_open

    new = copy.deepcopy(model, {id(tensor): tensor for tensor in model.parameters()})
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        for key, sources in changes.items():
            old = model.get_parameter(key)
            weight = old.float()
            total = torch.zeros_like(weight)
            for source, what in sources:
                path = source.file.path
                try:
                    if path not in opened:
                        opened[path] = stack.enter_context(safe_open(path, framework="pt"))
                    stored = {p: opened[path].get_tensor(k) for p, k in what.keys.items()}
                except (OSError, SafetensorError) as error:
                    raise InputError(
                        f"{path} cannot be read: {error}; download it again"
                    ) from error
                total += source.strength * _change(source, what, weight, stored)
            merged = torch.empty_like(old).copy_(weight + total)
            if not merged.isfinite().all():
                kind = str(old.dtype).removeprefix("torch.")
                raise InputError(
                    f"{sources[0][0].name} at this weight does not fit into {kind}: use "
                    "--dtype fp32 or bf16, or a smaller weight"
                )
            layer, _, name = key.rpartition(".")
            parameter = nn.Parameter(merged, requires_grad=False)
            new.get_submodule(layer).register_parameter(name, parameter)
    return new


def _change(source: Source, what: Change, weight: Tensor, stored: Mapping[str, Tensor]) -> Tensor:
    """What one file adds to a tensor at strength 1."""
    parts = {part: t.to(weight.device, torch.float32) for part, t in stored.items()}
    if what.scale is not None:
        parts["scale"] = torch.tensor(what.scale)
    key = next(iter(what.keys.values()))
    try:
        made = change(what.method, weight, parts)
    except ValueError as error:
        raise InputError(
            f"{source.file.path}: {key} is of {error}: it was trained on another model"
        ) from error
    if not made.isfinite().all():
        raise InputError(f"{source.file.path}: {key}, or what belongs to it, holds NaN or Inf")
    return made
