"""Frames of videos, animations, pictures and folders of them."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from zs2.clip_file import PICTURE_KINDS, VIDEO_KINDS, clip_files, damaged, require_library
from zs2.errors import InputError

STILL_FPS = 8.0  # of what has no rate: pictures, and folders of them
_MOST_FRAMES = 10_000
_MOST_PIXELS = 2**30  # of all frames, 3 GiB: 4,096 of 512x512
_LARGEST = 2**26  # pixels of one frame, and
_LONGEST = 2**14  # of a side: files of a few bytes can claim to unpack to gigabytes


def read_frames(path: Path, most: int | None = None) -> Tensor:
    """The frames of `read_clip`."""
    return read_clip(path, most)[0]


def read_clip(path: Path, most: int | None = None) -> tuple[Tensor, float]:
    """Frames of a clip or picture, upright, and how many are shown in a second.

    Args:
        path: a video (mp4, m4v, mov, webm, mkv, avi), an animation or picture (gif, webp, png,
            jpg and others), or a folder of png, jpg or webp pictures, in the order of the numbers
            in their names.
        most: stop after so many frames.

    Returns:
        uint8 RGB [F, H, W, 3], and frames per second: 8.0 for pictures and folders of them.

    Raises:
        InputError: the path cannot be read, its frames differ in size, or they are too many.
    """
    frames: list[Tensor] = []
    pixels, seconds = 0, 0.0
    for frame, shown in islice(chain.from_iterable(map(_decode, clip_files(path))), most):
        pixels += frame.shape[0] * frame.shape[1]
        seconds += shown
        frames.append(frame)
        if pixels > _MOST_PIXELS or len(frames) > _MOST_FRAMES:
            raise InputError(
                f"{path} is too large: {_MOST_FRAMES:,} frames and {_MOST_PIXELS:,} pixels in all "
                "are the most: cut it, or make it smaller"
            )
    sizes = {(frame.shape[1], frame.shape[0]) for frame in frames}
    if len(sizes) != 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:5]) or "none"
        raise InputError(f"{path} must hold frames of one size, but has {found}")
    fps = len(frames) / seconds if seconds else 0.0
    return torch.stack(frames), fps if 0.1 <= fps <= 1000 else STILL_FPS


def _decode(file: Path) -> Iterator[tuple[Tensor, float]]:
    """Frames [H, W, 3] of one file, and the seconds that each is shown, 0 where none are said."""
    decode = _decode_video if require_library(file) == "av" else _decode_picture
    try:
        yield from decode(file)
    except Exception as error:  # on damaged files av and Pillow raise almost anything
        raise damaged(file, error) from error


def _decode_video(file: Path) -> Iterator[tuple[Tensor, float]]:
    import av

    # With a relative path, a colon in its name would be taken for an address.
    with av.open(str(file.absolute()), options={"format_whitelist": VIDEO_KINDS}) as clip:
        if not clip.streams.video:
            raise ValueError("it holds no pictures")
        rate = clip.streams.video[0].average_rate
        for frame in clip.decode(video=0):
            _check_size(frame.width, frame.height)
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            # Phones store videos lying down, with a note which side is up.
            upright = pixels.rot90(round(frame.rotation / 90)).contiguous()
            yield upright, float(1 / rate) if rate else 0.0


def _decode_picture(file: Path) -> Iterator[tuple[Tensor, float]]:
    from PIL import Image, ImageOps, ImageSequence

    with Image.open(file, formats=PICTURE_KINDS) as image:
        # Behind the photograph, phones store others: its depth, its brightness.
        alone = image.format in ("JPEG", "MPO")
        _check_size(*image.size)
        for frame in islice(ImageSequence.Iterator(image), 1 if alone else None):
            upright = ImageOps.exif_transpose(frame).convert("RGB")
            pixels = torch.frombuffer(bytearray(upright.tobytes()), dtype=torch.uint8)
            milliseconds = image.info.get("duration", 0)
            yield pixels.reshape(upright.height, upright.width, 3), milliseconds / 1000


def _check_size(width: int, height: int) -> None:
    if max(width, height) > _LONGEST or width * height > _LARGEST:
        raise ValueError(f"a frame of {width}x{height} is too large")
