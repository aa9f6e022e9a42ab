"""Chunk by chunk through all steps: a clip of any length in the memory of one chunk.

    for moment in Stream(chunk=8)(shot):
        if moment.finished:
            ...  # the latents of 8 more frames

Self-attention looks back only, through the running average of Eq. 2. So a chunk needs no more of
the frames before it than what they left in each step's momentum: one row a position, layer, branch
and step. Those are kept, and each chunk overwrites them. The frames are the same as `Whole`'s.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from zs2.denoise import Moment, Predictor, States, sampled
from zs2.shot import Shot
from zs2.timeline import whole


@dataclass(frozen=True)
class Stream:
    """Chunk by chunk, each through all steps.

    Attributes:
        chunk: frames at a time; any value makes the same clip.
        together: the guidance branches in one pass; apart they take less memory.

    Raises:
        ValueError: a chunk below 1.
    """

    chunk: int = 8
    together: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk", whole("chunk", self.chunk, 1))

    @property
    def settings(self) -> dict[str, object]:
        return {"stream": True, "chunk": self.chunk, "split-guidance": not self.together}

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> Iterator[Moment]:
        device, steps = shot.noise.device, len(shot.levels) - 1
        predictor = Predictor(shot, device, self.together)
        starts = range(0, shot.frames, self.chunk)
        kept: list[States] = []  # of each prediction that a sampler asks for, in its order

        def predictions(start: int) -> Callable[[Tensor, Tensor], Tensor]:
            calls = count()

            def predict(x: Tensor, t: Tensor) -> Tensor:
                call = next(calls)
                if call == len(kept):
                    kept.append(predictor.nothing())
                return predictor(x, t, start, kept[call])

            return predict

        for number, start in enumerate(starts):
            stop = min(start + self.chunk, shot.frames)
            made = sampled(shot, predictions(start), start, stop)
            for step, (x, x0) in enumerate(made, start=1):
                done, in_all = number * steps + step, len(starts) * steps
                yield Moment(x, x0, start, done, in_all, step == steps)
