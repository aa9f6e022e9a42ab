"""The loop of Algorithm 1: an order runs a shot.

    for x, x0 in Whole(chunk=8)(shot):
        ...  # latents [B, F, C, h, w] after every step, and the clean ones that it predicted

Needs no pipeline: a `Shot` is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zs2.attention import Share, State
from zs2.condition import Condition
from zs2.errors import NumericalError
from zs2.graph import Graph
from zs2.schedule import Level
from zs2.shot import Shot
from zs2.timeline import whole


@dataclass(frozen=True)
class Whole:
    """Step by step over all frames.

    Attributes:
        chunk: frames at a time inside each step; the carried state makes any value exact.
        together: the guidance branches in one pass; apart they take less memory.
        graph: on a CUDA device, record a step's launches once and replay them.

    Raises:
        ValueError: a chunk below 1.
    """

    chunk: int | None = None
    together: bool = True
    graph: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None:
            object.__setattr__(self, "chunk", whole("chunk", self.chunk, 1))

    @property
    def settings(self) -> dict[str, object]:
        """What a clip remembers of it, by the names of the command line's options."""
        return {"chunk": self.chunk, "split-guidance": not self.together}

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x, x0) [B, F, C, h, w] after every step.

        Raises:
            NumericalError: NaN or Inf appeared; the step is named.
        """
        x = shot.start(0, shot.frames)
        predict: Callable[[Tensor, Tensor], Tensor] = Predictor(
            shot, x.device, self.chunk or shot.frames, self.together
        )
        if self.graph:
            predict = Graph(predict)
        # On the device at once: a copy in every step would make the host wait.
        ts = list(dict.fromkeys(level.t for level in shot.levels))
        times = dict(zip(ts, torch.tensor(ts, device=x.device), strict=True))

        def denoise(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
            x0, eps = shot.schedule.predicted(x, predict(x, times[level.t]), level)
            if shot.correct:
                x0 = shot.correct(x0, 0, shot.frames)
                eps = (x - level.alpha_bar**0.5 * x0) / (1 - level.alpha_bar) ** 0.5
            return x0, eps

        def fresh(step: int) -> Tensor:
            return shot.noise(0, shot.frames, step)

        finite, steps = FiniteCheck(x.device), len(shot.levels) - 1
        sampling = shot.sampler(denoise, x, shot.levels, fresh)
        for step, (latents, clean) in enumerate(sampling, start=1):
            if broken := finite(latents, step, wait=step == steps):
                raise NumericalError(
                    f"in the latents at step {broken} of {steps} "
                    f"(t = {shot.levels[broken - 1].t:g})",
                    shot.branches[0].condition.prompt.dtype,
                )
            if step == steps and shot.correct:
                latents = shot.correct(latents, 0, shot.frames)
            yield latents, clean


WHOLE = Whole()
"""The usual order."""


class Predictor:
    """The guided prediction for all frames of a clip, one chunk of them after the other.

    Args:
        chunk: frames of a pass.
        together: all branches in one pass, or each in its own.
    """

    def __init__(self, shot: Shot, device: torch.device, chunk: int, together: bool) -> None:
        self.model, self.chunk = shot.model, chunk
        self.mu = shot.attention.momenta(shot.frames, device)
        self.weights = torch.tensor([b.weights for b in shot.branches], device=device)  # (G, F)
        conditions = [b.condition for b in shot.branches]
        self.dtype = conditions[0].prompt.dtype
        groups = [conditions] if together else [[c] for c in conditions]
        self.sizes = [len(group) for group in groups]
        self.conditions = [shot.model.prepare(Condition.stack(group)) for group in groups]
        self.states: list[State | None] = [None] * len(groups)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Latents [B, F, C, h, w] at timestep t to the prediction, of the same shape."""
        frames = x.shape[1]
        # Made before the first pass, as states are made once and overwritten: small tensors that
        # came to lie between a pass's large ones would keep the next pass from using that memory.
        prediction = torch.empty_like(x)
        for start in range(0, frames, self.chunk):
            stop = min(start + self.chunk, frames)
            # A whole clip hands no state on.
            part = self.part(x[:, start:stop], t, start, stop, keep=self.chunk < frames)
            prediction[:, start:stop] = part
        return prediction

    def part(self, x: Tensor, t: Tensor, start: int, stop: int, keep: bool) -> Tensor:
        """The prediction for frames start .. stop-1, whose latents x [B, f, C, h, w] are.

        Takes the states that the frames before left, and leaves its own where they are kept.
        """
        rows, parts = x.to(self.dtype), []
        mu = None if self.mu is None else self.mu[start:stop]
        for g, (condition, size) in enumerate(zip(self.conditions, self.sizes, strict=True)):
            share = Share(mu, self.states[g], keep)
            many = rows.repeat(size, 1, 1, 1, 1).flatten(0, 1)  # (G*B*f, C, h, w)
            parts.append(self.model(many, t, condition.at(start, stop), share).float())
            if keep and self.states[g] is None:
                # Moved, so that it does not lie between the tensors of the pass that made it.
                self.states[g] = {norm: state.clone() for norm, state in share.state.items()}
        return self.combine(parts, start, stop)

    def combine(self, parts: Sequence[Tensor], start: int, stop: int) -> Tensor:
        """The weighted sum of the branches' predictions, which lie one after the other."""
        g, f = len(self.weights), stop - start
        part = torch.cat([*parts]).unflatten(0, (g, -1, f))  # (G, B, f, C, h, w)
        return (self.weights[:, None, start:stop, None, None, None] * part).sum(0)


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
