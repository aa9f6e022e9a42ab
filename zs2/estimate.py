"""How much memory a clip will take, told before it is made."""

import torch

from zs2.denoise import Whole
from zs2.models.tiled_vae import TiledVAE
from zs2.models.transformer import TransformerBlock
from zs2.models.unet import UNet
from zs2.stream import Stream
from zs2.weights import Weights

HEAP = 256 << 20
"""Bytes of tensors that glibc's heap keeps for itself, at most: as measured."""


def clip_memory(
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device,
    frames: int,
    latent: tuple[int, int, int],
    order: Whole | Stream,
    branches: int = 2,
    controls: int = 0,
    steps: int = 50,
    deepcache: bool = False,
) -> int:
    """About how many bytes a clip takes beside the model: right to a third (docs/results.md).

    The peak itself varies by a fifth from run to run.

    The larger of one UNet pass and the decoding of one frame, each counted in activations of its
    widest level as measured, and the gaps that a pass leaves in the heap: those of large tensors go
    back to the system, the others are still there when frames are decoded. SDXL's first level has
    no attention, and fills as much with its skips: at 512x512 and 8 rows, 22 activations measured
    where SD 1.5's numbers say 27.

    Args:
        latent: (C, h, w) of a frame.
        branches: of the guided prediction.
        controls: how many ControlNets or T2I-Adapters there are.
        steps: of the sampler; a stream keeps the state of each.
        deepcache: whether what the inner levels made is kept (`zs2.shots.deepcache`).
    """
    channels, h, w = latent
    factor = weights.vae.config.factor
    rows = min(frames, order.chunk or frames) * (branches if order.together else 1)
    activation = rows * h * w * weights.unet.config.block_out_channels[0] * dtype.itemsize
    # A GPU's feed-forward is not in parts: counted, not yet measured.
    live = 14 if device.type == "cpu" else 20
    live += 5 if controls else 0  # the sum of their residuals, of all sizes
    unet = live * activation + min(18 * activation, HEAP)
    left = 0
    if device.type == "cpu":  # a convolution lays its weights out anew
        unet += max(p.numel() for p in weights.unet.parameters()) * dtype.itemsize
        left = min(unet, HEAP)
    pixels = h * w * factor * factor
    drawn = pixels
    if isinstance(weights.vae, TiledVAE):
        drawn = min(pixels, (weights.vae.side * factor) ** 2)
    vae = 6 * drawn * weights.vae.config.block_out_channels[0] * weights.vae.dtype.itemsize
    held = min(frames, order.chunk) if isinstance(order, Stream) else frames
    kept = held * (3 * pixels + 4 * 5 * channels * h * w)  # uint8; float32
    if (order.chunk or frames) < frames:
        carried = steps if isinstance(order, Stream) else 1
        kept += carried * branches * state_memory(weights.unet, latent)
    if deepcache:
        kept += held * branches * h * w * weights.unet.config.block_out_channels[1] * dtype.itemsize
    # Their pictures, and what is made of them once.
    kept += controls * frames * (3 * pixels + activation // rows)
    return max(unet, left + vae) + kept


def model_memory(weights: Weights) -> int:
    """Bytes of a model's tensors."""
    vae = weights.vae.vae if isinstance(weights.vae, TiledVAE) else weights.vae
    networks = [weights.unet, vae, *(tower.encoder for tower in weights.text.towers)]
    return sum(p.numel() * p.element_size() for net in networks for p in net.parameters())


def state_memory(unet: UNet, latent: tuple[int, int, int]) -> int:
    """Bytes that a chunk hands to the next in one step and branch, float32 (see `zs2.attention`).

    Args:
        latent: (C, h, w) of a frame.
    """
    _, h, w = latent
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    last = len(unet.down_blocks) - 1
    levels = [*range(last + 1), last, *range(last, -1, -1)]
    values = 0
    for block, level in zip(blocks, levels, strict=True):
        positions = -(-h // 2**level) * -(-w // 2**level)
        layers = [m for m in block.modules() if isinstance(m, TransformerBlock)]
        values += sum(positions * layer.norm1.weight.numel() for layer in layers)
    return 4 * values
