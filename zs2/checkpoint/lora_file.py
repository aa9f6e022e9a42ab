"""A LoRA's file or folder, read: which layer each of its tensors is for, and how to apply them."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from zs2.checkpoint.deltas import METHODS, Method
from zs2.checkpoint.header import Header, read_header
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Kind, Role
from zs2.checkpoint.lora_names import Place, Places, by_position
from zs2.errors import InputError
from zs2.json_file import parse_json, read_json

_POSITION = re.compile(r"(unet|text_encoder):(\d{1,6}):(up|down)")
_COMPVIS = re.compile(r"(in|out)put_blocks|middle_block")


@dataclass(frozen=True)
class Change:
    """What a file does to one tensor of a network.

    Attributes:
        keys: for each part (`zs2.checkpoint.deltas`), what it is called in the file.
        scale: alpha / rank, where the file's configuration tells it.
    """

    method: Method
    keys: Mapping[str, str]
    scale: float | None = None


@dataclass(frozen=True)
class LoRAFile:
    """A safetensors file, and what PEFT's configuration beside or inside it says.

    Attributes:
        kind: what it is, and the family it fits.
        entries: its tensors, and what its header says.
        config: of the adapter, by network where several have one ("unet.r").
    """

    path: Path
    kind: Kind
    entries: Header
    config: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(path: Path) -> "LoRAFile":
        """From a file, or a folder as PEFT and diffusers write it; no tensor is read.

        Raises:
            InputError: there is none, or it is broken.
        """
        beside: Mapping[str, object] = {}
        if path.is_dir():
            names = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
            found = [path / name for name in names if (path / name).exists()]
            if not found:
                raise InputError(f"{path} holds no LoRA: a folder needs {names[0]}")
            if (config := path / "adapter_config.json").exists():
                beside = read_json(config)
            path = found[0]
        entries = read_header(path)
        told = entries.metadata.get("lora_adapter_metadata")
        if told is not None and not beside:
            try:
                inside = parse_json(told)
            except ValueError as error:
                raise InputError(f"{path}: lora_adapter_metadata is not JSON: {error}") from error
            beside = inside if isinstance(inside, dict) else {}
        peft = beside.get("peft_type", "LORA")
        if peft not in ("LORA", "LOHA", "LOKR"):
            raise InputError(f"{path} is PEFT's {peft!r:.30}, which zs2 does not support")
        return LoRAFile(path, wanted(path, entries, Role.LORA), entries, beside)

    def changes(
        self, networks: Mapping[str, nn.Module]
    ) -> tuple[dict[tuple[str, str], Change], list[str]]:
        """What it does to the networks.

        Returns:
            For each (network, tensor), the change; and the names of what has no use.

        Raises:
            InputError: it numbers its layers, and not those of these networks.
        """
        parts: defaultdict[tuple[str, Place | None], dict[str, str]] = defaultdict(dict)
        numbered = self._numbered(networks)
        places = Places(networks)
        spare = []
        for key in self.entries:
            if match := _POSITION.fullmatch(key):
                index = int(match[2])
                parts[f"{match[1]}:{index}", numbered[match[1]][index]][match[3]] = key
                continue
            place, part, name = places(key)
            if place is None or part in parts[name, place]:
                spare.append(key)
            else:
                parts[name, place][part] = key
        tensors = {n: model.state_dict().keys() for n, model in networks.items()}
        made: dict[tuple[str, str], Change] = {}
        # A file that names a layer in both layouts means the same by both.
        for (name, place), keys in sorted(
            parts.items(), key=lambda item: _COMPVIS.search(item[0][0]) is not None
        ):
            left = dict(keys)
            for method in METHODS:
                if place is None or not method.needs <= left.keys():
                    continue
                target = f"{place.layer}.{method.target}"
                if target in tensors[place.network] and (place.network, target) not in made:
                    taken = {p: k for p, k in left.items() if p in method.needs | method.takes}
                    scale = None if {"alpha", "scale"} & taken.keys() else self._scale(place)
                    made[place.network, target] = Change(method, taken, scale)
                    left = {p: k for p, k in left.items() if p not in taken}
            spare += left.values()
        return made, spare

    def _numbered(self, networks: Mapping[str, nn.Module]) -> dict[str, list[Place]]:
        """For cloneofsimo's files, the layer of each number."""
        counts: dict[str, int] = {}
        for key in self.entries:
            if match := _POSITION.fullmatch(key):
                counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
        classes = {}
        for name in counts:
            try:
                told = parse_json(self.entries.metadata.get(name, ""))
            except ValueError:
                told = None
            if not isinstance(told, list) or not all(isinstance(word, str) for word in told):
                raise InputError(f"{self.path} numbers its layers and does not say of which kind")
            classes[name] = set(told)
        try:
            order = by_position(networks, classes)
        except ValueError as error:
            raise InputError(f"{self.path} has {error}") from error
        for name, count in counts.items():
            if count != len(order[name]):
                raise InputError(
                    f"{self.path} has {count} layers of the {name}, and the model has "
                    f"{len(order[name])}: it is a LoRA of another family"
                )
        return order

    def _scale(self, place: Place) -> float | None:
        """alpha / rank of a layer by the configuration; None where there is none.

        Raises:
            InputError: a value makes no sense.
        """

        def of(name: str) -> Any:
            return self.config.get(f"{place.network}.{name}", self.config.get(name))

        if of("lora_alpha") is None and of("alpha") is None:
            return None
        rank, alpha = (self._pattern(of(n), place) for n in ("rank_pattern", "alpha_pattern"))
        rank = of("r") if rank is None else rank
        alpha = (of("lora_alpha") or of("alpha")) if alpha is None else alpha
        if not all(isinstance(v, int | float) and 0 < v < 1e9 for v in (rank, alpha)):
            raise InputError(f"{self.path}: its configuration has r {rank!r} and alpha {alpha!r}")
        return alpha / rank**0.5 if of("use_rslora") else alpha / rank

    def _pattern(self, table: object, place: Place) -> Any:
        """The value of a layer in PEFT's rank_pattern or alpha_pattern."""
        for name, value in table.items() if isinstance(table, dict) else ():
            ending = name.removeprefix("^")
            if not re.fullmatch(r"[\w.]+", ending):
                raise InputError(f"{self.path}: zs2 does not read the pattern {name!r:.100}")
            if f".{place.layer}".endswith(f".{ending}"):
                return value
        return None
