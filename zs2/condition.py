"""What a network is told besides the latents and their noise level."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
LONGEST = 64 * 77
"""Tokens of a prompt, beyond which memory would be the next to say no."""


@dataclass(frozen=True)
class Condition:
    """What B clips are told.

    Attributes:
        prompt: embeddings [B, T, D], or one for each frame [B, F, T, D]; T is 77 for each chunk.
        added: [B, E], or one for each frame [B, F, E], added to the timestep's embedding (SDXL: the
            pooled prompt and the picture's size).
        guidance: [B, G], or one for each frame [B, F, G]: the guidance scale, of a model that has
            its guidance built in (`zs2.models.layers.scale_waves`).
        channels: [B, F, c, h, w], joined to the latents (Instruct-Pix2Pix: the picture to edit).
        control: for each control (`zs2.shots.control`) its strength [1 or B, 1 or F, 1, 1, 1], and
            what was made of its pictures, each [1 or B, 1 or F, c, h, w].
        cross: what each cross-attention makes of a prompt that all frames share: its keys and
            values, each [B, T, C], made once a clip by `UNet.prepare`.
        pictures: keys and values of a picture that a cross-attention sees beside the prompt, each
            [B, T, C], or [1, T, C] for all clips; the values are already weighted.
    """

    prompt: Tensor
    channels: Tensor | None = None
    added: Tensor | None = None
    guidance: Tensor | None = None
    control: tuple[tuple[Tensor, ...], ...] = ()
    cross: Mapping[nn.Module, KeysValues] = field(default_factory=dict)
    pictures: Mapping[nn.Module, KeysValues] = field(default_factory=dict)

    def at(self, start: int, stop: int) -> "Condition":
        """The condition of frames start .. stop-1."""
        return self.over_frames(lambda x: x[:, start:stop])

    def over_frames(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """The condition with every tensor changed that differs by frame, [B, F, ...]."""

        def changed(x: Tensor | None, per_frame: int) -> Tensor | None:
            return change(x) if x is not None and x.ndim == per_frame else x

        return replace(
            self,
            prompt=change(self.prompt) if self.prompt.ndim == 4 else self.prompt,
            channels=changed(self.channels, 5),
            added=changed(self.added, 3),
            guidance=changed(self.guidance, 3),
            control=tuple(
                tuple(change(x) if x.shape[1] > 1 else x for x in maps) for maps in self.control
            ),
        )

    def by_row(self) -> "Condition":
        """The condition with what differs by frame in rows: [B, F, ...] to [B*F, ...]."""
        return replace(
            self,
            prompt=self.prompt.flatten(0, 1) if self.prompt.ndim == 4 else self.prompt,
            channels=None if self.channels is None else self.channels.flatten(0, 1),
        )

    @staticmethod
    def stack(conditions: "Sequence[Condition]") -> "Condition":
        """G conditions of B clips as one of G*B clips.

        Raises:
            ValueError: some have channels, a picture or a control, and some have none; or prompts
                are too long together.
        """
        prompt = _joined(as_long([c.prompt for c in conditions]), 4)
        channels = [c.channels for c in conditions if c.channels is not None]
        added = [c.added for c in conditions if c.added is not None]
        scales = [c.guidance for c in conditions if c.guidance is not None]
        if len(channels) not in (0, len(conditions)):
            raise ValueError("some branches have channels and some have none: give all or none")
        pictures = [c.pictures for c in conditions if c.pictures]
        if len(pictures) not in (0, len(conditions)):
            raise ValueError("some branches have a picture and some have none: give all or none")
        seen = {}
        for layer in pictures[0] if pictures else ():
            keys, values = zip(*(p[layer] for p in pictures), strict=True)
            seen[layer] = torch.cat(keys), torch.cat(values)
        if len({len(c.control) for c in conditions}) > 1:
            raise ValueError("some branches are controlled and some are not: give all or none")
        return Condition(
            prompt,
            torch.cat(channels) if channels else None,
            _joined(added, 3) if added else None,
            guidance=_joined(scales, 3) if scales else None,
            control=tuple(
                tuple(_same_or_joined(parts, conditions) for parts in zip(*maps, strict=True))
                for maps in zip(*(c.control for c in conditions), strict=True)
            ),
            pictures=seen,
        )


def as_long(prompts: Sequence[Tensor]) -> list[Tensor]:
    """Prompts [.., T, D] of one length: the shorter ones are told again until they have it.

    Attention to a text that stands there twice is attention to it once, so each does what it does
    alone, as in A1111 and ComfyUI.

    Raises:
        ValueError: the length would be beyond LONGEST.
    """
    lengths = [p.shape[-2] for p in prompts]
    tokens = math.lcm(*lengths)
    if tokens > LONGEST:
        raise ValueError(
            f"prompts of {' and '.join(map(str, sorted({*lengths})))} tokens cannot be told in one "
            "pass: make them as long as each other with BREAK, or split the guidance's branches"
        )
    return [
        p if n == tokens else p.repeat(*[1] * (p.ndim - 2), tokens // n, 1)
        for p, n in zip(prompts, lengths, strict=True)
    ]


def _joined(parts: list[Tensor], per_frame: int) -> Tensor:
    """Batches in one; what does not change over the frames stands beside what does."""
    frames = next((p.shape[1] for p in parts if p.ndim == per_frame), None)
    if frames:
        parts = [
            p if p.ndim == per_frame else p[:, None].expand(-1, frames, *p.shape[1:]) for p in parts
        ]
    return torch.cat(parts)


def _same_or_joined(parts: Sequence[Tensor], conditions: Sequence[Condition]) -> Tensor:
    """One tensor [1, ...] that all have, as it is; else those of each in one batch."""
    if len(parts[0]) == 1 and all(part is parts[0] for part in parts):
        return parts[0]
    batches = [len(c.prompt) for c in conditions]
    frames = max(part.shape[1] for part in parts)
    return torch.cat(
        [part.expand(batch, frames, -1, -1, -1) for part, batch in zip(parts, batches, strict=True)]
    )
