"""The safetensors container: what a file holds, from its header alone, and what is wrong with it.

8 bytes of little-endian header length, a JSON header, then the tensors' bytes without a gap.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zs2.errors import InputError
from zs2.json_file import read_json, require_file

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64, "BOOL": 8}
BITS |= {"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8}
BITS |= {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
HEADER_LIMIT = 100_000_000  # what the safetensors library accepts
_MOST_SIDES = 8  # of a tensor: networks have five at most


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, or what is made of one when it is read.

    Attributes:
        file: where its bytes are.
        name: what it is called there.
        dtype: safetensors' name, as "F16".
        rows: the first and the end of those that are wanted; None is all of them.
        transposed: whether rows and columns change places.
        scale: a number of the same file that all values are multiplied with.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    transposed: bool = False
    scale: "Entry | None" = None

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.values * BITS[self.dtype] // 8)

    def thirds(self) -> "tuple[Entry, Entry, Entry]":
        """Its rows in three equal parts; itself three times where there are none."""
        count, rest = divmod(self.shape[0] if self.shape else 1, 3)
        if rest:
            return self, self, self
        first, second, third = (
            replace(self, shape=(count, *self.shape[1:]), rows=(i * count, (i + 1) * count))
            for i in range(3)
        )
        return first, second, third

    def turned(self) -> "Entry":
        """Rows and columns in each other's places."""
        return replace(self, shape=self.shape[::-1], transposed=True)


class Header(dict[str, Entry]):
    """The tensors of a file, by name; `metadata` is what its header says besides."""

    metadata: Mapping[str, str] = MappingProxyType({})


def read_header(path: Path) -> Header:
    """The tensors of a safetensors file, by name; their bytes are not read.

    Raises:
        InputError: the file is not a whole safetensors file; the cause is named.
    """
    if path.suffix.lower() in PICKLES:
        raise InputError(_pickle(path))
    require_file(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
            length = int.from_bytes(start[:8], "little")
            text = b""
            if len(start) >= 8 and length <= min(HEADER_LIMIT, size - 8):
                file.seek(8)
                text = file.read(length)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error

    if size == 0:
        raise InputError(f"{path} is empty: download it again")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a git-LFS pointer, not the weights: run `git lfs pull`")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head")):
        raise InputError(f"{path} is a web page, not weights: download the file itself")
    if start.startswith(b"GGUF"):
        raise InputError(
            f"{path} is GGUF, quantised for other programs: give the safetensors file of the model"
        )
    # A header's length may be a pickle's first bytes, but there a brace follows.
    if start.startswith((b"PK\x03\x04", b"\x80\x02")) and start[8:9] != b"{":
        raise InputError(_pickle(path))
    if not text and start[8:9] == b"{" and length <= HEADER_LIMIT:
        raise InputError(f"{path} is truncated inside its header: download it again")
    try:
        spans, metadata = _parse(path, text)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a safetensors file: its header makes no sense") from error

    end = 0
    for begin, stop, entry in sorted(spans.values(), key=lambda span: span[:2]):
        if begin != end or stop - begin != entry.bytes:
            raise InputError(
                f"{path} is damaged: tensor {entry.name} leaves a gap, overlaps or has a wrong size"
            )
        end = stop
    if size < 8 + length + end:
        raise InputError(
            f"{path} is truncated: {size:,} of {8 + length + end:,} bytes; download it again"
        )
    if size > 8 + length + end:
        raise InputError(
            f"{path} has {size - 8 - length - end:,} bytes after its end: download it again"
        )
    found = Header({name: entry for name, (_, _, entry) in spans.items()})
    found.metadata = metadata
    return found


def _parse(path: Path, text: bytes) -> tuple[dict[str, tuple[int, int, Entry]], dict[str, str]]:
    """Begin, end and entry of every tensor of a header, and its metadata; as strict as the
    safetensors library.

    Raises:
        InputError: a dtype that is not known.
        AttributeError, KeyError, RecursionError, TypeError, ValueError: this is no header.
    """
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_whole)
    metadata = header.pop("__metadata__", {})
    for words in (*header, *metadata, *metadata.values()):
        words.encode("utf-8")  # all are strings, without half a character
    spans = {}
    for name, entry in header.items():
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if len(entry) > 3 or not isinstance(shape, list) or len(shape) > _MOST_SIDES:
            raise TypeError
        if not all(type(number) is int for number in (begin, end, *shape)):  # 1.0 and true are not
            raise TypeError
        if dtype not in BITS:
            raise InputError(f"{path}: {name} is stored as {dtype!r:.50}, which zs2 does not know")
        spans[name] = (begin, end, Entry(path, name, dtype, (*shape,)))
    return spans, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return values


def _whole(digits: str) -> int:
    if not digits.isdigit() or len(digits) > 18:  # below 2^63, and never a sum that takes long
        raise ValueError("a number out of range")
    return int(digits)


def component_weights(path: Path) -> Mapping[str, Entry]:
    """The tensors of a file, or of a folder that holds one network.

    Raises:
        InputError: it is broken, or there are none.
    """
    if path.is_file():
        return read_header(path)
    if (path / "adapter_config.json").exists():
        return find_weights(path, "adapter_model")
    if (path / "config.json").exists():
        stems = ("diffusion_pytorch_model", "model")
        plain = any(p.name.startswith(stems[0]) for p in path.iterdir())
        return find_weights(path, stems[not plain])
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return read_header(files[0])
    if files:
        raise InputError(f"{path} holds {len(files)} safetensors files: give one of them")
    raise InputError(f"{path} holds neither a Stable Diffusion model nor a clip of zs2's")


def find_weights(folder: Path, stem: str) -> dict[str, Entry]:
    """The tensors of one component's folder: a whole file or shards, plain or the fp16 variant.

    Args:
        stem: "model" or "diffusion_pytorch_model".

    Raises:
        InputError: there are none, or a file is broken.
    """
    for variant in ("", ".fp16"):
        whole = folder / f"{stem}{variant}.safetensors"
        if whole.exists():
            return read_header(whole)
        for index in (
            folder / f"{stem}.safetensors.index{variant}.json",
            folder / f"{stem}{variant}.safetensors.index.json",
        ):
            if index.exists():
                return _read_shards(index)
    pickled = [p.name for p in folder.glob("*") if p.suffix in PICKLES]
    if pickled:
        raise InputError(_pickle(folder / pickled[0]))
    raise InputError(f"{folder} has no {stem}.safetensors: the folder is not complete")


def _read_shards(index: Path) -> dict[str, Entry]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise InputError(f"{index} has no weight_map")
    entries: dict[str, Entry] = {}
    for shard in sorted({str(name) for name in names.values()}):
        if not re.fullmatch(r"[\w.-]{1,200}\.safetensors", shard, re.ASCII):
            raise InputError(
                f"{index} names the shard {shard!r:.100}: only a file's name is allowed there"
            )
        if not (index.parent / shard).exists():
            raise InputError(f"{index.parent / shard} is missing: download it too")
        found = read_header(index.parent / shard)
        if twice := next((name for name in found if name in entries), None):
            other = entries[twice].file.name
            raise InputError(f"{index.parent}: tensor {twice} is in {other} and again in {shard}")
        entries |= found
    if absent := sorted(set(names) - set(entries)):
        raise InputError(f"{index} names {len(absent)} tensors that no shard has, as {absent[0]}")
    return entries


def _pickle(path: Path) -> str:
    target = path.with_suffix(".safetensors").name
    return (
        f"{path} is a pickle, which can run any code, so zs2 does not open it; if you trust it, "
        f'convert it: python -c "import torch, safetensors.torch as s; '
        f"d = torch.load('{path.name}', map_location='cpu', weights_only=True); "
        f"s.save_file({{k: v.clone() for k, v in d.get('state_dict', d).items() "
        f"if isinstance(v, torch.Tensor)}}, '{target}')\""
    )
