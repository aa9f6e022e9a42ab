"""The loop of Algorithm 1: DDIM over the frames of clips, which share attention.

    levels = ddim.timesteps(50)
    for latents in denoising_steps(unet, ddim, noise, prompt, negative, levels, attention=..):
        ...  # [B, F, C, h, w] after every step: decode it for a preview, or wait for the last

Needs no pipeline: a UNet, a schedule, noise and embeddings are enough.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zs2.attention import FrameAttention, State
from zs2.ddim import DDIM
from zs2.errors import NumericalError
from zs2.graph import Graph
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
    graph: bool = False,
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
        graph: record a step's launches once and replay them, on a CUDA device.

    Raises:
        ValueError: a chunk below 1.
        NumericalError: NaN or Inf appeared; the step is named.
    """
    chunk = latents.shape[1] if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, got {chunk}")
    # Each group of guidance branches is one pass through the UNet.
    branches = [prompt] if negative is None else [negative, prompt]
    groups = branches if split_guidance else [torch.cat(branches)]
    scale = None if negative is None else cfg
    predict: Callable[[Tensor, Tensor], Tensor] = Predictor(unet, groups, attention, chunk, scale)
    if graph:
        predict = Graph(predict)
    # On the device at once: a copy in every step would make the host wait.
    times = torch.tensor([t for t, _ in levels], device=latents.device)
    finite = FiniteCheck(latents.device)

    for step, (t, to) in enumerate(levels):
        latents = ddim.step(latents, predict(latents, times[step]), t, to)
        last = step + 1 == len(levels)
        if broken := finite(latents, step + 1, wait=last):
            raise NumericalError(
                f"in the latents at step {broken} of {len(levels)} (t = {levels[broken - 1][0]})",
                prompt.dtype,
            )
        yield latents


class Predictor:
    """The UNet, guided, over all frames of a clip: one chunk of them after the other.

    Args:
        groups: embeddings [G*B, 77, D] of the guidance branches that share a pass; in all, the
            prompt's alone, or the negative's and then the prompt's.
        chunk: frames of a pass.
        cfg: guidance scale; None without a negative.
    """

    def __init__(
        self,
        unet: UNet,
        groups: Sequence[Tensor],
        attention: FrameAttention,
        chunk: int,
        cfg: float | None,
    ) -> None:
        self.unet, self.attention, self.chunk, self.cfg = unet, attention, chunk, cfg
        self.dtype = groups[0].dtype
        self.sizes = [len(context) for context in groups]
        self.prompts = [unet.prompt(context) for context in groups]
        self.states: list[State | None] = [None] * len(groups)

    def __call__(self, latents: Tensor, t: Tensor) -> Tensor:
        """Latents [B, F, C, h, w] at timestep t to the prediction, of the same shape."""
        frames = latents.shape[1]
        chunked = self.chunk < frames  # a whole clip has nobody to hand a state to
        # Made before the first pass, as states are made once and overwritten: small tensors that
        # came to lie between a pass's large ones would keep the next pass from using that memory.
        eps = torch.empty_like(latents)
        for begin in range(0, frames, self.chunk):
            end = begin + self.chunk
            rows = latents[:, begin:end].to(self.dtype)  # (B, F, C, h, w)
            parts = []
            for g, (prompt, size) in enumerate(zip(self.prompts, self.sizes, strict=True)):
                x = rows.repeat(size // len(rows), 1, 1, 1, 1).flatten(0, 1)
                share = self.attention.share(latents.device, begin, end, self.states[g], chunked)
                parts.append(self.unet(x, t, prompt, share).float())
                if chunked and self.states[g] is None:
                    # Moved, for the same reason: the pass made them between its own.
                    self.states[g] = [state.clone() for state in share.state]
            part = torch.cat(parts).unflatten(0, (-1, rows.shape[1]))  # (G*B, F, C, h, w)
            if self.cfg is not None:
                unconditional, conditional = part.chunk(2)
                part = torch.lerp(unconditional, conditional, self.cfg)
            eps[:, begin:end] = part
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
