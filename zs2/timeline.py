"""Values over the frames of a clip."""

from collections.abc import Sequence

PerFrame = float | Sequence[float]  # one value for all frames, or one for each


def per_frame(name: str, value: PerFrame, frames: int) -> list[float]:
    """`value` for each of `frames` frames; ValueError if it is a sequence of another length."""
    values = [value] * frames if isinstance(value, (int, float)) else list(value)
    if len(values) != frames:
        raise ValueError(f"{name} has {len(values)} values for {frames} frames: give 1 or {frames}")
    return values


def check_range(name: str, value: PerFrame, high: float) -> None:
    """ValueError unless all of `value` lies in [0, high]; NaN does not."""
    if not all(0 <= v <= high for v in ([value] if isinstance(value, (int, float)) else value)):
        raise ValueError(f"{name} must lie in 0..{high}, got {value}")
