"""Frames become files and come back: mp4, gif, webp, png.

The settings that made a clip travel inside the file, so that `read_settings` can show them years
later. What appears under a file's name is whole: of a clip that was interrupted, the frames that
were finished; of none, nothing.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import torch
from torch import Tensor

from zs2.clip_file import read_settings, require_library
from zs2.errors import InputError
from zs2.read_media import read_clip, read_frames
from zs2.write_media import WRITERS, Made, write_folders

__all__ = [
    "check_fps",
    "check_output",
    "contact_sheet",
    "read_clip",
    "read_frames",
    "read_settings",
    "record",
    "save",
    "save_somewhere",
]

_PART = ".zs2-part-"
_GIF_MAX_FPS = 50  # browsers slow anything faster down to 10


def check_output(path: Path, frames: int, overwrite: bool = False) -> Path:
    """Refuse, before any work is done, a path that `save` could not write to.

    Args:
        path: where the clip goes; its suffix is the format.
        frames: number of frames in the clip.
        overwrite: whether what is there may be replaced.

    Returns:
        The path that will be written: `path`, or the folder `clip/` for several frames and
        `clip.png`.

    Raises:
        InputError: unknown suffix, no such folder, no right to write, something there already, or
            a library that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise InputError(f"{path} has no known suffix: end it in one of {', '.join(WRITERS)}")
    require_library(path)
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: create the folder {path.parent} first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: you may not write to folder {path.parent}")

    several = suffix == ".png" and frames > 1
    target = path.with_suffix("") if several else path
    if not target.exists():
        return target
    if target.is_dir() != several:
        kind = "a file" if several else "a folder"
        raise InputError(f"{target} is {kind} already: choose another name")
    if not overwrite:
        raise InputError(_taken(target))
    if several and len(_numbered(target)) < sum(1 for _ in target.iterdir()):
        raise InputError(f"{target} holds more than frames: move the other files, or rename")
    return target


def check_fps(path: Path, fps: float) -> None:
    """Refuse what a format cannot play.

    Raises:
        InputError: fps is outside 0.1 .. 1000, or above 50 for a GIF.
    """
    highest = _GIF_MAX_FPS if path.suffix.lower() == ".gif" else 1000
    if not 0.1 <= fps <= highest:
        kind = path.suffix.lower().removeprefix(".")
        raise InputError(f"fps of {kind} must lie in 0.1..{highest}, got {fps:g}")


def save(
    path: Path, frames: Tensor, fps: float, settings: dict[str, object], overwrite: bool = False
) -> Path:
    """Write a clip that is at hand, uint8 RGB [F, H, W, 3]: `record` of one part."""
    if frames.dtype != torch.uint8 or frames.ndim != 4 or not len(frames) or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 [F, H, W, 3], got {frames.dtype} {[*frames.shape]}")
    return record(path, [frames], len(frames), fps, settings, overwrite)


def record(
    path: Path,
    parts: Iterable[Tensor],
    count: int,
    fps: float,
    settings: dict[str, object],
    overwrite: bool = False,
) -> Path:
    """Write a clip while it is made, its settings inside; the suffix says how.

    .mp4   H.264, 4:2:0. Odd sides grow by a repeated last row or column, as the format needs.
    .gif   one palette of 256 colours for the whole clip, that of its first part, dithered.
    .webp  lossless; its frames are held until the end.
    .png   lossless: one frame is a file, several are a folder `clip/0001.png`, ...

    gif and webp loop forever. What ends the parts early, Ctrl-C as well, is raised when the frames
    before it are written as a whole clip. Until the first part is there, nothing is.

    Args:
        path: where to write.
        parts: uint8 RGB [f, H, W, 3] each, at least one frame in all.
        count: F, the frames of all parts.
        fps: frames per second.
        settings: what JSON can hold; the same comes back from `read_settings`.
        overwrite: whether what is there may be replaced.

    Returns:
        What was written: `path`, or the folder of several PNGs.

    Raises:
        InputError: as `check_output` and `check_fps`.
        OSError: the disk is full, or failed.
    """
    check_fps(path, fps)
    target = check_output(path, count, overwrite)
    # ASCII, as EXIF and GIF comments promise no more; JSON escapes the rest.
    text = json.dumps({"zs2": settings})
    _clear_leftovers(path.parent)
    made = Made(parts)
    with TemporaryDirectory(dir=path.parent, prefix=_PART, ignore_cleanup_errors=True) as folder:
        if target == path:
            part = Path(folder, path.name)
            WRITERS[path.suffix.lower()](part, made, fps, text)
            _claim(part, target, overwrite)
        else:
            for number, frames in enumerate(write_folders(Path(folder), made, text)):
                if number == 0:
                    _claim(frames, target, overwrite)
                else:
                    for frame in frames.iterdir():
                        frame.rename(target / frame.name)
    if made.error is not None:
        raise made.error
    return target


def save_somewhere(write: Callable[[Path], Path], path: Path) -> tuple[Path, Exception | None]:
    """Write what took long to make: under another name, or in the current or the temporary folder,
    where `path` cannot be written.

    Args:
        write: makes the file of a path, as `save` does.

    Returns:
        What `write` returned, and why that is not `path`; None where it is.

    Raises:
        InputError, OSError: it could be written nowhere; the reason is the first one.
    """
    name = f"{path.stem[:40]}-{secrets.token_hex(3)}{path.suffix}"
    reason: Exception | None = None
    for place in (path, path.with_name(name), Path(name), None):
        try:
            return write(place or Path(gettempdir(), name)), reason
        except (InputError, OSError) as error:
            reason = reason or error
    assert reason is not None
    raise reason


def contact_sheet(frames: Tensor, columns: int = 4) -> Tensor:
    """Frames side by side, row after row; cells left over are white.

    Args:
        frames: uint8 RGB [F, H, W, 3].
        columns: frames in a row.

    Returns:
        uint8 RGB [rows*H, columns*W, 3].
    """
    count, height, width, _ = frames.shape
    rows = -(-count // columns)
    sheet = frames.new_full((rows * columns, height, width, 3), 255)
    sheet[:count] = frames
    sheet = sheet.unflatten(0, (rows, columns)).transpose(1, 2)  # (rows, H, columns, W, 3)
    return sheet.reshape(rows * height, columns * width, 3)


def _taken(target: Path) -> str:
    return f"{target} exists already: choose another name, or add --overwrite"


def _numbered(folder: Path) -> list[Path]:
    """The frames 0001.png, 0002.png, ... of a folder, as `save` writes them."""
    return [file for file in folder.iterdir() if re.fullmatch(r"\d{4,}\.png", file.name)]


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed program left half-written: nobody writes a clip for a day."""
    for left in folder.glob(f"{_PART}*"):
        with suppress(OSError):
            old = time.time() - left.stat().st_mtime > 86400
            if old and re.fullmatch(r"[a-z0-9_]{8}", left.name.removeprefix(_PART)):
                shutil.rmtree(left, ignore_errors=True)


def _claim(part: Path, target: Path, overwrite: bool) -> None:
    """As `_put`; InputError where another program took the name meanwhile."""
    try:
        _put(part, target, overwrite)
    except OSError as error:
        if overwrite or not target.exists():
            raise
        raise InputError(_taken(target)) from error


def _put(part: Path, target: Path, overwrite: bool) -> None:
    """Give what is whole its name. Another program may have taken it since it was looked at.

    Raises:
        FileExistsError: something is there that may not be replaced.
    """
    if part.is_dir():
        if overwrite and target.is_dir():
            _exchange(part, target)
        else:
            part.rename(target)  # fails where a folder holds files
    elif overwrite:
        part.replace(target)
    else:
        try:
            target.hardlink_to(part)  # fails where anything is, and rename does not
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if target.exists():
                raise FileExistsError from None
            part.replace(target)


def _exchange(part: Path, target: Path) -> None:
    """Put a new folder in the place of an old one, which no system does in one step.

    A program killed in between leaves the old one beside it, under a name that says so.
    """
    old = target.with_name(f"{target.name}-before-{secrets.token_hex(3)}")
    try:
        target.rename(old)
        part.rename(target)
    except BaseException:  # of Ctrl-C too
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    old.rename(part.with_name("replaced"))  # goes with the temporary folder
