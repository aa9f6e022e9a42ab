"""TAESD against diffusers'."""

import pytest
import torch
from diffusers import AutoencoderTiny
from parity import EXACT, error, scramble

from zs2.models.taesd import TAESD, TAESDConfig

SMALL = {
    "encoder_block_out_channels": (8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8),
    "num_encoder_blocks": (1, 2, 1),
    "num_decoder_blocks": (2, 1, 3),
    "latent_channels": 3,
}


@torch.inference_mode()
@pytest.mark.parametrize("config", [{}, SMALL], ids=["real", "small"])
@pytest.mark.parametrize("size", [(32, 32), (24, 56)])
def test_parity(config, size):
    theirs = scramble(AutoencoderTiny(**config)).double()
    with torch.device("meta"):
        ours = TAESD(TAESDConfig(**config))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    generator = torch.Generator().manual_seed(1)
    pixels = (torch.rand(2, 3, *size, generator=generator) * 2 - 1).double()
    latents, _ = ours.encode(pixels)
    assert error(latents, theirs.encode(pixels).latents) <= EXACT
    z = 3 * torch.randn(latents.shape, generator=generator).double()  # some beyond the limit
    assert error(ours.decode(z), theirs.decode(z).sample) <= EXACT
    assert ours.dtype == torch.float64


def test_one_latent_spans_this_many_pixels():
    assert TAESDConfig().factor == 8
    assert TAESDConfig(num_decoder_blocks=(1, 1)).factor == 2


def test_a_decoder_alone_encodes_nothing():
    ours = TAESD(TAESDConfig(num_encoder_blocks=()))
    assert not [key for key in ours.state_dict() if not key.startswith("decoder.")]
    with pytest.raises(ValueError, match=r"only decodes.*taesd_encoder\.safetensors"):
        ours.encode(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decoder_block_out_channels": (64, 64, 64, 32)}, "as many channels"),
        ({"num_encoder_blocks": (1, 3, 3, 10**9)}, "at most 20 blocks"),
    ],
)
def test_impossible_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        TAESDConfig(**values)
