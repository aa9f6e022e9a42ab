"""A camera that moves: its noise moves, and so does the picture that is made of it."""

import re
from dataclasses import dataclass, replace

from zs2.noise import DependencyNoise
from zs2.noise_camera import CameraNoise, Move
from zs2.pipeline import Pipeline
from zs2.shot import Noise, Shot
from zs2.timeline import Keyframes, PerFrame, check_range, numbers, per_frame

FARTHEST = 4096  # pixels, of a pan a frame
PART = re.compile(r"(?:^|\s)(pan|x|y|zoom|roll)=")


@dataclass(frozen=True)
class Camera:
    """Move the picture by as much from each frame to the next. It comes first of the features.

    Each value is of all frames or one each, of which the first is unused, or key frames.

    Attributes:
        x, y: how far the picture moves to the right and down, in pixels.
        zoom: by which factor it grows about its middle, 0.5..2.
        roll: by how many degrees it turns clockwise about its middle.

    Raises:
        ValueError: a value out of range, another noise model than the dependency model, or a
            feature before this one has chosen another start.
    """

    x: PerFrame = 0.0
    y: PerFrame = 0.0
    zoom: PerFrame = 1.0
    roll: PerFrame = 0.0

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            check_range(f"the camera's {name}", getattr(self, name), FARTHEST, -FARTHEST)
        check_range("the camera's zoom", self.zoom, 2, 0.5)
        check_range("the camera's roll", self.roll, 180, -180)

    @classmethod
    def parse(cls, text: str) -> "Camera":
        """From "pan=2,0 zoom=1.02 roll=1"; x, y, zoom and roll may be key frames: "x=0:(2), 8:(0)".

        Raises:
            ValueError: anything else.
        """
        begin, *parts = PART.split(text)
        names = parts[::2]
        if begin.strip() or not names or len({*names}) < len(names):
            raise ValueError(
                f"a camera is told as 'pan=2,0 zoom=1.02 roll=1', each once, not {text!r:.60}"
            )
        given: dict[str, PerFrame] = {}
        for name, said in zip(names, parts[1::2], strict=True):
            if name == "pan":
                both = said.split(",")
                if len(both) != 2 or {"x", "y"} & {*names}:
                    raise ValueError(
                        f"pan is X,Y in pixels, without x or y, not {said.strip()!r:.40}"
                    )
                given |= {axis: value(axis, v) for axis, v in zip("xy", both, strict=True)}
            else:
                given[name] = value(name, said)
        return cls(**given)

    def times(self, scale: float) -> str:
        """The same camera of a picture that is larger, in words."""

        def larger(value: PerFrame) -> PerFrame:
            if isinstance(value, Keyframes):
                return Keyframes(tuple((index, scale * v) for index, v in value.points))
            several = numbers("value", value)
            return scale * several if isinstance(several, float) else [scale * v for v in several]

        return words({**self.parts(), "x": larger(self.x), "y": larger(self.y)})

    def parts(self) -> dict[str, PerFrame]:
        return {name: getattr(self, name) for name in ("x", "y", "zoom", "roll")}

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        chain = shot.noise.model
        if not isinstance(chain, DependencyNoise) or shot.noise.own is not None:
            raise ValueError("a camera moves the dependency noise model's noise, no other")
        shot.check_start("a camera")
        side, frames = pipe.multiple, shot.frames
        x, y, zoom, roll = (per_frame(name, given, frames) for name, given in self.parts().items())
        moves = tuple(Move(x[i] / side, y[i] / side, zoom[i], roll[i]) for i in range(frames))
        old = shot.noise
        made = CameraNoise(chain, moves, old.shape)
        noise = Noise(made, old.seeds, frames, old.shape, old.device, old.rng)
        told = shot.with_settings(camera=words(self.parts()))
        return replace(shot, start=noise, noise=noise, settings=told)


def value(name: str, text: str) -> PerFrame:
    """A number, or key frames."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return Keyframes.parse(text)
    except ValueError:
        raise ValueError(
            f"the camera's {name} is a number, or key frames as 0:(2), 8:(0), "
            f"not {text.strip()!r:.40}"
        ) from None


def words(told: dict[str, PerFrame]) -> str:
    """A camera as `Camera.parse` reads it."""
    usual = {"x": 0.0, "y": 0.0, "zoom": 1.0, "roll": 0.0}
    plain = {name: v if isinstance(v, Keyframes) else numbers(name, v) for name, v in told.items()}
    said = {
        name: Keyframes(tuple(enumerate(v))) if isinstance(v, list) else v
        for name, v in plain.items()
        if v != usual[name]
    }
    return " ".join(f"{name}={v}" for name, v in said.items()) or "zoom=1.0"
