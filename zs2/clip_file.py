"""What a clip is as a file, and the settings that zs2 stored in it. Nothing here needs torch."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from zs2.errors import InputError
from zs2.json_file import parse_json, require_file

OWN = "own"
"""What stands in the settings for what no command line could give: an object of one's own."""
EXIF_DESCRIPTION = 0x010E
_VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
# Only these kinds are opened, whatever a file is called: others of these libraries' kinds start
# programs or follow addresses that stand in the file.
VIDEO_KINDS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
PICTURE_KINDS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")


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

            with av.open(str(file.absolute()), options={"format_whitelist": VIDEO_KINDS}) as clip:
                text = clip.metadata.get("comment", "")
        else:
            from PIL import Image

            with Image.open(file, formats=PICTURE_KINDS) as image:
                text = image.info.get("zs2") or image.info.get("comment") or ""
                text = text or image.getexif().get(EXIF_DESCRIPTION, "")
    except Exception as error:  # on damaged files av and Pillow raise almost anything
        raise damaged(file, error) from error
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


def own_parts(settings: Mapping[str, object]) -> list[str]:
    """Which of a clip's settings no command line could give; its texts may say anything."""
    texts = ("prompt", "negative")
    return [key for key, value in settings.items() if value == OWN and key not in texts]


def beside(path: Path, kind: str) -> Path:
    """The name of a clip that is made of another: of its kind, and in the same folder."""
    if path.is_dir():
        return path.with_name(f"{path.name}-{kind}.png")
    return path.with_name(f"{path.stem}-{kind}{path.suffix}")


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


def damaged(file: Path, error: Exception) -> InputError:
    """The sentence for a file that a library could not read."""
    said = getattr(error, "strerror", None) or str(error)
    reason = said.partition("\n")[0] or type(error).__name__
    return InputError(f"{file} cannot be read as a clip or picture: {reason}")
