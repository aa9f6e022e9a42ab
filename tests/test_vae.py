"""The VAE against diffusers'."""

import pytest
import torch
from diffusers import AutoencoderKL
from parity import EXACT, TOLERANCE, error, scramble

from zs2.models.vae import VAE, VAEConfig


@torch.inference_mode()
def compare(
    widths: tuple[int, ...],
    layers: int,
    rows: int,
    height: int,
    width: int,
    dtype: torch.dtype = torch.float64,
) -> list[float]:
    theirs = scramble(
        AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=layers,
        )
    )
    with torch.device("meta"):
        ours = VAE(VAEConfig(block_out_channels=widths, layers_per_block=layers))
    theirs = theirs.to(dtype)
    theirs.quant_conv.weight[4:] *= 40  # log variances below the least, and above the most
    ours.load_state_dict(theirs.state_dict(), assign=True)
    generator = torch.Generator().manual_seed(1)
    pixels = (torch.rand(rows, 3, height, width, generator=generator) * 2 - 1).to(dtype)
    posterior, (mean, logvar) = theirs.encode(pixels).latent_dist, ours.encode(pixels)
    assert (logvar.min(), logvar.max()) == (-30, 20)
    z = torch.randn(mean.shape, generator=generator).to(dtype)
    return [
        error(mean, posterior.mean),
        error(logvar, posterior.logvar),
        error(ours.decode(z), theirs.decode(z).sample),
    ]


@pytest.mark.parametrize(("widths", "layers"), [((32, 64), 1), ((32, 32, 64, 64), 2)])
@pytest.mark.parametrize("size", [(32, 32), (24, 56), (35, 29)])
def test_small_configurations(widths, layers, size):
    assert max(compare(widths, layers, 3, *size)) <= EXACT


@pytest.mark.slow
def test_real_configuration():
    assert max(compare((128, 256, 512, 512), 2, 1, 72, 104, torch.float32)) <= TOLERANCE


def test_one_latent_spans_this_many_pixels():
    assert VAEConfig().factor == 8
    assert VAEConfig(block_out_channels=(32, 64)).factor == 2
