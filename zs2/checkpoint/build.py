"""A network and its tensors: built without memory, then filled strictly from a checkpoint."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zs2.checkpoint.eight_bits import FLOATS
from zs2.checkpoint.header import Entry
from zs2.checkpoint.kinds import Family
from zs2.errors import InputError

DTYPES = ("F16", "BF16", "F32", "F64", *FLOATS)
"""What is read; all of it is cast."""


def build(
    make: Any,
    entries: Mapping[str, Entry],
    where: Path,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Any:
    """Make a model without memory, then give it the tensors of a checkpoint, strictly.

    Raises:
        InputError: tensors are missing, left over, misshaped or not finite.
    """
    model = _empty(make, where)
    expected = model.state_dict()
    check({key: tuple(tensor.shape) for key, tensor in expected.items()}, entries, where)
    model.load_state_dict(_read(entries, expected, device, dtype), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def check(
    expected: Mapping[str, tuple[int, ...]], entries: Mapping[str, Entry], where: Path
) -> None:
    """Refuse tensors that are not those of a network; their values are not read.

    Raises:
        InputError: some are missing, left over or misshaped, or of a type that is not read.
    """
    for key, entry in entries.items():
        if key in expected and entry.dtype not in DTYPES:
            raise InputError(
                f"{where}: {key} is stored as {entry.dtype}: quantised weights are not "
                "supported, give the fp16 or fp32 ones"
            )
    if missing := [k for k in expected if k not in entries]:
        few = ", ".join(missing[:3])
        raise InputError(f"{where} lacks {len(missing)} of {len(expected)} tensors: {few}")
    if spare := [k for k in entries if k not in expected]:
        few = ", ".join(spare[:3])
        raise InputError(f"{where} has {len(spare)} tensors too many: {few}")
    for key, shape in expected.items():
        if not same_shape(entries[key].shape, shape):
            found, need = [*entries[key].shape], [*shape]
            hint = ""
            if key.endswith("attn2.to_k.weight") and (family := Family.of(found[-1])):
                hint = f": the file looks like {family.value}"
            raise InputError(f"{where}: {key} has shape {found}, expected {need}{hint}")


@cache
def expected_shapes(
    model: Callable[..., nn.Module], config: object, where: Path | None = None
) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a network's tensors; none of them is made.

    Raises:
        InputError: no network has such a configuration, read from `where`.
    """
    tensors = _empty(lambda: model(config), where).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _empty(make: Callable[[], nn.Module], where: Path | None) -> nn.Module:
    """A network without memory for its tensors."""
    try:
        with torch.device("meta"):
            return make()
    except (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]  # PyTorch's errors end in many lines of C++
        raise InputError(f"{where}: the configuration fits no network: {reason}") from error


def same_shape(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether shapes agree; a 1x1 convolution is the linear layer that it equals."""
    return found == expected or (len(expected) == 2 and found == (*expected, 1, 1))


def _read(
    entries: Mapping[str, Entry],
    expected: Mapping[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    files: defaultdict[Path, list[str]] = defaultdict(list)
    for key in expected:
        files[entries[key].file].append(key)
    tensors = {}
    for path, keys in files.items():
        with _opened(path) as file:
            for key in keys:
                stored = _stored(file, entries[key])
                tensor = _cast(stored, entries[key], device, dtype)
                tensors[key] = tensor.reshape(expected[key].shape)
    return tensors


def read_tensor(entry: Entry) -> Tensor:
    """One tensor as it is stored.

    Raises:
        InputError: its file has changed since its header was read.
    """
    with _opened(entry.file) as file:
        return _stored(file, entry).clone()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file whose header was read before."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read: {reason}; download it again") from error


def _stored(file: Any, entry: Entry) -> Tensor:
    """A tensor, or what an entry wants of it."""
    if entry.rows:
        tensor = file.get_slice(entry.name)[slice(*entry.rows)]
    else:
        tensor = file.get_tensor(entry.name)
    if entry.scale:
        tensor = tensor.float() * file.get_tensor(entry.scale.name).float()
    return tensor.T if entry.transposed else tensor


def _cast(stored: Tensor, entry: Entry, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A stored tensor as a model uses it, in a copy: a view would keep the whole file mapped."""
    # Convolutions are faster where channels lie side by side.
    layout = torch.channels_last if stored.ndim == 4 else torch.contiguous_format
    tensor = stored.to(device, dtype, copy=True, memory_format=layout)
    if tensor.sum(dtype=torch.float32).isfinite():
        return tensor
    if stored.double().sum().isfinite():
        kind = str(dtype).removeprefix("torch.")
        raise InputError(
            f"{entry.file}: {entry.name} does not fit into {kind}: use --dtype fp32 or bf16"
        )
    raise InputError(f"{entry.file}: {entry.name} holds NaN or Inf")
