"""How much memory a clip is said to take: what grows with what. Measured are the numbers by hand
(`test_memory`)."""

from dataclasses import replace

import pytest
import torch

from zs2.denoise import Whole
from zs2.estimate import HEAP, clip_memory, model_memory, state_memory
from zs2.models.tiled_vae import TiledVAE
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig
from zs2.stream import Stream

LATENT = (4, 64, 64)
MIB = 2**20
WIDEST = 2 * 2560 * 1280 * 9  # the largest convolution's weights, laid out anew
FRAME = 3 * 512 * 512 + 4 * 5 * 4 * 64 * 64  # what is kept of each: its pixels, five latents


class Network:
    def __init__(self, config, dtype=torch.bfloat16):
        self.config, self.dtype = config, dtype


@pytest.fixture(scope="module")
def sd15():
    with torch.device("meta"):
        return UNet(UNetConfig())


@pytest.fixture
def memory(random_pipe, sd15):
    sd15 = replace(random_pipe.weights, unet=sd15)

    def told(frames, chunk=None, together=True, dtype=torch.bfloat16, device="cpu", **counts):
        order = Whole(chunk, together)
        weights = replace(sd15, vae=Network(VAEConfig(), dtype))
        return clip_memory(weights, dtype, torch.device(device), frames, LATENT, order, **counts)

    return told


def test_a_chunk_takes_what_a_clip_of_its_length_takes_and_a_state(memory, sd15):
    state = 2 * state_memory(sd15, LATENT)  # of the step, two branches
    assert memory(64, chunk=16) == memory(16) + 48 * FRAME + state
    assert memory(16, chunk=64) == memory(16)
    assert memory(64) > 3 * memory(16)


def test_guidance_apart_takes_what_no_guidance_takes(memory):
    assert memory(32, together=False) == memory(32, branches=1)
    assert memory(32, branches=3) > 1.4 * memory(32)


def test_a_short_clip_takes_what_its_decoding_takes(memory):
    """And what the UNet's small tensors left in the heap."""
    decoding = 6 * 512 * 512 * 128 * 2
    one_row = 64 * 64 * 320 * 2
    assert memory(1, branches=1) == decoding + (14 + 18) * one_row + WIDEST + FRAME
    assert memory(4) == decoding + (256 << 20) + 4 * FRAME
    assert memory(4, device="cuda") == max(decoding, 8 * 20 * one_row + HEAP) + 4 * FRAME


def test_of_a_long_clip(memory):
    """32 rows of SD 1.5's widest level in bf16."""
    activation = 32 * 64 * 64 * 320 * 2
    assert memory(16) == 14 * activation + (256 << 20) + WIDEST + 16 * FRAME
    assert memory(16, device="cuda") == 20 * activation + (256 << 20) + 16 * FRAME
    fp32 = 28 * activation + (256 << 20) + 2 * WIDEST + 16 * FRAME
    assert memory(16, dtype=torch.float32) == fp32


def test_a_controls_residuals_are_as_large_as_the_unets_maps(memory, random_pipe):
    """Added up over the sizes: 5 of the widest level's. Its pictures are kept, as it sees them."""
    activation = 32 * 64 * 64 * 320 * 2
    own = 16 * 3 * 512 * 512 + activation // 2
    assert memory(16, controls=1) == memory(16) + 5 * activation + own
    assert memory(16, controls=2) == memory(16, controls=1) + own


def test_a_state_of_sd_15(sd15):
    """One row a position of each of 16 layers: 11.5 million values at 512 pixels, float32."""
    values = 2 * 4096 * 320 + 2 * 1024 * 640 + 2 * 256 * 1280 + 64 * 1280
    values += 3 * 256 * 1280 + 3 * 1024 * 640 + 3 * 4096 * 320
    assert state_memory(sd15, LATENT) == 4 * values
    assert round(2 * 4 * values / 1e6) == 92


def test_a_stream_keeps_a_chunk_and_the_states_of_every_step(sd15, random_pipe):
    weights = replace(random_pipe.weights, unet=sd15, vae=Network(VAEConfig()))

    def told(frames, order, steps=50):
        cpu = torch.device("cpu")
        return clip_memory(weights, torch.bfloat16, cpu, frames, LATENT, order, steps=steps)

    states = 2 * 50 * state_memory(sd15, LATENT)
    assert told(1000, Stream(8)) == told(8, Whole()) + states
    assert told(1000, Stream(8)) == told(2000, Stream(8))
    assert told(1000, Stream(8), 25) == told(8, Whole()) + states // 2
    assert told(8, Stream(8)) == told(8, Whole())


def test_a_tile_takes_what_its_pixels_take(memory, random_pipe, sd15):
    tiled = replace(random_pipe.weights, unet=sd15)
    vae = TiledVAE(Network(VAEConfig()), 32)  # 256 pixels
    told = clip_memory(
        replace(tiled, vae=vae), torch.bfloat16, torch.device("cpu"), 1, LATENT, Whole()
    )
    assert memory(1) - told == 6 * (512 * 512 - 256 * 256) * 128 * 2


def test_a_models_bytes(random_pipe):
    weights = random_pipe.weights
    whole = model_memory(weights)
    networks = (weights.unet, weights.vae, weights.text.towers[0].encoder)
    assert whole == sum(4 * p.numel() for net in networks for p in net.parameters())
    assert model_memory(replace(weights, vae=TiledVAE(weights.vae, 8))) == whole
