"""The safetensors container: what a file holds, from its header alone, and what is wrong with it.

8 bytes of little-endian header length, a JSON header, then the tensors' bytes without a gap.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from zs2.errors import InputError
from zs2.json_file import read_json

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
ITEM |= {"BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}
HEADER_LIMIT = 100_000_000  # what the safetensors library accepts


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        file: where its bytes are.
        name: what it is called there.
        dtype: safetensors' name, as "F16".
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.values * ITEM[self.dtype]


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file, by name; their bytes are not read.

    Raises:
        InputError: the file is not a whole safetensors file; the cause is named.
    """
    if path.suffix.lower() in PICKLES:
        raise InputError(_pickle(path))
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
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise InputError(_pickle(path))
    if not text and start[8:9] == b"{" and length <= HEADER_LIMIT:
        raise InputError(f"{path} is truncated inside its header: download it again")
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError
        spans = {
            name: (*entry["data_offsets"], Entry(path, name, entry["dtype"], (*entry["shape"],)))
            for name, entry in header.items()
        }
        ordered = sorted(spans.values(), key=lambda span: span[:2])
        expected = [end - begin == entry.bytes for begin, end, entry in ordered]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a safetensors file: its header makes no sense") from error

    end = 0
    for (begin, stop, entry), fits in zip(ordered, expected, strict=True):
        if begin != end or not fits:
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
    return {name: entry for name, (_, _, entry) in spans.items()}


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
        if "/" in shard or "\\" in shard:
            raise InputError(f"{index} names the shard {shard}: a path is not allowed there")
        if not (index.parent / shard).exists():
            raise InputError(f"{index.parent / shard} is missing: download it too")
        entries |= read_header(index.parent / shard)
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
