"""Prompts become what the UNet is told: one CLIP text encoder, or SDXL's two."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zs2.condition import LONGEST, Condition, as_long
from zs2.models.chunks import chunked, weighted, weights_of
from zs2.models.clip import CLIPText
from zs2.models.layers import waves
from zs2.models.tokenizer import Tokenizer
from zs2.prompt import Piece, check, joins, named, not_loaded, parse

WEIGHTINGS = ("a1111", "comfy", "plain")
"""Whose brackets they are; plain has none, and cuts what is over 75 tokens, as diffusers does."""


@dataclass(frozen=True)
class Tower:
    """A CLIP text encoder and the words that it knows."""

    tokenizer: Tokenizer
    encoder: CLIPText


@dataclass(frozen=True)
class Text:
    """The text encoders of a checkpoint, and how prompts are read.

    SD 1.x and 2.x have one and take its last layer, normed. SDXL has two: it takes the layer before
    the last of both, not normed, side by side, and the second's pooled prompt (Podell et al. 2023).

    Attributes:
        towers: one or two.
        waves: channels that each of the picture's six sizes is told in, `addition_time_embed_dim`
            of the UNet.
        zeros: whether no negative prompt is zeros to two encoders, as it says in a folder's
            `model_index.json`; else it is "".
        weighting: one of WEIGHTINGS: what brackets do, see `zs2.prompt` and `zs2.models.chunks`.
        skip: the layer that is taken, from the end; None is the model's own, 1 (SDXL: 2).
        embeddings: words that textual inversion learnt, in lower case, each as n vectors [n, D] for
            every tower.
    """

    towers: tuple[Tower, ...]
    waves: int = 0
    zeros: bool = True
    weighting: str = WEIGHTINGS[0]
    skip: int | None = None
    embeddings: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[str], size: tuple[int, int]) -> Condition:
        """What B prompts say, for pictures of (width, height) pixels.

        Raises:
            ValueError: a prompt asks for what zs2 does not do, or is too long.
        """
        if self.weighting != "plain" and any(map(joins, prompts)):
            warnings.warn("AND joins no prompts in zs2: it is read as a word", stacklevel=3)
        read = [self.read(prompt) for prompt in prompts]
        seen = [self._seen(tower, i, read) for i, tower in enumerate(self.towers)]
        if len(self.towers) == 1:
            return Condition(seen[0][0])
        prompt = torch.cat(as_long([hidden for hidden, _, _ in seen]), dim=-1)
        _, last, ids = seen[-1]
        return Condition(prompt, added=self._added(self.towers[-1].encoder.pooled(last, ids), size))

    def read(self, prompt: str) -> list[list[Piece]]:
        """The parts of a prompt, each a list of pieces of text and names of embeddings.

        Raises:
            ValueError: it asks for what zs2 does not do.
        """
        plain = self.weighting == "plain"
        if not plain:
            check(prompt)
        parts = [
            [cut for piece in part for cut in named(piece, self.embeddings)]
            for part in ([[Piece(prompt)]] if plain else parse(prompt))
        ]
        for piece in (piece for part in parts for piece in part if not plain):
            if piece.name is None and (name := not_loaded(piece.text)):
                raise ValueError(f"{name:.80} is not loaded: give its file with --embedding FILE")
        return parts

    def _seen(
        self, tower: Tower, index: int, prompts: Sequence[list[list[Piece]]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """B prompts [B, T, D], and of their first chunks the last layer [B, 77, D] and the ids."""
        words, device = tower.tokenizer, tower.encoder.device
        vectors = {name: own[index] for name, own in self.embeddings.items()}
        chunks = [chunked(parts, words, vectors, self.weighting) for parts in prompts]
        if (most := max(map(len, chunks)) * words.length) > LONGEST:
            raise ValueError(f"a prompt of {most} tokens is too long: {LONGEST} are the most")
        rows = [row for prompt in chunks for row in prompt]
        ids = torch.tensor([words.row(row) for row in rows], device=device)
        own = [
            (n, 1 + i, token.vector)
            for n, row in enumerate(rows)
            for i, token in enumerate(row)
            if token.vector is not None
        ]
        layers = tower.encoder.text_model.layers(ids, own)
        hidden = self._taken(tower, layers)
        weights = torch.tensor([weights_of(row, words.length) for row in rows], device=device)
        if (weights != 1).any():
            empty = None
            if self.weighting == "comfy":
                nothing = torch.tensor([words.row([])], device=device)
                empty = self._taken(tower, tower.encoder.text_model.layers(nothing))[0]
            hidden = weighted(hidden, weights, empty)
        counts = [len(prompt) for prompt in chunks]
        prompt = torch.cat(as_long([p.flatten(0, 1)[None] for p in hidden.split(counts)]))
        first = [sum(counts[:n]) for n in range(len(counts))]
        return prompt, layers[-1][first], ids[first]

    def _taken(self, tower: Tower, layers: Sequence[Tensor]) -> Tensor:
        """The layer that the UNet is told."""
        if len(self.towers) == 1:
            return tower.encoder.text_model.final_layer_norm(layers[-(self.skip or 1)])
        return layers[-(self.skip or 2)]

    def nothing(self, clips: int, size: tuple[int, int]) -> Condition:
        """What guidance steers away from where no negative prompt is given.

        SDXL learnt zeros for it, and diffusers gives it those; A1111 and ComfyUI encode "" instead,
        which is a negative prompt like any other here.
        """
        empty = self([""] * clips, size)
        if len(self.towers) == 1 or not self.zeros:
            return empty
        zeros = torch.zeros_like(empty.prompt)
        pooled = zeros.new_zeros(clips, self.towers[-1].encoder.config.projection_dim)
        return Condition(zeros, added=self._added(pooled, size))

    def _added(self, pooled: Tensor, size: tuple[int, int]) -> Tensor:
        """The pooled prompt [B, P], and original size, crop and target size, as [B, P + 6*waves].

        The original and the target are the picture itself, and nothing is cropped.
        """
        width, height = size
        sizes = torch.tensor([height, width, 0, 0, height, width], device=pooled.device)
        told = waves(sizes, self.waves).flatten().to(pooled.dtype)
        return torch.cat([pooled, told.expand(len(pooled), -1)], dim=-1)
