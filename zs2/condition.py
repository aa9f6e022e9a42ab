"""What a network is told besides the latents and their noise level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Condition:
    """What B clips are told.

    Attributes:
        prompt: embeddings [B, 77, D], or one for each frame [B, F, 77, D].
        channels: [B, F, c, h, w], joined to the latents (Instruct-Pix2Pix: the picture to edit).
        cross: what each cross-attention makes of a prompt that all frames share: its keys and
            values, each [B, 77, C], made once a clip by `UNet.prepare`.
    """

    prompt: Tensor
    channels: Tensor | None = None
    cross: Mapping[nn.Module, KeysValues] = field(default_factory=dict)

    def at(self, start: int, stop: int) -> "Condition":
        """The condition of frames start .. stop-1."""
        return replace(
            self,
            prompt=self.prompt[:, start:stop] if self.prompt.ndim == 4 else self.prompt,
            channels=None if self.channels is None else self.channels[:, start:stop],
        )

    @staticmethod
    def stack(conditions: "Sequence[Condition]") -> "Condition":
        """G conditions of B clips as one of G*B clips.

        Raises:
            ValueError: some have channels and some have none.
        """
        prompts = [c.prompt for c in conditions]
        frames = next((p.shape[1] for p in prompts if p.ndim == 4), None)
        if frames:  # prompts that do not change stand beside one that does
            prompts = [p if p.ndim == 4 else p[:, None].expand(-1, frames, -1, -1) for p in prompts]
        channels = [c.channels for c in conditions if c.channels is not None]
        if len(channels) not in (0, len(conditions)):
            raise ValueError("some branches have channels and some have none: give all or none")
        return Condition(torch.cat(prompts), torch.cat(channels) if channels else None)
