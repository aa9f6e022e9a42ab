"""Temporal momentum attention in diffusers' UNet: one attention processor around one copied file.

    unet.set_attn_processor(MomentumProcessor(torch.full((8,), 0.98)))
    unet(latents_of_8_frames, t, encoder_hidden_states)

`momentum_scan.py` needs nothing of zs2: copy it beside your own code and import it from there.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from zs2.kernels.momentum_scan import momentum_scan


class MomentumProcessor:
    """Self-attention over running averages of K and V (Eq. 2); cross-attention as it was."""

    def __init__(self, mu: Tensor) -> None:
        self.mu = mu  # (F,)

    def __call__(
        self, attn: Any, x: Tensor, encoder_hidden_states: Tensor | None = None, **rest: Any
    ) -> Tensor:
        alone = encoder_hidden_states is None
        source = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(x), attn.to_k(source), attn.to_v(source)  # (B*F, N, C)
        if alone:
            clips = [z.unflatten(0, (-1, len(self.mu))) for z in (k, v)]  # (B, F, N, C)
            (k, v), _ = momentum_scan(clips, self.mu.to(x.device))
            k, v = k.flatten(0, 1), v.flatten(0, 1)
        q, k, v = (z.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for z in (q, k, v))
        h = F.scaled_dot_product_attention(q, k, v)
        return attn.to_out[0](h.transpose(1, 2).flatten(2))
