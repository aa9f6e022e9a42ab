"""Fewer passes through the UNet's inner levels (Ma et al. 2024, DeepCache).

Between neighbouring steps the coarse features hardly change. So only every few steps the whole
UNet is computed; in the others its outermost level is, around what the inner ones made last.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from zs2.attention import Share
from zs2.condition import Condition
from zs2.models.unet import UNet
from zs2.pipeline import Pipeline
from zs2.shot import Shot
from zs2.timeline import whole


@dataclass(frozen=True)
class DeepCache:
    """Compute the UNet's inner levels at every `every`-th step. After it comes Between alone.

    How much faster, and how far from the exact clip: docs/results.md.

    Raises:
        ValueError: `every` is below 2, or the model is no plain UNet of several levels.
    """

    every: int = 2

    def __post_init__(self) -> None:
        whole("deepcache", self.every, 2)

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        if not isinstance(shot.model, UNet) or len(shot.model.down_blocks) < 2:
            raise ValueError("DeepCache is for a UNet by itself: leave it or the controls out")
        model = Cached(shot.model, self.every)
        return replace(shot, model=model, settings=shot.with_settings(deepcache=self.every))


@dataclass
class Cached:
    """A UNet that remembers what its inner levels made.

    Attributes:
        every: steps from one whole pass to the next. A step is told by its timestep's tensor, which
            all of its passes share; where the timestep does not fall, sampling begins anew (the
            next chunk of a stream).
        kept: what the last up block took, of each pass of the last whole step, in their order.
    """

    unet: UNet
    every: int
    step: int = 0
    t: Tensor | None = None
    last: float = float("-inf")
    passes: int = 0
    kept: list[Tensor] = field(default_factory=list)

    def prepare(self, condition: Condition) -> Condition:
        return self.unet.prepare(condition)

    def modules(self) -> Iterator[nn.Module]:
        return self.unet.modules()

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, share: Share) -> Tensor:
        if t.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise ValueError("a graph records one kind of step, and DeepCache has two")
        if t is not self.t:  # looked at once a step, as that makes the host wait
            now = float(t)
            self.step = self.step + 1 if now < self.last else 0
            self.t, self.last, self.passes = t, now, 0
        if fresh := self.step % self.every == 0:
            del self.kept[self.passes :]
        unet, condition = self.unet, condition.by_row()
        if condition.channels is not None:
            x = torch.cat([x, condition.channels], dim=1)
        time = unet.embed(t, condition, len(x))
        outer, *inner = unet.down_blocks
        *rising, last = unet.up_blocks
        h = unet.conv_in(x)
        skips = [h]
        h = outer(h, skips, time, condition, share)
        if fresh:
            for block in inner:
                h = block(h, skips, time, condition, share)
            h = unet.mid_block(h, time, condition, share)
            for block in rising:
                h = block(h, skips, time, condition, share)
            self.kept.append(h)
        del skips[unet.config.layers_per_block + 1 :]  # what is deeper was used, or is not needed
        h = last(self.kept[self.passes], skips, time, condition, share)
        self.passes += 1
        return unet.conv_out(unet.conv_norm_out(h, silu=True))
