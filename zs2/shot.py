"""A shot is what is to be made, a clip is what was made.

Whatever varies by frame is asked for with (start, stop). Features (`zs2.shots`) change a shot;
orders (`zs2.denoise`) run one, and neither knows the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from zs2 import media
from zs2.attention import FrameAttention, Share
from zs2.condition import Condition
from zs2.draws import RNG, NoiseModel
from zs2.metrics.differences import flicker, motion
from zs2.models.layers import scale_waves
from zs2.noise import correlation, each_frame
from zs2.samplers import Sampler
from zs2.schedule import Level, Schedule
from zs2.timeline import PerFrame, check_range, per_frame, plain


class Model(Protocol):
    """A denoiser: a UNet, or one that is wrapped."""

    def prepare(self, condition: Condition) -> Condition:
        """The condition with all that can be made of it once a clip."""

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, share: Share) -> Tensor:
        """The prediction for latents x [B*F, C, h, w] at timestep t []."""

    def modules(self) -> Iterator[nn.Module]:
        """All its layers, in an order that is the same in every program."""


@dataclass(frozen=True)
class Branch:
    """One part of a guided prediction: the sum over branches of weight x prediction.

    Attributes:
        weights: one a frame, F values.
        condition: what the model is told.
    """

    weights: tuple[float, ...]
    condition: Condition


def guidance(
    cfg: PerFrame, frames: int, prompt: Condition, negative: Condition
) -> tuple[Branch, ...]:
    """Classifier-free guidance: negative + cfg (prompt - negative). A cfg of 1 is no guidance.

    Raises:
        ValueError: a cfg that is no number, or so large that nothing could come of it.
    """
    scale = _scales(cfg, frames)
    if all(s == 1 for s in scale):
        return (Branch(tuple(scale), prompt),)
    return Branch(tuple(1 - s for s in scale), negative), Branch(tuple(scale), prompt)


def built_in(cfg: PerFrame, frames: int, prompt: Condition, channels: int) -> tuple[Branch, ...]:
    """The one branch of a model that was taught guided predictions and is told the scale (LCM).

    Raises:
        ValueError: as `guidance`.
    """
    told = scale_waves(torch.tensor(_scales(cfg, frames)), channels).to(
        prompt.prompt
    )  # (F, channels)
    each = told.expand(len(prompt.prompt), -1, -1)
    return (Branch((1.0,) * frames, replace(prompt, guidance=each)),)


def _scales(cfg: PerFrame, frames: int) -> list[float]:
    scales = per_frame("cfg", cfg, frames)
    check_range("cfg", cfg, 10_000, -10_000)
    return scales


Start = Callable[[int, int], Tensor]
"""(start, stop) -> latents [B, F, C, h, w] of those frames at the shot's first level."""
Correct = Callable[[Tensor, int, int, Level], Tensor]
"""(x0, start, stop, level) -> x0: what is known of the clean latents of those frames, put in."""


class Noise:
    """The noise of B clips of F frames, at every step of a sampler.

    Args:
        model: how frames' noises depend on each other.
        seeds: B of them.
        shape: (C, h, w) of a frame.
        rng: whose noise frame 1 has, see `zs2.draws.Draws`.
        first: the noise to start from, [F, C, h, w] or [B, F, C, h, w], in place of the model's.

    Raises:
        ValueError: a seed, count or size is out of range, or `first` has another shape.
    """

    def __init__(
        self,
        model: NoiseModel,
        seeds: Sequence[int],
        frames: int,
        shape: tuple[int, int, int],
        device: torch.device,
        rng: RNG = "zs2",
        first: Tensor | None = None,
    ) -> None:
        self.model, self.seeds, self.frames = model, seeds, frames
        self.shape, self.device, self.rng = shape, device, rng
        self.own = None if first is None else self.fitting(first)
        self.reels: dict[int, Reel] = {}
        self.reel(0)(0, 1)  # also where it is not needed: it is what checks the values

    def fitting(self, first: Tensor) -> Tensor:
        """Noise of one's own as [B, F, C, h, w] float32 on the device."""
        expected = [len(self.seeds), self.frames, *self.shape]
        if not isinstance(first, Tensor) or [*first.shape] not in (expected, expected[1:]):
            raise ValueError(f"latents must be a tensor {expected}, or of one clip {expected[1:]}")
        return first.to(self.device, torch.float32).expand(expected)

    def reel(self, step: int) -> "Reel":
        """The noise of a step; step 0 is what sampling starts from."""
        if step not in self.reels:
            # An MPS device has no float64, which the search needs.
            made_on = self.device if self.device.type == "cuda" else "cpu"
            args = self.model, self.seeds, self.frames, self.shape, made_on, step, self.rng
            self.reels[step] = Reel(partial(each_frame, *args))
        return self.reels[step]

    def __call__(self, start: int, stop: int, step: int = 0) -> Tensor:
        """The noise of frames start .. stop-1, [B, f, C, h, w] float32."""
        if step == 0 and self.own is not None:
            return self.own[:, start:stop]
        noise = self.reel(step)(start, stop).to(self.device)
        if step and stop == self.frames:
            del self.reels[step]
        return noise


class Reel:
    """Frames that are made one after the other; those that were asked for last are kept.

    Asked for from the first to the last, each is made once. Going back begins anew.
    """

    def __init__(self, begin: Callable[[], Iterator[Tensor]]) -> None:
        self.begin = begin
        self.frames, self.made, self.kept = begin(), 0, dict[int, Tensor]()

    def __call__(self, start: int, stop: int) -> Tensor:
        """Frames start .. stop-1, side by side in the second dimension."""
        if start < self.made and start not in self.kept:
            self.frames, self.made = self.begin(), 0
        self.kept = {i: frame for i, frame in self.kept.items() if i >= start}
        for frame in islice(self.frames, max(0, stop - self.made)):
            if self.made >= start:
                self.kept[self.made] = frame
            self.made += 1
        return torch.stack([self.kept[i] for i in range(start, stop)], dim=1)


@dataclass(frozen=True)
class Shot:
    """B clips of F frames, ready to be sampled.

    Attributes:
        start: the latents that sampling starts from, at levels[0].
        branches: the parts of the prediction: their weights sum to 1.
        levels: the noise levels to visit, the last one is the clean picture.
        noise: of every step; `start` is made of step 0's.
        settings: B of them, named as the command line's options.
        correct: what each step's clean latents, and the last ones, are corrected by.
    """

    model: Model
    schedule: Schedule
    frames: int
    start: Start
    branches: tuple[Branch, ...]
    levels: tuple[Level, ...]
    attention: FrameAttention
    sampler: Sampler
    noise: Noise
    settings: tuple[dict[str, object], ...]
    correct: Correct | None = None

    @property
    def shared(self) -> bool:
        """Whether frames share their attention."""
        return self.attention.momenta(self.frames) is not None

    def check_start(self, what: str) -> None:
        """ValueError if a feature has already chosen a start, which `what` would undo."""
        if self.start is not self.noise:
            raise ValueError(
                f"{what} must come before any other start of the clip: give it first, once"
            )

    def correlation(self) -> list[float]:
        """Of frame 1's noise with the last frame's, for each of B clips."""
        ends = [self.noise(i, i + 1) for i in (self.frames - 1, 0)]  # the last is at hand
        values: list[float] = correlation(torch.cat(ends[::-1], dim=1).cpu())[:, -1].tolist()
        return values

    def with_settings(self, **settings: object) -> tuple[dict[str, object], ...]:
        """The settings with a feature's own among them."""
        # A list is of words and numbers that a feature wrote itself.
        told = {k: v if isinstance(v, list) else plain(v) for k, v in settings.items()}
        return tuple({**own, **told} for own in self.settings)


@dataclass
class Clip:
    """Frames, and the settings that made them.

    Attributes:
        frames: uint8 RGB [F, H, W, 3].
        latents: float32 [F, C, h, w], what the frames were decoded from.
        settings: named as the command line's options; `save` stores them in the file.
        correlation: of frame 1's noise with the last frame's.
        shared: whether frames shared their attention.
    """

    frames: Tensor
    latents: Tensor
    settings: dict[str, object]
    correlation: float
    shared: bool
    fps: float = 8.0

    @property
    def motion(self) -> float:
        """Mean absolute difference of adjacent frames, 0..255."""
        return motion(self.frames)

    @property
    def flicker(self) -> float:
        """Temporal flickering score, 1 for a still clip."""
        return flicker(self.frames)

    def save(self, path: str | Path, fps: float | None = None, overwrite: bool = False) -> Path:
        """Write the clip as .mp4, .gif, .webp or .png, its settings inside (`zs2.media.save`).

        Returns:
            What was written: the path, or a folder for several frames and .png.
        """
        fps = float(self.fps if fps is None else fps)
        return media.save(Path(path), self.frames, fps, {**self.settings, "fps": fps}, overwrite)
