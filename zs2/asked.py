"""What a clip is asked for by, and how it is checked: see `zs2.pipeline.Pipeline.shot`."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from torch import Tensor

from zs2.attention import FrameAttention
from zs2.draws import RNG, NoiseModel
from zs2.samplers import Sampler
from zs2.shot import Shot
from zs2.timeline import PerFrame, plain, whole


class Asked(TypedDict, total=False):
    """The arguments of `Pipeline.shot` behind the prompt; they are told there."""

    negative: str | None
    frames: int
    size: int | tuple[int, int] | None
    steps: int | None
    cfg: PerFrame | None
    seed: int | Sequence[int] | None
    lam: PerFrame | None
    mu: PerFrame | None
    noise: NoiseModel | None
    latents: Tensor | None
    attention: FrameAttention | None
    sampler: Sampler
    spacing: str | None
    rng: RNG
    features: Sequence[Callable[[Any, Shot], Shot]]


def prompts_of(prompt: str | Sequence[str], negative: str | None) -> list[str]:
    """One prompt or several, as a list.

    Raises:
        ValueError: there is none, or something is no string.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
    if not prompts or not all(isinstance(text, str) for text in (*prompts, negative or "")):
        raise ValueError("give one prompt or a list of them, and one negative, as strings")
    return prompts


def either(short: str, value: Any, name: str, made: Any, kind: Callable[..., Any]) -> Any:
    """The object that was given, or one of its usual kind with the one value that was.

    Raises:
        ValueError: both were given, or the object is a plain value.
    """
    said = f"{name}={kind.__name__}({short})"
    if made is None:
        return kind() if value is None else kind(value)
    if value is not None:
        raise ValueError(f"{short} is short for {said}: give one of the two")
    if isinstance(made, str | int | float):
        raise ValueError(f"{name} is an object, as in {said}, not {made!r}")
    return made


def seeds(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """A seed for each of `count` prompts; None draws one for all.

    Raises:
        ValueError: there are more or fewer.
    """
    seed = secrets.randbelow(2**32) if seed is None else plain(seed)
    each = list(seed) if isinstance(seed, list | tuple | range) else [seed] * count
    if len(each) != count:
        raise ValueError(f"{len(each)} seeds for {count} prompts: give 1 or as many")
    return each


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a size in pixels.

    Raises:
        ValueError: it is neither one side nor two, or a side is not a whole number above 0.
    """
    both = size if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2:
        raise ValueError(f"size is one side or (width, height) in pixels, not {size}")
    width, height = (whole("a side in pixels", side, 1) for side in both)
    return width, height
