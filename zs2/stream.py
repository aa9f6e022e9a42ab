"""Chunk by chunk through all steps: a clip of any length in the memory of one chunk.

    for moment in Stream(chunk=8)(shot):
        if moment.finished:
            ...  # the latents of 8 more frames

Self-attention looks back only, through the running average of Eq. 2. So a chunk needs no more of
the frames before it than what they left in each step's momentum: one row a position, layer, branch
and step. Those are kept (`zs2.memory`), and each chunk overwrites them. The frames are the same as
`Whole`'s.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from zs2.denoise import Moment, Predictor, sampled
from zs2.memory import Memory
from zs2.shot import Shot
from zs2.timeline import whole


@dataclass(frozen=True)
class Stream:
    """Chunk by chunk, each through all steps.

    Attributes:
        chunk: frames at a time; any value makes the same clip.
        together: the guidance branches in one pass; apart they take less memory.
        memory: where the states lie, and the folder from which a stream that was ended goes on.

    Raises:
        ValueError: a chunk below 1.
    """

    chunk: int = 8
    together: bool = True
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk", whole("chunk", self.chunk, 1))

    @property
    def settings(self) -> dict[str, object]:
        half = {"half-state": True} if self.memory.half else {}
        return {"stream": True, "chunk": self.chunk, "split-guidance": not self.together, **half}

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> Iterator[Moment]:
        """As every order.

        Raises:
            InputError: the memory's folder cannot be used.
        """
        device, steps, memory = shot.noise.device, len(shot.levels) - 1, self.memory
        predictor = Predictor(shot, device, self.together)
        # The states of each prediction that a sampler asks for, in its order.
        begin, kept = memory.load(shot.model, device)
        starts = range(begin, shot.frames, self.chunk)
        before = math.ceil(begin / self.chunk)
        in_all = (before + len(starts)) * steps

        def predictions(start: int) -> Callable[[Tensor, Tensor], Tensor]:
            calls = count()

            def predict(x: Tensor, t: Tensor) -> Tensor:
                call = next(calls)
                if call == len(kept):
                    kept.append(predictor.nothing())
                states = memory.take(kept[call], device)
                prediction = predictor(x, t, start, states)
                kept[call] = memory.put(states)
                return prediction

            return predict

        for start, latents in memory.finished(min(begin, shot.frames)):
            x = latents[:, : shot.frames - start].to(device)
            done = math.ceil((start + x.shape[1]) / self.chunk)
            yield Moment(x, x, start, done * steps, in_all, True)
        for number, start in enumerate(starts, start=before):
            stop = min(start + self.chunk, shot.frames)
            made = sampled(shot, predictions(start), start, stop)
            for step, (x, x0) in enumerate(made, start=1):
                if step == steps:
                    memory.save(start, x, kept, shot.model)
                yield Moment(x, x0, start, number * steps + step, in_all, step == steps)
