"""Prompts of any length: chunks of 75 tokens that CLIP reads one by one, and the tokens' weights.

The chunks are A1111's (sd_hijack_clip.py) and ComfyUI's (sd1_clip.py), and so are the weightings.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from zs2.models.tokenizer import Token, Tokenizer, cut
from zs2.prompt import Piece

Group = list[Token]
"""Tokens that stay in one chunk."""
Vectors = Mapping[str, Tensor]
"""Embeddings by name, each [n, D]."""

_BACK = 20  # tokens since a comma, with which A1111 would rather begin the next chunk
_WORD = 8  # tokens from which ComfyUI breaks even a word


def chunked(
    parts: Sequence[Sequence[Piece]], tokenizer: Tokenizer, vectors: Vectors, weighting: str
) -> list[list[Token]]:
    """The chunks of a prompt's parts; a plain prompt is one chunk, and what is over is cut off."""
    if weighting == "plain":
        [[*pieces]] = parts
        tokens = [token for group in grouped(pieces, tokenizer, vectors) for token in group]
        return [[*cut("".join(p.text for p in pieces), tokens, tokenizer.length - 2)]]
    words = weighting == "comfy"
    comma = None if words else tokenizer.tokens(",")[0].id
    return [
        chunk
        for part in parts
        for chunk in packed(grouped(part, tokenizer, vectors, words), tokenizer.length - 2, comma)
    ]


def grouped(
    pieces: Sequence[Piece], tokenizer: Tokenizer, vectors: Vectors, words: bool = False
) -> Iterator[Group]:
    """The tokens of some pieces: embeddings stay whole and, where told so, words do."""
    for piece in pieces:
        if piece.name is not None:
            begin, weight = piece.begin, piece.weight
            # Any id but the end's: the encoder pools there.
            yield [Token(0, begin, weight, vector) for vector in vectors[piece.name]]
            continue
        for text in re.findall(r"\S+", piece.text) if words else [piece.text]:
            group = [
                token._replace(begin=piece.begin + token.begin, weight=piece.weight)
                for token in tokenizer.tokens(text)
            ]
            yield from [group] if words and len(group) < _WORD else ([token] for token in group)


def packed(groups: Iterator[Group], room: int, comma: int | None) -> list[list[Token]]:
    """Groups put into chunks; a chunk that is full is broken after a comma near its end."""
    chunks: list[list[Token]] = [[]]
    last_comma = None
    for group in groups:
        chunk = chunks[-1]
        if group[0].id == comma:
            last_comma = len(chunk)
        elif len(chunk) == room and last_comma is not None and room - last_comma <= _BACK:
            chunks[-1], chunk = chunk[: last_comma + 1], chunk[last_comma + 1 :]
            chunks.append(chunk)
            last_comma = None
        if len(chunk) + len(group) > room:
            chunk = []
            chunks.append(chunk)
            last_comma = None
        chunk += group
    return chunks


def weights_of(chunk: Sequence[Token], length: int) -> list[float]:
    """The weight of each of a chunk's `length` places; start, end and padding have 1."""
    return [1.0, *(t.weight for t in chunk), *[1.0] * (length - 1 - len(chunk))]


def weighted(z: Tensor, weights: Tensor, empty: Tensor | None) -> Tensor:
    """Encoded chunks z [N, 77, D], each place by its weight [N, 77].

    A1111 scales, and then brings back each chunk's mean; ComfyUI scales the difference from the
    encoding of an empty prompt [77, D], where that is given.
    """
    x = z.to(torch.promote_types(z.dtype, torch.float32))  # a mean near 0 needs the digits
    w = weights[..., None]
    if empty is not None:
        return torch.where(w == 1, z, (empty + w * (x - empty)).to(z.dtype))
    scaled = w * x
    mean = [t.mean((1, 2), keepdim=True) for t in (x, scaled)]
    return (scaled * (mean[0] / mean[1])).to(z.dtype)
