"""The Stable Diffusion UNet: predicts the noise (or v) in a latent.

Rows are frames: a tensor of B clips with F frames each is [B*F, C, H, W], frames the fast part.
How frames share attention is one object passed down (`zs2.attention`); without it, this is the
plain image model. The architecture is Rombach et al., High-Resolution Image Synthesis with Latent
Diffusion Models; attribute names are the keys of the Hugging Face layout.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zs2.attention import Share
from zs2.condition import Condition, KeysValues
from zs2.models.layers import Downsample, GroupNorm, ResnetBlock, Upsample, attend

CPU_CACHE = 8 << 20
"""Bytes that a CPU can write and read again without going to memory; 1 to 8 MiB measured alike."""


@dataclass(frozen=True)
class UNetConfig:
    """The fields of `unet/config.json` that shape the network; the defaults are SD 1.x's."""

    in_channels: int = 4
    out_channels: int = 4
    sample_size: int = 64
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_head_dim: int | tuple[int, ...] = 8  # holds the NUMBER of heads, whatever its name
    use_linear_projection: bool = False
    upcast_attention: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5

    NEUTRAL: ClassVar[dict[str, object]] = {
        "act_fn": "silu",
        "center_input_sample": False,
        "downsample_padding": 1,
        "dropout": 0.0,
        "encoder_hid_dim_type": None,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "resnet_time_scale_shift": "default",
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "transformer_layers_per_block": 1,
        "attention_type": "default",
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "addition_embed_type_num_heads": 64,
        "class_embeddings_concat": False,
    }
    """Other keys that real files hold, with the one value that this network computes."""
    OMITTED: ClassVar[dict[str, object]] = {"cross_attention_dim": 1280}
    """What a key that a file leaves out means to diffusers, where our default is another."""

    @property
    def heads(self) -> tuple[int, ...]:
        """Number of attention heads at each level."""
        heads = self.attention_head_dim
        return (heads,) * len(self.block_out_channels) if isinstance(heads, int) else heads


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

    def forward(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Frames of one clip that share a prompt attend as one long row.
        q = self.to_q(x).reshape(len(k), -1, x.shape[-1])  # (B*F, N, C) or (B, F*N, C)
        h = attend(q, k, v, self.heads, self.upcast).reshape(x.shape)
        del q  # or it would live through the last product
        return self.to_out[0](h)


class GEGLU(nn.Module):
    """a * gelu(g) for the two halves of a projection (Shazeer, GLU Variants)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        # Half by half: of these, the UNet's widest tensors, two live at a time instead of three.
        (wa, wg), (ba, bg) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        return F.gelu(F.linear(x, wg, bg)).mul_(F.linear(x, wa, ba))


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        # name and gap fixed by the checkpoint: net.1 is a dropout there
        self.net = nn.ModuleList(
            [GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        widen, _, narrow = self.net
        if x.device.type != "cpu":
            return narrow(widen(x))
        # As many rows at a time as keep the hidden tensor, the UNet's widest, in the cache.
        rows = CPU_CACHE // (4 * x[0].numel() * x.itemsize) or 1
        return torch.cat([narrow(widen(part)) for part in x.split(rows)])


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
        x = x + self.attn2(self.norm2(x), *cross)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the N = H*W positions of a feature map."""

    def __init__(self, channels: int, heads: int, config: UNetConfig) -> None:
        super().__init__()
        self.linear = config.use_linear_projection
        self.norm = GroupNorm(config.norm_num_groups, channels, eps=1e-6)
        project = nn.Linear if self.linear else lambda i, o: nn.Conv2d(i, o, 1)
        self.proj_in = project(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(channels, config.cross_attention_dim, heads, config.upcast_attention)]
        )
        self.proj_out = project(channels, channels)

    def forward(self, x: Tensor, condition: Condition, share: Share) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x)
        if self.linear:
            h = self.proj_in(h.flatten(2).transpose(1, 2))  # (B*F, N, C)
        else:
            h = self.proj_in(h).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, condition, share)
        if self.linear:
            h = self.proj_out(h).transpose(1, 2).unflatten(2, (height, width))
        else:
            h = self.proj_out(h.transpose(1, 2).unflatten(2, (height, width)))
        return x + h


class UNetBlock(nn.Module):
    """One level, down or up: resnets, each followed by a transformer, then a resize.

    The way down pushes every feature map on `skips`, the way up pops and concatenates them.
    """

    def __init__(
        self,
        channels: list[tuple[int, int]],
        heads: int,
        config: UNetConfig,
        *,
        up: bool,
        end: bool,
    ) -> None:
        super().__init__()
        self.up = up
        out, time = channels[-1][1], 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(
            ResnetBlock(i, o, groups=config.norm_num_groups, eps=config.norm_eps, time=time)
            for i, o in channels
        )
        self.attentions = nn.ModuleList(
            SpatialTransformer(out, heads, config) for _ in channels if heads
        )
        self.downsamplers = nn.ModuleList([] if up or end else [Downsample(out, padding=1)])
        self.upsamplers = nn.ModuleList([Upsample(out)] if up and not end else [])

    def forward(
        self,
        x: Tensor,
        skips: list[Tensor],
        time: Tensor,
        condition: Condition,
        share: Share,
    ) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1) if self.up else x, time)
            if self.attentions:
                x = self.attentions[i](x, condition, share)
            if not self.up:
                skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        for upsample in self.upsamplers:
            # An odd size was rounded up on the way down: the skip knows what it was.
            x = upsample(x, skips[-1].shape[-2:])
        return x


class MidBlock(nn.Module):
    def __init__(self, channels: int, heads: int, config: UNetConfig) -> None:
        super().__init__()
        time = 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(
            ResnetBlock(
                channels, channels, groups=config.norm_num_groups, eps=config.norm_eps, time=time
            )
            for _ in range(2)
        )
        self.attentions = nn.ModuleList([SpatialTransformer(channels, heads, config)])

    def forward(self, x: Tensor, time: Tensor, condition: Condition, share: Share) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, condition, share)
        return self.resnets[1](x, time)


class TimeEmbedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:
        """Timesteps [B] to embeddings [B, 4*channels]."""
        half = self.linear_1.in_features // 2
        frequency = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
        angle = t.float()[:, None] * frequency
        wave = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(wave)))


class UNet(nn.Module):
    """The denoiser eps_theta(x_t, t, prompt) of section 2.

    Raises:
        ValueError: the configuration names a block that this network does not have.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, layers = config.block_out_channels, config.layers_per_block
        known = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
        if unknown := {*config.down_block_types, *config.up_block_types} - known:
            raise ValueError(f"unknown UNet block type {sorted(unknown)[0]}")

        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0])

        skips = [widths[0]]  # channels of the skip connections, in the order they are made
        last = len(widths) - 1
        self.down_blocks = nn.ModuleList()
        for i, (width, kind) in enumerate(zip(widths, config.down_block_types, strict=True)):
            heads = config.heads[i] if "CrossAttn" in kind else 0
            channels = [(skips[-1], width)] + [(width, width)] * (layers - 1)
            self.down_blocks.append(UNetBlock(channels, heads, config, up=False, end=i == last))
            skips += [width] * (layers + (i < last))

        self.mid_block = MidBlock(widths[-1], config.heads[-1], config)

        before = widths[-1]
        self.up_blocks = nn.ModuleList()
        for i, (width, kind) in enumerate(zip(widths[::-1], config.up_block_types, strict=True)):
            heads = config.heads[last - i] if "CrossAttn" in kind else 0
            channels = [(w + skips.pop(), width) for w in (before, *(width,) * layers)]
            self.up_blocks.append(UNetBlock(channels, heads, config, up=True, end=i == last))
            before = width

        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    @property
    def transformers(self) -> list[TransformerBlock]:
        """The transformer blocks, in the order of the forward pass."""
        return [m for m in self.modules() if isinstance(m, TransformerBlock)]

    def prepare(self, condition: Condition) -> Condition:
        """The condition with the keys and values of its prompt, which spares each step that work.

        A prompt that changes over the frames stays as it is: a long clip's would fill the memory.

        Raises:
            ValueError: the network takes other channels beside the latents than it is given.
        """
        beside = self.config.in_channels - self.config.out_channels
        given = 0 if condition.channels is None else condition.channels.shape[2]
        if given != beside:
            raise ValueError(
                f"this model takes {beside} channels beside the latents and is given {given}: "
                "edit frames (--edit) with an Instruct-Pix2Pix model, and with no other"
            )
        if condition.prompt.ndim == 4:
            return condition
        layers = [block.attn2 for block in self.transformers]
        return replace(condition, cross={a: a.project(condition.prompt) for a in layers})

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition, share: Share | None = None
    ) -> Tensor:
        """Predict the noise (or v) in x.

        Args:
            x: latents [B*F, C, H, W] of any height and width.
            t: timesteps, [] or [B*F].
            condition: what the B clips are told, of these frames.
            share: how the F frames share attention; None leaves every row to itself.

        Returns:
            The prediction [B*F, C, H, W].
        """
        share = share or Share()
        if condition.prompt.ndim == 4:  # one a frame: (B, F, 77, D) to (B*F, 77, D)
            condition = replace(condition, prompt=condition.prompt.flatten(0, 1))
        if condition.channels is not None:
            x = torch.cat([x, condition.channels.flatten(0, 1)], dim=1)
        time = F.silu(self.time_embedding(t.expand(len(x))))  # (B*F, 4*channels)

        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, skips, time, condition, share)  # (B*F, wider, H/2, W/2)
        x = self.mid_block(x, time, condition, share)
        for block in self.up_blocks:
            x = block(x, skips, time, condition, share)  # (B*F, narrower, 2H, 2W)
        return self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))
