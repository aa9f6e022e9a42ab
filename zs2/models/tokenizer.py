"""Prompts become token ids: CLIP's byte pair encoding, as every Stable Diffusion reads it.

    ids = Tokenizer.load(Path("model/tokenizer")).encode(["a cat walks on the beach"])  # (1, 77)

Only the vocabulary and its merges are read from files. The rules around them (NFC, lower case,
the split into words, bytes as letters) are CLIP's own and are the same for every checkpoint.
"""

import gzip
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zs2.errors import InputError
from zs2.json_file import read_json, require_file

START = "<|startoftext|>"
END = "<|endoftext|>"
LENGTH = 77

_OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
_OPENAI_MERGES = 48894  # the file goes on past those that CLIP was trained with
_MOST_BYTES = 2**25  # of OpenAI's file unpacked, which has 3 million
_LONGEST = 2**16
_NO_LENGTH = int(1e30)  # what transformers writes where no length was set
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

Vocabulary = dict[str, int]
Merges = list[tuple[str, str]]


class Token(NamedTuple):
    """One of the places of a prompt.

    Attributes:
        begin: where its text begins.
        vector: [D], what the encoder sees here in place of the id's own.
    """

    id: int
    begin: int = 0
    weight: float = 1.0
    vector: Tensor | None = None


class Tokenizer:
    """CLIP's tokenizer: text to exactly `length` ids.

    Args:
        vocabulary: id of every token; words end in `</w>`. Holds the start and end tokens.
        merges: pairs of tokens that join, the most frequent first.
        pad: token that fills up a short prompt: `<|endoftext|>` in SD 1.x, `!` in SD 2.x.
        length: ids in a prompt, start and end included.

    Attributes:
        size: number of ids.

    Raises:
        InputError: vocabulary, merges, pad and length do not make a CLIP tokenizer.
    """

    def __init__(
        self, vocabulary: Vocabulary, merges: Merges, pad: str = END, length: int = LENGTH
    ) -> None:
        from tokenizers import Regex, models, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Engine

        for token in (START, END, pad):
            if token not in vocabulary:
                raise InputError(f"the vocabulary has no token {token!r}: is it a CLIP tokenizer?")
        if not isinstance(length, int) or not 2 <= length <= _LONGEST:
            raise InputError(
                f"a prompt has 2..{_LONGEST} tokens with its start and end, got {length!r:.50}"
            )
        try:
            model = models.BPE(
                vocabulary,
                merges,
                unk_token=END,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
            )
        except Exception as error:  # the Rust side raises nothing more precise
            reason = str(error).partition("\n")[0]
            raise InputError(f"the vocabulary and its merges do not fit: {reason}") from error

        self.length = length
        self.size = 1 + max(vocabulary.values())
        self._start, self._end, self._pad = (vocabulary[token] for token in (START, END, pad))
        self._engine = Engine(model)
        self._engine.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        self._engine.pre_tokenizer = pre_tokenizers.Sequence(
            [
                # Keeps the words; what is between them, all white space, goes.
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        # The pad token too is special inside a prompt: SD 2's "!" is id 0 there, as in diffusers.
        self._engine.add_special_tokens([START, END, pad])

    @classmethod
    def load(cls, path: Path, pad: str | None = None) -> "Tokenizer":
        """Read a tokenizer, with the pad token and length that its folder's settings name.

        Args:
            pad: in place of the pad token that the settings name.
            path: a folder that holds `tokenizer.json`, or `vocab.json` and `merges.txt`, or
                OpenAI's `bpe_simple_vocab_16e6.txt.gz`; or one of these files itself.

        Raises:
            InputError: a file is missing or damaged, or is no CLIP tokenizer.
        """
        file = _file_in(path) if path.is_dir() else path
        if not file.is_file():
            raise InputError(f"{file} does not exist: give a CLIP tokenizer's folder or file")
        own, length = _settings(file.parent)
        try:
            return cls(*_read(file), own if pad is None else pad, length)
        except (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError) as error:
            raise InputError(f"{file} is no CLIP tokenizer, or is damaged: {error}") from error

    def encode(self, texts: list[str]) -> Tensor:
        """Token ids of B prompts: start, the prompt's tokens, end, then padding.

        A prompt too long is cut, and a warning shows the text that was lost.

        Returns:
            int64 ids [B, length].

        Raises:
            InputError: a prompt is not Unicode text.
        """
        rows = [self.row(cut(text, self.tokens(text), self.length - 2)) for text in texts]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.length)

    def tokens(self, text: str) -> list[Token]:
        """The tokens of a text of any length, without start and end.

        Raises:
            InputError: it is not Unicode text.
        """
        try:
            found = self._engine.encode(text, add_special_tokens=False)
        except TypeError as error:  # half a character, from a terminal that is not UTF-8
            raise InputError(f"the prompt {text!r:.200} is not valid Unicode text") from error
        return [Token(id, begin) for id, (begin, _) in zip(found.ids, found.offsets, strict=True)]

    def row(self, tokens: Sequence[Token]) -> list[int]:
        """The `length` ids of at most `length` - 2 tokens: start, theirs, end, padding."""
        row = [self._start, *(token.id for token in tokens), self._end]
        return row + [self._pad] * (self.length - len(row))


def cut(text: str, tokens: Sequence[Token], room: int) -> Sequence[Token]:
    """As many of a prompt's tokens as there is room for; a warning shows the text that is lost."""
    if len(tokens) > room:
        lost = text[tokens[room].begin :]
        warnings.warn(
            f"a prompt holds {room} tokens, so this end of it is ignored: {lost!r:.200}",
            stacklevel=3,
        )
    return tokens[:room]


def _file_in(folder: Path) -> Path:
    """The vocabulary's file in a folder."""
    names = ("tokenizer.json", "vocab.json", _OPENAI_FILE)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} holds no CLIP tokenizer: put one of {', '.join(names)} there")


def _read(file: Path) -> tuple[Vocabulary, Merges]:
    """Vocabulary and merges from any of the three layouts; a damaged one raises almost anything."""
    if file.name.endswith(".txt.gz"):
        return _read_openai(file)
    content: dict[str, Any] = read_json(file)
    model = content.get("model")
    if not isinstance(model, dict):  # "model" is a word of CLIP's vocabulary as well
        merges = file.with_name("merges.txt")
        require_file(merges)
        lines = merges.read_text(encoding="utf-8").split("\n")
        return content, _pairs(line for line in lines if not line.startswith("#version"))
    if model.get("end_of_word_suffix") != "</w>":
        raise InputError("its words do not end in </w>")
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    return model["vocab"] | added, _pairs(model["merges"])


def _read_openai(file: Path) -> tuple[Vocabulary, Merges]:
    """OpenAI's file holds merges only: the ids are bytes, word-final bytes, merges, start, end."""
    from tokenizers.pre_tokenizers import ByteLevel

    try:
        with gzip.open(file) as packed:
            text = packed.read(_MOST_BYTES + 1)
    except zlib.error as error:
        raise InputError(str(error)) from error
    if len(text) > _MOST_BYTES:
        raise InputError(f"it holds more than {_MOST_BYTES:,} bytes")
    lines = text.decode("utf-8").split("\n")
    letters = sorted(ByteLevel.alphabet())
    merges = _pairs(lines[1 : 1 + _OPENAI_MERGES])
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: id for id, token in enumerate(tokens)}, merges


def _pairs(merges: Iterable[str | list[str]]) -> Merges:
    """Merges as pairs, from lines "a b" or lists [a, b]; empty lines are left out."""
    split = (merge.split() if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in filter(None, split)]


def _settings(folder: Path) -> tuple[str, int]:
    """Pad token and length beside a vocabulary; CLIP's own where nothing is said."""
    settings: dict[str, Any] = {}
    # The second wins, as in transformers: SD 2.x says its pad token "!" only there.
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            settings |= read_json(folder / name)
    pad = settings.get("pad_token") or END
    length = settings.get("model_max_length", LENGTH)
    return (
        pad.get("content", "") if isinstance(pad, dict) else pad,
        LENGTH if length == _NO_LENGTH else length,
    )
