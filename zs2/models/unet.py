"""The Stable Diffusion UNet: predicts the noise (or v) in a latent.

Rows are frames: a tensor of B clips with F frames each is [B*F, C, H, W], frames the fast part.
How frames share attention is one object passed down (`zs2.attention`); without it, this is the
plain image model. The architecture is Rombach et al., High-Resolution Image Synthesis with Latent
Diffusion Models, and for SDXL Podell et al.; attribute names are the keys of the Hugging Face
layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zs2.attention import Share
from zs2.condition import Condition
from zs2.models.layers import Downsample, GroupNorm, ResnetBlock, Upsample, waves
from zs2.models.transformer import SpatialTransformer, TransformerBlock
from zs2.models.unet_config import UNetConfig

Maps = Mapping[int, Tensor]
"""Feature maps by number: those of the way down as they are made, from 0, then the middle's."""


@dataclass(frozen=True)
class Residuals:
    """What is added to a UNet's feature maps to control it.

    Attributes:
        early: as a map is made, so that the way down goes on from the sum (T2I-Adapter).
        late: when all are made, for the way up alone (ControlNet).
    """

    early: Maps = field(default_factory=dict)
    late: Maps = field(default_factory=dict)


def keep(x: Tensor, skips: list[Tensor], early: Maps) -> Tensor:
    """Push a map of the way down on the skips, with what is added to it: also what is returned."""
    if (more := early.get(len(skips))) is not None:
        x = x + more
    skips.append(x)
    return x


class UNetBlock(nn.Module):
    """One level, down or up: resnets, each followed by a transformer, then a resize.

    The way down pushes every feature map on `skips`, the way up pops and concatenates them.
    """

    def __init__(
        self,
        channels: list[tuple[int, int]],
        heads: int,
        depth: int,
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
            SpatialTransformer(out, heads, depth, config) for _ in channels if heads
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
        early: Maps | None = None,
    ) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1) if self.up else x, time)
            if self.attentions:
                x = self.attentions[i](x, condition, share)
            if not self.up:
                x = keep(x, skips, early or {})
        for downsample in self.downsamplers:
            x = keep(downsample(x), skips, early or {})
        for upsample in self.upsamplers:
            # An odd size was rounded up on the way down: the skip knows what it was.
            x = upsample(x, skips[-1].shape[-2:])
        return x


class MidBlock(nn.Module):
    def __init__(self, channels: int, heads: int, depth: int, config: UNetConfig) -> None:
        super().__init__()
        time = 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(
            ResnetBlock(
                channels, channels, groups=config.norm_num_groups, eps=config.norm_eps, time=time
            )
            for _ in range(2)
        )
        self.attentions = nn.ModuleList([SpatialTransformer(channels, heads, depth, config)])

    def forward(self, x: Tensor, time: Tensor, condition: Condition, share: Share) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, condition, share)
        return self.resnets[1](x, time)


class Embedding(nn.Module):
    """Two linear layers, from what a network is told to what its resnets add."""

    def __init__(self, channels: int, out: int, guidance: int = 0) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, out)
        if guidance:
            self.cond_proj = nn.Linear(guidance, channels, bias=False)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        x = x.to(self.linear_1.bias.dtype)
        if guidance is not None:
            x = x + self.cond_proj(guidance.to(x.dtype))
        return self.linear_2(F.silu(self.linear_1(x)))


class Encoder(nn.Module):
    """The way down and the middle: a UNet's first half, and all of a ControlNet but its ends.

    Attributes:
        maps: channels of the feature maps that the way down makes, in their order.

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
        self.time_embedding = Embedding(widths[0], 4 * widths[0], config.time_cond_proj_dim or 0)
        if config.added:
            self.add_embedding = Embedding(config.added, 4 * widths[0])

        maps, last = [widths[0]], len(widths) - 1
        self.down_blocks = nn.ModuleList()
        for i, (width, kind) in enumerate(zip(widths, config.down_block_types, strict=True)):
            heads = config.heads[i] if "CrossAttn" in kind else 0
            channels = [(maps[-1], width)] + [(width, width)] * (layers - 1)
            depth, end = config.depths[i], i == last
            self.down_blocks.append(UNetBlock(channels, heads, depth, config, up=False, end=end))
            maps += [width] * (layers + (i < last))
        self.maps = tuple(maps)

        self.mid_block = MidBlock(widths[-1], config.heads[-1], config.depths[-1], config)

    @property
    def transformers(self) -> list[TransformerBlock]:
        """The transformer blocks, in the order of the forward pass."""
        return [m for m in self.modules() if isinstance(m, TransformerBlock)]

    def crossed(self, condition: Condition) -> Condition:
        """The condition with the keys and values of its prompt, which spares each step that work.

        A prompt that changes over the frames stays as it is: a long clip's would fill the memory.
        """
        if condition.prompt.ndim == 4:
            return condition
        cross = dict(condition.cross)
        for block in self.transformers:
            cross[block.attn2] = block.attn2.project(condition.prompt)
        return replace(condition, cross=cross)

    def embed(self, t: Tensor, condition: Condition, rows: int) -> Tensor:
        """What the resnets are told of timesteps [] or [B*F]: [B*F, 4*channels]."""
        scales = condition.guidance if self.config.time_cond_proj_dim else None
        time = self.time_embedding(
            waves(t.expand(rows), self.config.block_out_channels[0]),
            None if scales is None else _by_row(scales, rows),
        )
        if condition.added is not None:
            time = time + _by_row(self.add_embedding(condition.added), rows)
        return F.silu(time)

    def encode(
        self, x: Tensor, time: Tensor, condition: Condition, share: Share, early: Maps
    ) -> tuple[Tensor, list[Tensor]]:
        """From what conv_in made of the latents to the middle's map, and those of the way down."""
        skips: list[Tensor] = []
        x = keep(x, skips, early)
        for block in self.down_blocks:
            x = block(x, skips, time, condition, share, early)  # (B*F, wider, H/2, W/2)
        x = self.mid_block(x, time, condition, share)
        if (more := early.get(len(skips))) is not None:
            x = x + more
        return x, skips


class UNet(Encoder):
    """The denoiser eps_theta(x_t, t, prompt) of section 2."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths, layers = config.block_out_channels, config.layers_per_block
        skips, last = [*self.maps], len(widths) - 1
        before = widths[-1]
        self.up_blocks = nn.ModuleList()
        for i, (width, kind) in enumerate(zip(widths[::-1], config.up_block_types, strict=True)):
            heads = config.heads[last - i] if "CrossAttn" in kind else 0
            channels = [(w + skips.pop(), width) for w in (before, *(width,) * layers)]
            depth, end = config.depths[last - i], i == last
            self.up_blocks.append(UNetBlock(channels, heads, depth, config, up=True, end=end))
            before = width

        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def prepare(self, condition: Condition) -> Condition:
        """The condition with what `crossed` makes of it.

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
        told = 0 if condition.added is None else condition.added.shape[-1]
        if told != self.config.added:
            raise ValueError(
                f"this model takes {self.config.added} values beside the prompt and is given {told}"
            )
        scales = 0 if condition.guidance is None else condition.guidance.shape[-1]
        if scales != (self.config.time_cond_proj_dim or 0):
            raise ValueError("a model with guidance built in is told its scale, and no other model")
        return self.crossed(condition)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        share: Share | None = None,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """Predict the noise (or v) in x.

        Args:
            x: latents [B*F, C, H, W] of any height and width.
            t: timesteps, [] or [B*F].
            condition: what the B clips are told, of these frames.
            share: how the F frames share attention; None leaves every row to itself.
            residuals: what is added to control it, each map [B*F, ...] or broadcast to that.

        Returns:
            The prediction [B*F, C, H, W].
        """
        share, residuals = share or Share(), residuals or Residuals()
        condition = condition.by_row()
        if condition.channels is not None:
            x = torch.cat([x, condition.channels], dim=1)
        time = self.embed(t, condition, len(x))
        x, skips = self.encode(self.conv_in(x), time, condition, share, residuals.early)
        for i, more in residuals.late.items():
            if i < len(skips):
                skips[i] = skips[i] + more
            else:
                x = x + more
        for block in self.up_blocks:
            x = block(x, skips, time, condition, share)  # (B*F, narrower, 2H, 2W)
        return self.conv_out(self.conv_norm_out(x, silu=True))


def _by_row(told: Tensor, rows: int) -> Tensor:
    """What B clips are told, [B, E], or their frames, [B, F, E], for each row: [B*F, E]."""
    told = told.flatten(0, -2)
    return told.repeat_interleave(rows // len(told), 0)
