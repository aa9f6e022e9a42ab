"""Values over the frames of a clip: one for all frames, one for each, or key frames between.

    per_frame("lam", 0.01, frames=3)                              [0.01, 0.01, 0.01]
    per_frame("lam", [0, 0.01, 0.1], frames=3)                    [0.0, 0.01, 0.1]
    per_frame("lam", Keyframes.parse("0:(0), 4:(0.2)"), frames=3) [0.0, 0.05, 0.1]

Plain Python: numbers and arrays of numpy and torch are read without importing either.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NUMBER = r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?inf|nan)"
KEY_FRAME = re.compile(rf"\s*([0-9]{{1,9}})\s*:\s*(?:\(\s*{NUMBER}\s*\)|{NUMBER})\s*")


@dataclass(frozen=True)
class Keyframes:
    """Values at some frames: straight lines between them, constant before and after.

    `points` are pairs of a frame's index, from 0, and its value, in any order; they are kept
    sorted. A value may be inf, where the points beside it are inf too.

    Raises:
        ValueError: no points, two at one frame, an index that is none, a value that is none, or a
            line that would have to reach inf.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("key frames need at least one point, as 0:(0.01)")
        for index, value in self.points:
            if type(index) is not int or index < 0:
                raise ValueError(f"a key frame's index is a whole number from 0, not {index!r}")
            if math.isnan(number(f"the value at frame {index}", value)):
                raise ValueError(f"the value at frame {index} is nan: give a number")
        points = sorted((index, number("value", value)) for index, value in self.points)
        for (first, start), (second, stop) in itertools.pairwise(points):
            if first == second:
                raise ValueError(f"frame {first} has two values, {start} and {stop}: give one")
            if start != stop and math.isinf(start - stop):
                raise ValueError(
                    f"no straight line leads from {start} at frame {first} to {stop} at frame "
                    f"{second}: give finite values"
                )
        object.__setattr__(self, "points", tuple(points))

    @classmethod
    def parse(cls, text: str) -> "Keyframes":
        """From Deforum's way to write them, "0:(0.01), 24:(0.1)", of which `str` is the inverse.

        Spaces and parentheses may be left out. Formulas are not read.

        Raises:
            ValueError: anything else.
        """
        points = []
        for part in text.split(","):
            match = KEY_FRAME.fullmatch(part)
            if not match:
                raise ValueError(
                    f"key frames are written as 0:(0.01), 24:(0.1), and {part.strip()!r} is not "
                    "frame:(number)"
                )
            points.append((int(match[1]), float(match[2] or match[3])))
        return cls(tuple(points))

    def __str__(self) -> str:
        return ", ".join(f"{index}:({value})" for index, value in self.points)

    def at(self, frame: int) -> float:
        """The value at a frame, counted from 0."""
        before = [point for point in self.points if point[0] <= frame] or self.points[:1]
        after = [point for point in self.points if point[0] >= frame] or self.points[-1:]
        (first, start), (second, stop) = before[-1], after[0]
        if start == stop:
            return start
        return start + (stop - start) * (frame - first) / (second - first)


PerFrame = float | Sequence[float] | Keyframes


def number(name: str, value: object) -> float:
    """`value`, a number of Python, numpy or torch, as a float; ValueError if it is none."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise ValueError(f"{name} must be a number, not {plain!r}")
    try:
        return float(plain)
    except OverflowError:
        raise ValueError(f"{name} is too large a number: give inf for the largest") from None


def whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value`, a whole number of Python, numpy or torch in low..high; ValueError if it is none."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if type(plain) is not int or plain < low or (high is not None and plain > high):
        limits = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} must be a whole number, {limits}, got {plain!r}")
    return plain


def per_frame(name: str, value: PerFrame, frames: int) -> list[float]:
    """`value` at each of `frames` frames.

    Raises:
        ValueError: it is a sequence of another length, or not made of numbers.
    """
    if isinstance(value, Keyframes):
        return [value.at(frame) for frame in range(frames)]
    values = numbers(name, value)
    if isinstance(values, float):
        return [values] * frames
    if len(values) != frames:
        raise ValueError(f"{name} has {len(values)} values for {frames} frames: give 1 or {frames}")
    return values


def check_range(name: str, value: PerFrame, high: float, low: float = 0) -> None:
    """ValueError unless all of `value` lies in [low, high]; nan does not."""
    if isinstance(value, Keyframes):
        values: float | list[float] = [v for _, v in value.points]
    else:
        values = numbers(name, value)
    for v in [values] if isinstance(values, float) else values:
        if not low <= v <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, got {v}")


def numbers(name: str, value: object) -> float | list[float]:
    """A number, or the numbers of a sequence, as floats; ValueError if `value` is neither."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, Sequence) and not isinstance(plain, str):
        return [number(name, v) for v in plain]
    return number(name, plain)


def plain(value: Any) -> Any:
    """A value as a file can hold it: Python's own numbers for those of torch and numpy."""
    if isinstance(value, Keyframes):
        return str(value)
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return tuple(v.tolist() if hasattr(v, "tolist") else v for v in value)
    return value
