"""Pictures and videos that a command line gives, brought to the clip's size, count and rate."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zs2 import media
from zs2.cli.terminal import say
from zs2.errors import InputError
from zs2.pipeline import Pipeline
from zs2.resize import covering


@dataclass(frozen=True)
class Source:
    """What a clip is made from.

    Attributes:
        frames: uint8 RGB [F, H, W, 3], as they were read.
        fps: of a video; None for a picture.
    """

    path: Path
    frames: Tensor
    fps: float | None


def source(args: argparse.Namespace) -> Source | None:
    """The frames of --init or --edit.

    Raises:
        InputError: both are given, or the path cannot be read.
    """
    if args.init is not None and args.edit is not None:
        raise InputError("--init and --edit both give the frames to start from: leave one out")
    path = args.init or args.edit
    return None if path is None else read(path)


def read(path: Path) -> Source:
    """A picture or video.

    Raises:
        InputError: the path cannot be read.
    """
    frames, fps = media.read_clip(path)
    return Source(path, frames, fps if len(frames) > 1 else None)


def frame_count(args: argparse.Namespace, given: Source | None) -> int:
    """--frames, else as many as the video has."""
    length = 1 if given is None else len(given.frames)
    if args.frames is not None:
        return args.frames
    return length if length > 1 else 8


def clip_size(args: argparse.Namespace, given: Source | None, pipe: Pipeline) -> tuple[int, int]:
    """(width, height) that the model can do: --size, else the source's shape, in its usual area."""
    usual, m = pipe.weights.defaults.size, pipe.multiple
    sides = args.size or (usual, usual)
    if args.size is None and given is not None:
        height, width = given.frames.shape[1:3]
        sides = round(usual * (width / height) ** 0.5), round(usual * (height / width) ** 0.5)
    width, height = (max(m, (side + m // 2) // m * m) for side in sides)
    if args.size is not None and (width, height) != sides:
        say(f"size {sides[0]}x{sides[1]} rounded to {width}x{height}, a multiple of {m}")
    if pipe.weights.defaults.words and (width, height) != (usual, usual):
        say(
            f"the small model was trained at {usual}x{usual}: at {width}x{height} it draws more or "
            "fewer things than it is told"
        )
    return width, height


def fitted(given: Source, count: int, size: tuple[int, int]) -> Tensor:
    """A source's frames as the clip needs them, uint8 [1 or F, H, W, 3]; what changes is said."""
    frames, (width, height) = given.frames, size
    if 1 < len(frames) != count:
        if len(frames) < count:
            last = frames[-1:].expand(count - len(frames), -1, -1, -1)
            say(f"{given.path} has {len(frames)} frames: its last one is held to {count}")
            frames = torch.cat([frames, last])
        else:
            say(f"{given.path} has {len(frames)} frames: its first {count} are taken")
            frames = frames[:count]
    if frames.shape[1:3] != (height, width):
        say(
            f"{given.path} is {frames.shape[2]}x{frames.shape[1]}: "
            f"scaled and cropped to {width}x{height}"
        )
        frames = covering(frames, width, height)
    return frames


def mask(given: Source, count: int, size: tuple[int, int]) -> Tensor:
    """A mask's frames as 0..1, [1 or F, H, W]: white may change."""
    return fitted(given, count, size).float().mean(-1) / 255
