"""How the frames of a clip share attention: the paper's second idea (section 4.1).

Every self-attention of the UNet builds its keys and values from a running average of h:

    self-attention        K_i                                      mu = 0
    cross-frame           K_1                                      mu = 1
    temporal momentum     K'_i = mu_i K'_{i-1} + (1 - mu_i) K_i    Eq. 2

The first two are the third with mu at its ends. h is the normed hidden state: the scan's weights
sum to 1 and the projections to K and V are affine, so scanning h once equals scanning K and V.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zs2.kernels.norm_momentum_scan import norm_momentum_scan
from zs2.timeline import PerFrame, check_range, per_frame, whole

State = dict[nn.Module, Tensor]
"""What one chunk of frames hands to the next: the last scanned row of each layer, by its norm,
[B, N, C] float32. The next chunk overwrites it: a clip needs the memory of one state, however many
chunks it has.
"""


@dataclass(frozen=True)
class FrameAttention:
    """Temporal momentum attention (Eq. 2).

    Attributes:
        mu: momentum in 0..1, of all frames or one each. 0 is self-attention, each frame by itself
            as in the image model; 1 is cross-frame attention to the clip's first frame.
        segment: every so many frames the average begins anew, as in the paper's longer clips,
            which are made one after the other; None is one average for all frames.

    Raises:
        ValueError: a value outside 0..1, or a segment below 2 frames.
    """

    mu: PerFrame = 0.98
    segment: int | None = None

    def __post_init__(self) -> None:
        check_range("mu", self.mu, 1)
        if self.segment is not None:
            whole("segment", self.segment, 2)

    def momenta(self, frames: int, device: torch.device | str = "cpu") -> Tensor | None:
        """The momentum of each of F frames, [F]; None where no frame takes from another.

        The first frame, of the clip or a segment, has none before it: its momentum is 0, whatever
        was told.

        Raises:
            ValueError: mu is a sequence of another length.
        """
        mu = per_frame("mu", self.mu, frames)
        for first in range(0, frames, self.segment or frames):
            mu[first] = 0.0
        return torch.tensor(mu, device=device) if any(mu) else None


class Share:
    """How one forward pass over frames shares attention: each layer takes and leaves its state.

    Args:
        mu: momentum of each frame of the pass, [F]; None where every frame keeps to itself.
        before: what the pass over the frames before left; it is overwritten. Where the first mu is
            0 nothing is taken from it, so each step can go on in the memory of the last.
        keep: whether to keep the final states for a next chunk.

    Attributes:
        state: the final states, where they are kept.
    """

    def __init__(
        self, mu: Tensor | None = None, before: State | None = None, keep: bool = True
    ) -> None:
        self.mu, self.before, self.keep = mu, before, keep
        self.state: State = {}

    def __call__(self, x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """The hidden state [B*F, N, C], normed: what Q, and what K and V are projected from."""
        if self.mu is None:
            h = norm(x)
            return h, h
        frames = x.unflatten(0, (-1, len(self.mu)))  # (B, F, N, C)
        initial = self.before.get(norm) if self.before else None
        h, scanned, final = norm_momentum_scan(
            frames, norm.weight, norm.bias, self.mu, initial, norm.eps, self.keep, out=initial
        )
        if final is not None:
            self.state[norm] = final
        return h.flatten(0, 1), scanned.flatten(0, 1)
