"""Textual inversion: a file's vectors stand for a word of the prompt (Gal et al. 2022).

    weights = Embedding("cat-toy.safetensors")(weights)     # "a <cat-toy> on the beach"

n vectors take n of a prompt's 75 places. Which word they stand for is the file's name, as in A1111
and ComfyUI, or what the file itself says where that is a token like <cat-toy>.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from zs2.checkpoint.header import Entry, read_header
from zs2.checkpoint.hub import local_path
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Family, Role
from zs2.errors import InputError
from zs2.receipt import Receipt
from zs2.weights import Weights

PAIR = ("clip_l", "clip_g")
"""What SDXL's files call the vectors of its two encoders."""


class Embedding:
    """An adapter: words that textual inversion learnt.

    Args:
        file: a safetensors file, or "FILE:WORD".
        token: the word that it stands for, in any case.

    Attributes:
        entries: for each word its tensors, one for every text encoder.

    Raises:
        InputError: there is no such file, it holds no embedding, or several and one word.
    """

    def __init__(self, file: str | Path, token: str | None = None) -> None:
        self.name, own = split_word(str(file))
        token = own if token is None else token
        path = local_path(self.name) if self.name else None
        if path is None:
            raise InputError(f"{self.name or 'an empty name'} does not exist: give an embedding")
        self.path = path
        header = read_header(path)
        found = _words(path, header)
        if token is not None:
            if len(found) > 1:
                raise InputError(
                    f"{path} has words of its own, {', '.join(found)}: leave yours out"
                )
            if not token.strip() or token != token.strip():
                raise InputError(f"{token!r} is no word for {path}: give one as {self.name}:toy")
            found = dict.fromkeys([token], *found.values())
        self.token = token
        self.entries = {word.lower(): entries for word, entries in found.items()}
        used = {entry.name for entries in found.values() for entry in entries}
        self.unused = tuple(name for name in header if name not in used)

    def __str__(self) -> str:
        return self.name if self.token is None else f"{self.name}:{self.token}"

    def __call__(self, weights: Weights) -> Weights:
        """The weights with these words among those that prompts may use.

        Raises:
            InputError: the vectors are of another family's width, too many or not finite, or the
                word is taken.
        """
        text = weights.text
        embeddings, applied = dict(text.embeddings), {}
        for word, entries in self.entries.items():
            if word in embeddings:
                raise InputError(f"{word} stands for two embeddings: name one with FILE:WORD")
            self._check(entries, weights)
            vectors = [
                _read(entry, tower.encoder.text_model.embeddings.token_embedding.weight)
                for entry, tower in zip(entries, text.towers, strict=True)
            ]
            embeddings[word] = tuple(vectors)
            applied[f"vectors of {' and '.join(_widths(entries))} for {word}"] = len(vectors[0])
        receipt = Receipt(str(self), "a textual inversion", applied, self.unused)
        before: object = weights.settings.get("embedding")
        return replace(
            weights,
            text=replace(text, embeddings=embeddings),
            settings={
                **weights.settings,
                "embedding": [*(before if isinstance(before, list) else ()), str(self)],
            },
            receipts=(*weights.receipts, receipt),
        )

    def _check(self, entries: Sequence[Entry], weights: Weights) -> None:
        towers = weights.text.towers
        have, need = _widths(entries), [str(t.encoder.config.hidden_size) for t in towers]
        if have != need:
            theirs, ours = (_family(widths) for widths in (have, need))
            raise InputError(
                f"{self.path} is for {theirs} ({' and '.join(have)} wide), "
                f"and the model is {ours} ({' and '.join(need)}): give one that was trained on it"
            )
        counts, room = {_rows(entry) for entry in entries}, towers[0].tokenizer.length - 2
        if len(counts) > 1 or not 1 <= max(counts) <= room:
            some = " and ".join(map(str, sorted(counts)))
            raise InputError(f"{self.path} has {some} vectors: a word is 1..{room} of them")


def split_word(text: str) -> tuple[str, str | None]:
    """The path and the word of "FILE" or "FILE:WORD"; a path may hold colons itself."""
    name, colon, word = text.rpartition(":")
    if not colon or local_path(text) is not None or local_path(name) is None:
        return text, None
    return name, word


def _words(path: Path, entries: Mapping[str, Entry]) -> dict[str, list[Entry]]:
    """The words of a file, and the tensors that each stands for.

    Raises:
        InputError: it is no embedding; the sentence says what it is.
    """
    rows = {key: entry for key, entry in entries.items() if len(entry.shape) in (1, 2)}
    if tokens := [key for key in rows if key.startswith("<") and key.endswith(">")]:
        return {key: [entries[key]] for key in tokens}  # cloneofsimo's stand in a LoRA's file
    if set(PAIR) <= rows.keys():
        return {path.stem: [rows[key] for key in PAIR]}
    if len(rows) != len(entries) or len(rows) != 1 or "." in next(iter(rows)):
        wanted(path, entries, Role.EMBEDDING)
        raise InputError(
            f"{path} holds {len(entries)} tensors: an embedding is one, or two of SDXL"
        )
    return {path.stem: [*rows.values()]}


def _rows(entry: Entry) -> int:
    return entry.shape[0] if len(entry.shape) == 2 else 1


def _widths(entries: Sequence[Entry]) -> list[str]:
    return [str(entry.shape[-1]) for entry in entries]


def _family(widths: Sequence[str]) -> str:
    if len(widths) == 2:
        return Family.SDXL.value
    family = Family.of(int(widths[0]))
    return family.value if family else "of no family that zs2 knows"


def _read(entry: Entry, like: Tensor) -> Tensor:
    """The vectors of a tensor, [n, D], on the device and in the precision of another.

    Raises:
        InputError: they cannot be read, are quantised or not finite.
    """
    from safetensors import SafetensorError, safe_open

    if entry.dtype not in ("F16", "BF16", "F32", "F64"):
        raise InputError(f"{entry.file}: {entry.name} is stored as {entry.dtype}: give floats")
    try:
        with safe_open(entry.file, framework="pt") as file:
            tensor: Tensor = file.get_tensor(entry.name).to(like)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{entry.file} cannot be read: {error}") from error
    if not torch.isfinite(tensor).all():
        raise InputError(f"{entry.file}: {entry.name} holds NaN or Inf")
    return tensor.reshape(-1, tensor.shape[-1])
