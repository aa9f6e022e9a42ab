"""The UNet's transformers: self-attention that frames share, cross-attention to the prompt."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zs2.attention import Share
from zs2.condition import Condition, KeysValues
from zs2.kernels.geglu import geglu
from zs2.models.layers import GroupNorm, attend
from zs2.models.unet_config import UNetConfig

CPU_CACHE = 8 << 20
"""Bytes that a CPU can write and read again without going to memory; 1 to 8 MiB measured alike."""


class Attention(nn.Module):
    """Projections around `attend`: queries from x, keys and values from a context."""

    def __init__(self, channels: int, context: int, heads: int, upcast: bool) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} attention heads do not divide {channels} channels")
        self.heads, self.upcast = heads, upcast
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])  # name fixed by the checkpoint

    def project(self, context: Tensor) -> KeysValues:
        """Keys and values of a context [B, M, D], each [B, M, C]."""
        return self.to_k(context), self.to_v(context)

    def forward(self, x: Tensor, k: Tensor, v: Tensor, picture: KeysValues | None = None) -> Tensor:
        """x [B*F, N, C] with what it finds in a context, and in a picture beside it."""
        q = self.to_q(x)
        h = self.found(q, k, v)
        if picture is not None:
            h = h + self.found(q, *picture)
        del q  # or it would live through the last product
        return self.to_out[0](h)

    def found(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Frames of one clip that share a context attend as one long row.
        rows = q.reshape(len(k), -1, q.shape[-1])  # (B*F, N, C) or (B, F*N, C)
        return attend(rows, k, v, self.heads, self.upcast).reshape(q.shape)


class GEGLU(nn.Module):
    """a * gelu(g) for the two halves of a projection (Shazeer, GLU Variants)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        return geglu(self.proj(x))


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        # name and gap fixed by the checkpoint: net.1 is a dropout there
        self.net = nn.ModuleList(
            [GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        widen, _, narrow = self.net
        assert isinstance(widen, GEGLU)
        assert isinstance(narrow, nn.Linear)
        if x.device.type != "cpu":
            return narrow(widen(x))
        # Read once for all parts: weights that are kept in 8 bits are made whole by that.
        (wa, wg), (ba, bg) = widen.proj.weight.chunk(2), widen.proj.bias.chunk(2)
        w, b = narrow.weight, narrow.bias

        def made(x: Tensor) -> Tensor:
            # Half by half: of the UNet's widest tensors two live at a time instead of three.
            return F.linear(F.gelu(F.linear(x, wg, bg)).mul_(F.linear(x, wa, ba)), w, b)

        # As many rows at a time as keep these in the cache.
        rows = CPU_CACHE // (4 * x[0].numel() * x.itemsize) or 1
        return torch.cat([made(part) for part in x.split(rows)])


class TransformerBlock(nn.Module):
    """Self-attention (shared between frames), cross-attention to the prompt, feed-forward."""

    def __init__(self, channels: int, context: int, heads: int, upcast: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads, upcast)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context, heads, upcast)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, condition: Condition, share: Share) -> Tensor:
        h, shared = share(x, self.norm1)  # (B*F, N, C)
        x = x + self.attn1(h, *self.attn1.project(shared))
        del h, shared  # or they would live through the feed-forward, where memory peaks
        cross = condition.cross.get(self.attn2) or self.attn2.project(condition.prompt)
        x = x + self.attn2(self.norm2(x), *cross, condition.pictures.get(self.attn2))
        return x + self.ff(self.norm3(x))


def at_positions(layer: nn.Linear | nn.Conv2d, h: Tensor) -> Tensor:
    """A linear layer, or the 1x1 convolution that is one, at each position of h [B, N, C]."""
    return F.linear(h, layer.weight.flatten(1), layer.bias)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the N = H*W positions of a feature map."""

    def __init__(self, channels: int, heads: int, depth: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = GroupNorm(config.norm_num_groups, channels, eps=1e-6)
        project = nn.Linear if config.use_linear_projection else lambda i, o: nn.Conv2d(i, o, 1)
        self.proj_in = project(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, config.cross_attention_dim, heads, config.upcast_attention)
            for _ in range(depth)
        )
        self.proj_out = project(channels, channels)

    def forward(self, x: Tensor, condition: Condition, share: Share) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B*F, N, C)
        h = at_positions(self.proj_in, h)
        for block in self.transformer_blocks:
            h = block(h, condition, share)
        return x + at_positions(self.proj_out, h).transpose(1, 2).unflatten(2, x.shape[-2:])
