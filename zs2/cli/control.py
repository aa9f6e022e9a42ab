"""What --control and the options beside it ask for, from the words of a command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from zs2.canny import canny, check_thresholds
from zs2.checkpoint.control import load_control, read_control
from zs2.cli import inputs
from zs2.cli.option import values
from zs2.cli.request import refused
from zs2.errors import InputError
from zs2.models.controlnet import ControlNet
from zs2.models.t2i_adapter import T2IAdapter
from zs2.pipeline import Pipeline
from zs2.shots.control import Control, check_values
from zs2.timeline import PerFrame, per_frame

T = TypeVar("T")
PLAIN = "no"  # of --canny, for one control of several: its frames are a map already


@dataclass(frozen=True)
class Asked:
    """One --control: its net's path, its frames as they were read, and the values beside it.

    Attributes:
        edges: thresholds of Canny's edges, where they are to be found in the frames first.
    """

    net: str
    source: inputs.Source
    weight: PerFrame
    span: tuple[float, float]
    edges: tuple[float, float] | None


def asked(args: argparse.Namespace) -> list[Asked]:
    """The controls; all that can be refused without the model is.

    Raises:
        InputError: a file, a count or a value cannot be used.
    """
    pairs = args.control or []
    count = len(pairs)
    weights = each("weights", args.control_weight, count, "1")
    spans = each("spans", args.control_span, count, [0.0, 1.0])
    edges = each("pairs of thresholds", args.canny, count, PLAIN)
    made = []
    for (net, frames), weight, span, pair in zip(pairs, weights, spans, edges, strict=True):
        read_control(net)
        one = Asked(net, inputs.read(Path(frames)), number(weight), (*span,), thresholds(pair))
        refused(lambda one=one: check_values(one.weight, one.span))  # type: ignore[misc]
        made.append(one)
    return made


def check(controls: Sequence[Asked], frames: int) -> None:
    """InputError unless a weight for each frame is one for each of F."""
    for one in controls:
        refused(lambda one=one: per_frame("the weight of a control", one.weight, frames))  # type: ignore[misc]


def each(what: str, given: Sequence[T] | None, count: int, usual: T) -> list[T]:
    """A value for each of `count` controls: what was given once for all, or once for each.

    Raises:
        InputError: it was given another number of times.
    """
    option = {"weights": "--control-weight", "spans": "--control-span"}.get(what, "--canny")
    if given and not count:
        raise InputError(f"{option} has no use without --control")
    if not given or len(given) == 1:
        return [*(given or [usual])] * count
    if len(given) != count:
        raise InputError(
            f"{len(given)} {what} for {count} control{'s' * (count > 1)}: give {option} once for "
            "all, or once for each"
        )
    return [*given]


def number(text: str) -> PerFrame:
    try:
        return values(text)
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--control-weight: {error}") from None


def thresholds(text: str) -> tuple[float, float] | None:
    if text == PLAIN:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--canny takes two numbers as 100,200, not {text!r:.50}") from None
    refused(lambda: check_thresholds(low, high))
    return low, high


def leading(controls: Sequence[Asked]) -> inputs.Source | None:
    """The source that a clip takes its count, rate and shape from: the first video, or picture."""
    sources = [one.source for one in controls]
    return next((s for s in sources if s.fps is not None), next(iter(sources), None))


def load(controls: Sequence[Asked], pipe: Pipeline) -> dict[str, ControlNet | T2IAdapter]:
    """The nets by path, each loaded once.

    Raises:
        InputError: one does not fit the model, or is not complete.
    """
    return {net: load_control(net, pipe.weights) for net in {one.net: None for one in controls}}


def features(
    controls: Sequence[Asked],
    nets: dict[str, ControlNet | T2IAdapter],
    frames: int,
    size: tuple[int, int],
) -> list[Control]:
    """The controls with their frames as the clip needs them."""
    made = []
    for one in controls:
        pictures = inputs.fitted(one.source, frames, size)
        if one.edges is not None:
            pictures = canny(pictures, *one.edges)
        made.append(Control(nets[one.net], pictures, one.weight, one.span))
    return made
