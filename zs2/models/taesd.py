"""TAESD: a tiny autoencoder that stands in for a Stable Diffusion VAE, fast and nearly as good.

Bohan, Tiny AutoEncoder for Stable Diffusion (github.com/madebyollin/taesd); attribute names are the
keys of the Hugging Face layout.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TAESDConfig:
    """The fields of an AutoencoderTiny's `config.json` that shape the network.

    Empty `num_encoder_blocks` mean no encoder: such a network only decodes.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scaling_factor: float = 1.0
    force_upcast: bool = False

    NEUTRAL: ClassVar[dict[str, object]] = {
        "act_fn": "relu",
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
        "shift_factor": 0,
        "block_out_channels": "any",  # the decoder's again
        "latent_magnitude": "any",  # for latents stored as bytes
        "latent_shift": "any",
    }
    """Other keys that real files hold, with the one value that this network computes."""

    def __post_init__(self) -> None:
        if len({*self.encoder_block_out_channels, *self.decoder_block_out_channels}) != 1:
            raise ValueError("a tiny autoencoder has as many channels in all of its levels")
        if max(*self.num_encoder_blocks, *self.num_decoder_blocks, 0) > 20:
            raise ValueError("a tiny autoencoder has at most 20 blocks in a level")

    @property
    def block_out_channels(self) -> tuple[int, ...]:
        """Channels of each level, from the picture's side."""
        return self.decoder_block_out_channels[::-1]

    @property
    def factor(self) -> int:
        """How many pixels a latent spans, in height and in width."""
        return 2 ** (len(self.num_decoder_blocks) - 1)


class Block(nn.Module):
    """Three 3x3 convolutions beside a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # name and gaps fixed by the checkpoint
        first, second, third = (conv3(channels, channels) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Encoder(nn.Module):
    def __init__(self, config: TAESDConfig) -> None:
        super().__init__()
        width = config.encoder_block_out_channels[0]
        layers: list[nn.Module] = []
        for level, blocks in enumerate(config.num_encoder_blocks):
            half = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
            layers += [half if level else conv3(config.in_channels, width)]
            layers += [Block(width) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, conv3(width, config.latent_channels))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers((pixels + 1) / 2)


class Decoder(nn.Module):
    def __init__(self, config: TAESDConfig) -> None:
        super().__init__()
        width = config.decoder_block_out_channels[0]
        layers = [conv3(config.latent_channels, width), nn.ReLU()]
        for level, blocks in enumerate(config.num_decoder_blocks):
            if level:
                layers += [nn.Upsample(scale_factor=2), conv3(width, width, bias=False)]
            layers += [Block(width) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, conv3(width, config.out_channels))

    def forward(self, z: Tensor) -> Tensor:
        # Latents beyond 3 are rare: they are pressed together smoothly. Pixels here are 0..1.
        return self.layers(3 * torch.tanh(z / 3)) * 2 - 1


class TAESD(nn.Module):
    """Encoder and decoder, used as a `zs2.models.vae.VAE`. Its latents are the UNet's own.

    Raises:
        ValueError: the configuration has levels of different widths.
    """

    def __init__(self, config: TAESDConfig) -> None:
        super().__init__()
        self.config = config
        if config.num_encoder_blocks:
            self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def dtype(self) -> torch.dtype:
        """What pixels and latents must be of."""
        return next(self.parameters()).dtype

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B, 3, H, W] in -1..1 to latents and a log variance of next to nothing.

        Raises:
            ValueError: there is only a decoder.
        """
        if not self.config.num_encoder_blocks:
            raise ValueError(
                "this VAE only decodes, and frames to start from must be encoded: put its "
                "taesd_encoder.safetensors beside it, or leave --vae out"
            )
        z = self.encoder(pixels)
        return z, torch.full_like(z, -30)

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B, C, h, w] to pixels [B, 3, H, W], about -1..1."""
        return self.decoder(z)


def conv3(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
