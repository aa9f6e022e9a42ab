"""The loop of Algorithm 1: DDIM over the frames of clips, which share attention.

    levels = ddim.timesteps(50)
    for latents in denoising_steps(unet, ddim, noise, prompt, negative, levels, attention=..):
        ...  # [B, F, C, h, w] after every step: decode it for a preview, or wait for the last

Needs no pipeline: a UNet, a schedule, noise and embeddings are enough.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zs2.attention import FrameAttention, State
from zs2.ddim import DDIM
from zs2.errors import NumericalError
from zs2.models.unet import UNet


@torch.inference_mode()
def denoising_steps(
    unet: UNet,
    ddim: DDIM,
    latents: Tensor,
    prompt: Tensor,
    negative: Tensor | None,
    levels: Sequence[tuple[int, int]],
    *,
    attention: FrameAttention,
    cfg: float = 7.5,
    chunk: int | None = None,
    split_guidance: bool = False,
) -> Iterator[Tensor]:
    """DDIM with classifier-free guidance: yields the latents [B, F, C, h, w] after every step.

    Args:
        latents: the initial noise [B, F, C, h, w], float32.
        prompt, negative: embeddings [B, 77, D] in the UNet's precision; without `negative` there
            is no guidance.
        levels: pairs (t, next t), as `DDIM.timesteps` gives them.
        attention: how the F frames share attention.
        chunk: frames at a time inside each step; the carried state makes any value exact.
        split_guidance: run the guidance branches one after the other.

    Raises:
        ValueError: a chunk below 1.
        NumericalError: NaN or Inf appeared; the step is named.
    """
    chunk = latents.shape[1] if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, got {chunk}")
    # Each group of guidance branches is one pass through the UNet, with a state of its own.
    branches = [prompt] if negative is None else [negative, prompt]
    groups = branches if split_guidance else [torch.cat(branches)]
    # On the device at once: a copy in every step would make the host wait.
    times = torch.tensor([t for t, _ in levels], device=latents.device)
    finite = FiniteCheck(latents.device)
    states: list[State | None] = [None] * len(groups)

    for step, (t, to) in enumerate(levels):
        eps = _predict(unet, latents, times[step], groups, attention, chunk, states)
        if negative is not None:
            unconditional, conditional = eps.chunk(2)
            eps = unconditional + cfg * (conditional - unconditional)
        latents = ddim.step(latents, eps, t, to)
        last = step + 1 == len(levels)
        if broken := finite(latents, step + 1, wait=last):
            raise NumericalError(
                f"in the latents at step {broken} of {len(levels)} (t = {levels[broken - 1][0]})",
                prompt.dtype,
            )
        yield latents


def _predict(
    unet: UNet,
    latents: Tensor,
    t: Tensor,
    groups: list[Tensor],
    attention: FrameAttention,
    chunk: int,
    states: list[State | None],
) -> Tensor:
    """The UNet's output for all frames, [G*B, F, C, h, w] float32, one chunk after the other."""
    # Made before the first pass, and states overwritten: small tensors that came to lie between a
    # pass's large ones would keep the next pass from using that memory again.
    eps = latents.new_empty(sum(map(len, groups)), *latents.shape[1:])
    for begin in range(0, latents.shape[1], chunk):
        rows = latents[:, begin : begin + chunk].to(groups[0].dtype)  # (B, F, C, h, w)
        parts = eps[:, begin : begin + chunk].split([len(context) for context in groups])
        for g, (context, part) in enumerate(zip(groups, parts, strict=True)):
            x = rows.repeat(len(context) // len(rows), 1, 1, 1, 1).flatten(0, 1)
            share = attention.share(latents.device, begin, begin + chunk, states[g])
            part.copy_(unet(x, t, context, share).view_as(part))
            # A whole clip hands nothing on, and each of its steps is the same graph to a compiler.
            states[g] = share.state if chunk < latents.shape[1] else None
    return eps


class FiniteCheck:
    """Finds the first step with NaN or Inf without making the host wait for the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.first = torch.zeros((), dtype=torch.int32, device=device)
        self.seen = torch.zeros((), dtype=torch.int32, pin_memory=device.type == "cuda")

    def __call__(self, x: Tensor, step: int, wait: bool = False) -> int:
        """The first step, from 1, whose x was not finite; 0 while none is known.

        On a GPU a step may pass unseen until a later call, but none when it waits.
        """
        new = (self.first == 0) & ~x.isfinite().all()
        self.first = self.first.masked_fill(new, step)
        if wait:
            return int(self.first)
        self.seen.copy_(self.first, non_blocking=True)
        return int(self.seen)
