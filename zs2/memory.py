"""Where the states that a stream's chunks hand on lie meanwhile, and the folder that outlives it.

A state is one row a position, layer and branch of every step, float32: 92 MB a step of SD 1.5 at
512x512 with guidance. A folder holds, each file whole or not there:

    state.safetensors       the states after the last finished chunk, what they belong to, and
                            how many frames are finished
    00000000.safetensors    the latents of each finished chunk, by its first frame
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zs2.attention import State
from zs2.denoise import States
from zs2.errors import InputError
from zs2.shot import Model

STATE = "state.safetensors"


@dataclass(frozen=True)
class Memory:
    """Where states lie between two chunks.

    Attributes:
        host: in the host's memory instead of the device's.
        half: in float16, half the bytes. Only without it a stream is exact.
        folder: in files too, from which a stream that was ended goes on; None keeps none.
        told: what the folder's states belong to: the settings of the clip, without its length.
    """

    host: bool = False
    half: bool = False
    folder: Path | None = None
    told: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def put(self, states: States) -> States:
        """The states as they lie here; exact ones on the device are the same tensors."""
        dtype = torch.float16 if self.half else torch.float32

        def laid(x: Tensor) -> Tensor:
            return x.to("cpu" if self.host else x.device, dtype)

        return _each(states, laid) if self.host or self.half else states

    def take(self, states: States, device: torch.device) -> States:
        """The states as a pass needs them, on the device in float32."""
        if self.host or self.half:
            return _each(states, lambda x: x.to(device, torch.float32))
        return states

    def save(self, start: int, latents: Tensor, kept: list[States], model: Model) -> None:
        """Keep a finished chunk: its latents [B, f, C, h, w] from frame `start`, and its states.

        Raises:
            InputError: the folder cannot be written to.
        """
        if self.folder is None:
            return
        frames = start + latents.shape[1]
        names = {layer: str(i) for i, layer in enumerate(model.modules())}
        tensors = {
            f"{call}.{group}.{names[layer]}": tensor.contiguous()
            for call, states in enumerate(kept)
            for group, state in enumerate(states)
            for layer, tensor in (state or {}).items()
        }
        told = {**self.told, "finished": frames}
        # The state is the last to be replaced: until then the one before is whole.
        _write(self.folder / f"{start:08d}.safetensors", {"latents": latents.cpu()}, {})
        _write(self.folder / STATE, tensors, told)

    def load(self, model: Model, device: torch.device) -> tuple[int, list[States]]:
        """How many frames are finished, and the states after them: 0 and none at the beginning.

        Raises:
            InputError: the folder's state is damaged, or belongs to another clip.
        """
        if self.folder is None or not (self.folder / STATE).exists():
            return 0, []
        tensors, told = _read(self.folder / STATE)
        finished = told.pop("finished", None)
        if type(finished) is not int or finished < 1:
            raise InputError(f"{self.folder / STATE} is no state of zs2's: choose another folder")
        check_told(self.folder, told, self.told)
        layers = dict(enumerate(model.modules()))
        kept: dict[int, dict[int, State]] = defaultdict(lambda: defaultdict(dict))
        try:
            for name, tensor in tensors.items():
                call, group, index = map(int, name.split("."))
                kept[call][group][layers[index]] = tensor if self.host else tensor.to(device)
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.folder / STATE} is of another model") from error
        return finished, [[*map(kept[call].get, range(len(kept[call])))] for call in sorted(kept)]

    def finished(self, frames: int) -> Iterator[tuple[int, Tensor]]:
        """First frame and latents [B, f, C, h, w] of the chunks that hold the first F frames.

        Raises:
            InputError: a chunk is missing or damaged.
        """
        start = 0
        while start < frames:
            assert self.folder is not None
            tensors, _ = _read(self.folder / f"{start:08d}.safetensors")
            if "latents" not in tensors or tensors["latents"].ndim != 5:
                raise InputError(f"{self.folder}/{start:08d}.safetensors holds no latents")
            yield start, tensors["latents"]
            start += tensors["latents"].shape[1]


def told_in(folder: Path) -> dict[str, Any] | None:
    """What a folder's state belongs to, with the frames that are finished; None without one.

    Raises:
        InputError: the state is damaged.
    """
    path = folder / STATE
    return _read(path, False)[1] if path.exists() else None


def check_told(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """InputError unless a state belongs to the clip that is to be made."""
    wanted = json.loads(json.dumps(wanted))  # as a file gives it back: lists for tuples
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise InputError(
                f"{folder} keeps the state of another clip: its {key} is {found.get(key)!r:.60}, "
                f"not {wanted.get(key)!r:.60}"
            )


def _each(states: States, change: Callable[[Tensor], Tensor]) -> States:
    return [s and {layer: change(tensor) for layer, tensor in s.items()} for s in states]


def _write(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """A file that is whole under its name, or not there."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    try:
        save_file(dict(tensors), part, {"zs2": json.dumps(told)})
        os.replace(part, path)
    except Exception as error:  # safetensors has its own
        part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error}") from error


def _read(path: Path, whole: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and what is told of them; `whole` or what is told alone."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})["zs2"])
            names = file.keys() if whole else []
            tensors = {name: file.get_tensor(name) for name in names}
    except Exception as error:  # safetensors has its own, and a file may hold anything
        raise InputError(f"{path} is damaged or no file of zs2's: {error}") from error
    if not isinstance(told, dict):
        raise InputError(f"{path} is no file of zs2's")
    return tensors, told
