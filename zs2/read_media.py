"""Files become frames: videos, animations, pictures, folders of frames; and a clip's settings."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from zs2.errors import InputError
from zs2.json_file import parse_json, require_file

EXIF_DESCRIPTION = 0x010E
STILL_FPS = 8.0  # of what has no rate: pictures, and folders of them
# Only these kinds are opened, whatever a file is called: others of these libraries' kinds start
# programs or follow addresses that stand in the file.
_VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
_VIDEO_KINDS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_PICTURE_KINDS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
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


def read_settings(path: Path) -> dict[str, object]:
    """The settings that `zs2.media.save` stored in a clip: a file, or a folder of PNGs.

    Raises:
        InputError: the path cannot be read, or holds no settings.
    """
    file = clip_files(path)[0]
    library = require_library(file)
    try:
        if library == "av":
            import av

            with av.open(str(file.absolute()), options={"format_whitelist": _VIDEO_KINDS}) as clip:
                text = clip.metadata.get("comment", "")
        else:
            from PIL import Image

            with Image.open(file, formats=_PICTURE_KINDS) as image:
                text = image.info.get("zs2") or image.info.get("comment") or ""
                text = text or image.getexif().get(EXIF_DESCRIPTION, "")
    except Exception as error:  # on damaged files av and Pillow raise almost anything
        raise _damaged(file, error) from error
    try:
        values = parse_json(text)
    except (TypeError, ValueError):  # somebody else's comment
        values = None
    settings = values.get("zs2") if isinstance(values, dict) else None
    if not isinstance(settings, dict):
        raise InputError(
            f"{path} holds no settings: zs2 did not make it, or its metadata was stripped"
        )
    return settings


def clip_files(path: Path) -> list[Path]:
    """The files of a clip: itself, or its folder's frames, 2 before 10.

    Raises:
        InputError: there are none.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                kinds = "give a clip, a picture or a folder of frames"
                raise InputError(f"{path} does not exist: {kinds}")
            require_file(path)
            return [path]
        files = [file for file in path.iterdir() if file.suffix.lower() in _PICTURES]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise InputError(f"{path} holds no frames: give a folder of png, jpg or webp pictures")
    return sorted(files, key=_number)


def _number(file: Path) -> list[str | int]:
    """A sorting key: words, and between them numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]


def require_library(path: Path) -> str:
    """Name of the library that reads and writes a file.

    Raises:
        InputError: it is not installed.
    """
    library = "av" if path.suffix.lower() in _VIDEOS else "PIL"
    for name in (library, "numpy"):
        if find_spec(name) is None:
            raise InputError(f'{path} needs the library {name}: pip install "zs2[video]"')
    return library


def _decode(file: Path) -> Iterator[tuple[Tensor, float]]:
    """Frames [H, W, 3] of one file, and the seconds that each is shown, 0 where none are said."""
    decode = _decode_video if require_library(file) == "av" else _decode_picture
    try:
        yield from decode(file)
    except Exception as error:  # on damaged files av and Pillow raise almost anything
        raise _damaged(file, error) from error


def _decode_video(file: Path) -> Iterator[tuple[Tensor, float]]:
    import av

    # With a relative path, a colon in its name would be taken for an address.
    with av.open(str(file.absolute()), options={"format_whitelist": _VIDEO_KINDS}) as clip:
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

    with Image.open(file, formats=_PICTURE_KINDS) as image:
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


def _damaged(file: Path, error: Exception) -> InputError:
    said = getattr(error, "strerror", None) or str(error)
    reason = said.partition("\n")[0] or type(error).__name__
    return InputError(f"{file} cannot be read as a clip or picture: {reason}")
