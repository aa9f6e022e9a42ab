"""The loop of Algorithm 1: an order runs a shot.

    for moment in Whole(chunk=8)(shot):
        ...  # its latents x [B, F, C, h, w] after every step, and the clean ones x0

Needs no pipeline: a `Shot` is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zs2.attention import Share, State
from zs2.condition import Condition
from zs2.errors import NumericalError
from zs2.graph import Graph
from zs2.schedule import Level
from zs2.shot import Shot
from zs2.timeline import whole


class Moment(NamedTuple):
    """Where an order is after a step.

    Attributes:
        x: latents [B, f, C, h, w] of frames start .. start+f-1 at the next level.
        x0: the clean latents that the step predicted.
        step, steps: of all that the order makes.
        finished: whether x is what the sampler ends at.
    """

    x: Tensor
    x0: Tensor
    start: int
    step: int
    steps: int
    finished: bool


class Order(Protocol):
    """What runs a shot: the same clip, in another order or other memory."""

    @property
    def settings(self) -> dict[str, object]:
        """What a clip remembers of it, by the names of the command line's options."""

    def __call__(self, shot: Shot) -> Iterator[Moment]:
        """Yields after every step; each frame is finished once, the first ones first.

        Raises:
            ValueError: the shot's device cannot do it.
            NumericalError: NaN or Inf appeared; the step is named.
        """


@dataclass(frozen=True)
class Whole:
    """Step by step over all frames.

    Attributes:
        chunk: frames at a time inside each step; the carried state makes any value exact.
        together: the guidance branches in one pass; apart they take less memory.
        graph: on a CUDA device, record a step's launches once and replay them.

    Raises:
        ValueError: a chunk below 1, or a graph of a compiled model.
    """

    chunk: int | None = None
    together: bool = True
    graph: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None:
            object.__setattr__(self, "chunk", whole("chunk", self.chunk, 1))

    @property
    def settings(self) -> dict[str, object]:
        return {"chunk": self.chunk, "split-guidance": not self.together}

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> Iterator[Moment]:
        device = shot.noise.device
        if self.graph and any(
            getattr(m, "_compiled_call_impl", None) for m in shot.model.modules()
        ):
            raise ValueError(
                "a compiled model may compile again while a graph records: leave one out"
            )
        predictor = Predictor(shot, device, self.together)
        chunk = self.chunk or shot.frames
        # A whole clip hands no state on.
        states = predictor.nothing() if chunk < shot.frames else None

        def predict(x: Tensor, t: Tensor) -> Tensor:
            # Made before the first pass, as states are made once and overwritten: small tensors
            # that came to lie between a pass's large ones would keep the next pass from using that
            # memory.
            prediction = torch.empty_like(x)
            for start in range(0, shot.frames, chunk):
                part = slice(start, start + chunk)
                last = part.stop >= shot.frames
                prediction[:, part] = predictor(x[:, part], t, start, states, keep=not last)
            return prediction

        steps = len(shot.levels) - 1
        made = sampled(shot, Graph(predict, device) if self.graph else predict, 0, shot.frames)
        for step, (x, x0) in enumerate(made, start=1):
            yield Moment(x, x0, 0, step, steps, step == steps)


WHOLE = Whole()
"""The usual order."""


def sampled(
    shot: Shot, predict: Callable[[Tensor, Tensor], Tensor], start: int, stop: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The sampler's steps for frames start .. stop-1: yields (x, x0) [B, f, C, h, w] after each.

    Args:
        predict: latents [B, f, C, h, w] and a timestep [] to the guided prediction.

    Raises:
        NumericalError: NaN or Inf appeared; the step is named.
    """
    x = shot.start(start, stop)
    # On the device at once: a copy in every step would make the host wait.
    ts = list(dict.fromkeys(level.t for level in shot.levels))
    times = dict(zip(ts, torch.tensor(ts, device=x.device), strict=True))

    def denoise(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        x0, eps = shot.schedule.predicted(x, predict(x, times[level.t]), level)
        if shot.correct:
            x0 = shot.correct(x0, start, stop, level)
            eps = (x - level.alpha_bar**0.5 * x0) / (1 - level.alpha_bar) ** 0.5
        return x0, eps

    def fresh(step: int) -> Tensor:
        return shot.noise(start, stop, step)

    finite, steps = FiniteCheck(x.device), len(shot.levels) - 1
    sampling = shot.sampler(denoise, x, shot.levels, fresh)
    for step, (latents, clean) in enumerate(sampling, start=1):
        if broken := finite(latents, step, wait=step == steps):
            raise NumericalError(
                f"in the latents at step {broken} of {steps} (t = {shot.levels[broken - 1].t:g})",
                shot.branches[0].condition.prompt.dtype,
            )
        if step == steps and shot.correct:
            latents = shot.correct(latents, start, stop, shot.levels[-1])
        yield latents, clean


States = list[State | None]
"""What the frames before left, one for each pass of a prediction; None before the first frame."""


class Predictor:
    """The guided prediction for some frames of a clip.

    Args:
        together: all branches in one pass, or each in its own.
    """

    def __init__(self, shot: Shot, device: torch.device, together: bool) -> None:
        self.model = shot.model
        self.mu = shot.attention.momenta(shot.frames, device)
        self.weights = torch.tensor([b.weights for b in shot.branches], device=device)  # (G, F)
        conditions = [b.condition for b in shot.branches]
        self.dtype = conditions[0].prompt.dtype
        groups = [conditions] if together else [[c] for c in conditions]
        self.sizes = [len(group) for group in groups]
        self.conditions = [shot.model.prepare(Condition.stack(group)) for group in groups]

    def nothing(self) -> States:
        """The states before the first frame."""
        return [None for _ in self.conditions]

    def __call__(
        self, x: Tensor, t: Tensor, start: int, states: States | None, keep: bool = True
    ) -> Tensor:
        """The prediction [B, f, C, h, w] for latents x of frames start .. start+f-1 at t [].

        Args:
            states: what the frames before left, in whose place these frames leave theirs; None
                where there are no others, before or after.
            keep: whether others come after.
        """
        rows, parts, stop = x.to(self.dtype), [], start + x.shape[1]
        mu = None if self.mu is None else self.mu[start:stop]
        for g, (condition, size) in enumerate(zip(self.conditions, self.sizes, strict=True)):
            before = states[g] if states is not None else None
            share = Share(mu, before, keep=keep and states is not None)
            many = rows.repeat(size, 1, 1, 1, 1).flatten(0, 1)  # (G*B*f, C, h, w)
            parts.append(self.model(many, t, condition.at(start, stop), share).float())
            if states is not None:
                # Moved, so that they do not lie between the tensors of the pass that made them: of
                # the first pass, and of that where a ControlNet's span begins.
                kept = states[g] = {} if before is None else before
                for norm in share.state.keys() - kept.keys():
                    kept[norm] = share.state[norm].clone()
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
