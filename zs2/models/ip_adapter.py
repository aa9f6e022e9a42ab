"""IP-Adapter: a picture as a prompt (Ye et al. 2023).

A projection makes tokens of what CLIP sees in a picture, and every cross-attention of the UNet gets
a second pair of projections for them: out = attend(q, k, v) + weight * attend(q, k_ip, v_ip).
Attribute names are the keys of the published files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from zs2.condition import KeysValues
from zs2.models.clip import CLIPVision
from zs2.models.layers import attend
from zs2.models.transformer import Attention, TransformerBlock
from zs2.models.unet import UNet

HEAD = 64  # channels of a head of the resampler


@dataclass(frozen=True)
class IPAdapterConfig:
    """What the shapes of a file say.

    Attributes:
        form: plain, plus or full.
        seen: width of what the image encoder gives.
        width: D, of the tokens.
        tokens: how many there are; full has as many as the encoder.
        hidden: width of the resampler (plus).
        depth: layers of the resampler.
    """

    form: str
    seen: int
    width: int
    tokens: int = 4
    hidden: int = 0
    depth: int = 0


class Plain(nn.Module):
    """Tokens of the one vector that a whole picture is to CLIP."""

    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.proj = nn.Linear(config.seen, config.tokens * config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, seen: Tensor) -> Tensor:
        """[B, P] to [B, T, D]."""
        return self.norm(self.proj(seen).unflatten(1, (self.tokens, -1)))


class Full(nn.Module):
    """A token of each of the encoder's own: for faces."""

    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(config.seen, config.seen),
            nn.GELU(),
            nn.Linear(config.seen, config.width),
            nn.LayerNorm(config.width),
        )

    def forward(self, seen: Tensor) -> Tensor:
        """[B, T, P] to [B, T, D]."""
        return self.proj(seen)


class PerceiverAttention(nn.Module):
    """Queries attend to what is seen and to each other (Jaegle et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, seen: Tensor, queries: Tensor) -> Tensor:
        """Seen [B, N, C] and queries [B, T, C] to [B, T, C]."""
        seen, queries = self.norm1(seen), self.norm2(queries)
        k, v = self.to_kv(torch.cat([seen, queries], dim=1)).chunk(2, dim=-1)
        return self.to_out(attend(self.to_q(queries), k, v, self.heads))


class ResamplerLayer(nn.ModuleList):
    def __init__(self, width: int) -> None:
        feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )
        super().__init__([PerceiverAttention(width), feed])

    def forward(self, seen: Tensor, x: Tensor) -> Tensor:
        attention, feed = self
        x = x + attention(seen, x)
        return x + feed(x)


class Resampler(nn.Module):
    """Learned queries gather tokens from the encoder's hidden states (Plus)."""

    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__()
        width = config.hidden
        if width % HEAD:
            raise ValueError(f"a resampler of {width} channels has no heads of {HEAD}")
        self.latents = nn.Parameter(torch.empty(1, config.tokens, width))
        self.proj_in = nn.Linear(config.seen, width)
        self.layers = nn.ModuleList(ResamplerLayer(width) for _ in range(config.depth))
        self.proj_out = nn.Linear(width, config.width)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, seen: Tensor) -> Tensor:
        """[B, N, P] to [B, T, D]."""
        seen = self.proj_in(seen)
        x = self.latents.expand(len(seen), -1, -1)
        for layer in self.layers:
            x = layer(seen, x)
        return self.norm_out(self.proj_out(x))


def cross_attentions(unet: UNet) -> list[Attention]:
    """Those of a UNet in the order that the files number them in: down, up, and the middle last."""
    parts = (unet.down_blocks, unet.up_blocks, unet.mid_block)
    blocks = (module for part in parts for module in part.modules())
    return [block.attn2 for block in blocks if isinstance(block, TransformerBlock)]


class CrossAttention(nn.Module):
    """The projections that one cross-attention of the UNet gets."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(width, channels, bias=False)
        self.to_v_ip = nn.Linear(width, channels, bias=False)

    def forward(self, tokens: Tensor) -> KeysValues:
        """Tokens [B, T, D] to keys and values, each [B, T, C]."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class IPAdapter(nn.Module):
    """The adapter of a UNet.

    Args:
        channels: C of each of the UNet's `cross_attentions`.
    """

    FORMS: ClassVar[dict[str, type[nn.Module]]] = {"plain": Plain, "plus": Resampler, "full": Full}

    def __init__(self, config: IPAdapterConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.image_proj = self.FORMS[config.form](config)
        # The even numbers are the self-attentions', which have nothing of their own.
        self.ip_adapter = nn.ModuleDict(
            {str(2 * i + 1): CrossAttention(config.width, c) for i, c in enumerate(channels)}
        )

    def tokens(self, encoder: CLIPVision, pixels: Tensor) -> Tensor:
        """What a picture says, and what none says: [2, T, D].

        Args:
            pixels: [1, 3, S, S], as `CLIPVision.prepare` makes them.
        """
        if self.config.form == "plain":
            seen = encoder(pixels)
            return self.image_proj(torch.cat([seen, torch.zeros_like(seen)]))
        # No picture is here one of CLIP's mean colour, whose normed pixels are all 0.
        return self.image_proj(encoder.hidden(torch.cat([pixels, torch.zeros_like(pixels)])))

    def keys_values(self, tokens: Tensor) -> list[KeysValues]:
        """Tokens [B, T, D] to the keys and values of every cross-attention."""
        return [project(tokens) for project in self.ip_adapter.values()]
