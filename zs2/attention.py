"""How the frames of a clip share attention: the paper's second idea (section 4.1).

Every self-attention of the UNet builds its keys and values from a running average of h:

    self-attention        K_i                                      mu = 0
    cross-frame           K_1                                      mu = 1
    temporal momentum     K'_i = mu_i K'_{i-1} + (1 - mu_i) K_i    Eq. 2

The first two are the third with mu at its ends. h is the normed hidden state: the scan's weights
sum to 1 and the projections to K and V are affine, so scanning h once equals scanning K and V.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from zs2.kernels.momentum_scan import norm_momentum_scan

State = list[Tensor]
"""What one chunk of frames hands to the next: each layer's last scanned row, [B, N, C] float32.

The next chunk overwrites it: a clip needs the memory of one state, however many chunks it has.
"""


@dataclass(frozen=True)
class FrameAttention:
    """How the F frames of a clip share attention: one momentum a frame.

    Attributes:
        mu: momentum of each frame of the clip, F values in 0..1. The first frame has none before
            it, so its value has no effect.

    Raises:
        ValueError: a value outside 0..1, or no frame at all.
    """

    mu: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mu:
            raise ValueError("a clip needs at least one frame")
        for mu in self.mu:
            if not 0 <= mu <= 1:
                raise ValueError(f"momentum mu must lie in 0..1, got {mu:g}")

    @classmethod
    def momentum(cls, mu: float | Sequence[float], frames: int) -> "FrameAttention":
        """Temporal momentum attention (Eq. 2) with one mu for all frames, or one for each."""
        values = (mu,) * frames if isinstance(mu, int | float) else tuple(mu)
        if len(values) != frames:
            raise ValueError(f"mu has {len(values)} values for {frames} frames: give 1 or {frames}")
        return cls(values)

    @classmethod
    def self_attention(cls, frames: int) -> "FrameAttention":
        """Each frame by itself, as in the image model."""
        return cls((0.0,) * frames)

    @classmethod
    def cross_frame(cls, frames: int) -> "FrameAttention":
        """Every frame attends to the clip's first."""
        return cls((1.0,) * frames)

    @property
    def active(self) -> bool:
        """Whether the clip's frames share anything at all."""
        return any(self.mu[1:])

    def share(
        self,
        device: torch.device,
        start: int = 0,
        stop: int | None = None,
        state: State | None = None,
        keep: bool = True,
    ) -> "Share":
        """What one forward pass over the frames start..stop-1 hands to its self-attentions.

        Args:
            start, stop: a chunk of the clip; by default all of it.
            state: what the pass over the frames before left; it is overwritten. The clip's first
                frame takes nothing from it, so that each step can go on in the memory of the last.
            keep: whether to keep the final state for a next chunk.
        """
        if not self.active:
            return Share()
        return Share(_on_device((0.0, *self.mu[1:])[start:stop], device), state, keep)


class Share:
    """One forward pass over frames: each self-attention, in order, takes and leaves its state.

    Attributes:
        mu: momentum of each frame, [F]; None where every frame keeps to itself.
        state: the layers' final states, where they are kept: where the next chunk begins.
    """

    def __init__(
        self, mu: Tensor | None = None, before: State | None = None, keep: bool = True
    ) -> None:
        self.mu = mu
        self.state: State = []
        self._before, self._keep = before, keep
        self._layer = 0

    def __call__(self, x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """The hidden state [B*F, N, C], normed: what Q, and what K and V are projected from."""
        if self.mu is None:
            h = norm(x)
            return h, h
        frames = x.unflatten(0, (-1, len(self.mu)))  # (B, F, N, C)
        initial = self._before[self._layer] if self._before else None
        self._layer += 1
        h, scanned, final = norm_momentum_scan(
            frames, norm.weight, norm.bias, self.mu, initial, norm.eps, self._keep
        )
        if final is not None:
            self.state.append(final if initial is None else initial.copy_(final))
        return h.flatten(0, 1), scanned.flatten(0, 1)


@cache
def _on_device(mu: tuple[float, ...], device: torch.device) -> Tensor:
    """A clip's momenta as a tensor, copied once: the copy would make the host wait."""
    with torch.inference_mode(False):  # it may serve a training run later
        return torch.tensor(mu, device=device)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, upcast: bool = False) -> Tensor:
    """Multi-head attention, Eq. 7.

    Args:
        q: [B, N, C]. k, v: [B, M, C].
        heads: number of heads, dividing C.
        upcast: compute in float32; some checkpoints overflow in fp16 without it.

    Returns:
        [B, N, C].
    """
    dtype = q.dtype
    if upcast:
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, N, d)
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(q.shape[-1]))
    return y.transpose(1, 2).flatten(2).to(dtype)
