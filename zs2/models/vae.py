"""The Stable Diffusion VAE: pictures to latents and back, 1/8 of the size for SD 1.x, 2.x and XL.

Architecture of Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models;
attribute names are the keys of the Hugging Face layout.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from zs2.models.layers import Downsample, GroupNorm, ResnetBlock, Upsample, attend

EPS = 1e-6  # of every GroupNorm here; the UNet's resnets have 1e-5


@dataclass(frozen=True)
class VAEConfig:
    """The fields of `vae/config.json` that shape the network; the defaults are SD 1.x's."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    force_upcast: bool = False  # values overflow in fp16

    NEUTRAL: ClassVar[dict[str, object]] = {
        "act_fn": "silu",
        "down_block_types": "DownEncoderBlock2D",
        "up_block_types": "UpDecoderBlock2D",
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "sample_size": "any",
    }
    """Other keys that real files hold, with the one value that this network computes."""
    OMITTED: ClassVar[dict[str, object]] = {"block_out_channels": (64,), "layers_per_block": 1}
    """What a key that a file leaves out means to diffusers, where our default is another."""

    @property
    def factor(self) -> int:
        """How many pixels a latent spans, in height and in width."""
        return 2 ** (len(self.block_out_channels) - 1)


class Attention(nn.Module):
    """Single-head attention over all positions of a feature map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, channels, EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])  # name fixed by the checkpoint

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        h = self.to_out[0](attend(self.to_q(h), self.to_k(h), self.to_v(h), heads=1))
        return x + h.transpose(1, 2).unflatten(2, x.shape[-2:])


class MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(channels, channels, groups=groups, eps=EPS) for _ in range(2)
        )
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Level(nn.Module):
    """Resnets at one size, then a resize to the next."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        layers: int,
        groups: int,
        *,
        down: bool = False,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(out_channels if i else in_channels, out_channels, groups=groups, eps=EPS)
            for i in range(layers)
        )
        self.downsamplers = nn.ModuleList([Downsample(out_channels, padding=0)] if down else [])
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if up else [])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for downsample in self.downsamplers:
            x = downsample(x)
        for upsample in self.upsamplers:
            x = upsample(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        return x


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(i, o, config.layers_per_block, groups, down=n < len(widths) - 1)
            for n, (i, o) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.mid_block = MidBlock(widths[-1], groups)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(self.mid_block(x), silu=True))


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            Level(i, o, config.layers_per_block + 1, groups, up=n < len(widths) - 1)
            for n, (i, o) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(x, silu=True))


class VAE(nn.Module):
    """Encoder and decoder. Latents here are raw: the UNet's are `scaling_factor` times these."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        """What pixels and latents must be of: not always the UNet's."""
        return self.quant_conv.weight.dtype

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B, 3, H, W] in -1..1 to the posterior's mean and log variance, [B, 4, h, w]."""
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B, 4, h, w] to pixels [B, 3, H, W], about -1..1."""
        return self.decoder(self.post_quant_conv(z))
