"""Frames become files and come back: mp4, gif, webp, png.

The settings that made a clip travel inside the file, so that `read_settings` can show them years
later. A file appears under its name only when it is whole: what is interrupted leaves nothing.
"""

import json
import os
import re
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from zs2.errors import InputError

_SUFFIXES = (".mp4", ".gif", ".webp", ".png")
_DAMAGED = (EOFError, LookupError, OSError, SyntaxError, ValueError)  # from av and Pillow
_EXIF_DESCRIPTION = 0x010E
_BT709 = 1  # its number in ITU-T H.273
_GIF_MAX_FPS = 50  # browsers slow anything faster down to 10
_PALETTE_SAMPLES = 2**16


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
    if suffix not in _SUFFIXES:
        raise InputError(f"{path} has no known suffix: end it in one of {', '.join(_SUFFIXES)}")
    _require(path)
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
        raise InputError(f"{target} exists already: choose another name, or add --overwrite")
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
    """Write a clip with its settings inside; the suffix says how.

    .mp4   H.264, 4:2:0. Odd sides grow by a repeated last row or column, as the format needs.
    .gif   one palette of 256 colours for the whole clip, dithered.
    .webp  lossless.
    .png   lossless: one frame is a file, several are a folder `clip/0001.png`, ...

    gif and webp loop forever.

    Args:
        path: where to write.
        frames: uint8 RGB [F, H, W, 3].
        fps: frames per second.
        settings: what JSON can hold; the same comes back from `read_settings`.
        overwrite: whether what is there may be replaced.

    Returns:
        What was written: `path`, or the folder of several PNGs.

    Raises:
        InputError: as `check_output` and `check_fps`.
        OSError: the disk is full, or failed.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or not len(frames) or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 [F, H, W, 3], got {frames.dtype} {[*frames.shape]}")
    check_fps(path, fps)
    target = check_output(path, len(frames), overwrite)
    # ASCII, as EXIF and GIF comments promise no more; JSON escapes the rest.
    text = json.dumps({"zs2": settings})
    frames = frames.cpu()
    with TemporaryDirectory(dir=path.parent, prefix=".zs2-") as folder:
        part = Path(folder, path.name)
        match path.suffix.lower():
            case ".mp4":
                _write_mp4(part, frames, fps, text)
            case ".gif":
                _write_gif(part, frames, fps, text)
            case ".webp":
                _write_webp(part, frames, fps, text)
            case _ if target == path:
                _write_png(part, frames[0], text)
            case _:
                part = Path(folder, "frames")
                part.mkdir()
                for i, frame in enumerate(frames, start=1):
                    _write_png(part / f"{i:04d}.png", frame, text)
        if target.is_dir():  # no system replaces a folder that holds files
            target.rename(Path(folder, "replaced"))
        part.replace(target)
    return target


def read_settings(path: Path) -> dict[str, object]:
    """The settings that `save` stored in a clip: a file, or a folder of PNGs.

    Raises:
        InputError: the path cannot be read, or holds no settings.
    """
    file = _files(path)[0]
    library = _require(file)
    try:
        if library == "av":
            import av

            with av.open(str(file)) as clip:
                text = clip.metadata.get("comment", "")
        else:
            from PIL import Image

            with Image.open(file) as image:
                text = image.info.get("zs2") or image.info.get("comment") or ""
                text = text or image.getexif().get(_EXIF_DESCRIPTION, "")
    except _DAMAGED as error:
        raise InputError(f"{file} cannot be read as a clip or picture: {error}") from error
    try:
        settings = json.loads(text)["zs2"]
    except (ValueError, LookupError, TypeError):
        settings = None
    if not isinstance(settings, dict):
        raise InputError(
            f"{path} holds no settings: zs2 did not make it, or its metadata was stripped"
        )
    return settings


def read_frames(path: Path) -> Tensor:
    """Frames of a clip or picture: mp4, whatever Pillow opens, or a folder of PNGs.

    Returns:
        uint8 RGB [F, H, W, 3].

    Raises:
        InputError: the path cannot be read, or its frames differ in size.
    """
    frames = [frame for file in _files(path) for frame in _decode(file)]
    sizes = {(frame.shape[1], frame.shape[0]) for frame in frames}
    if len(sizes) != 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)) or "none"
        raise InputError(f"{path} must hold frames of one size, but has {found}")
    return torch.stack(frames)


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


def _require(path: Path) -> str:
    """Name of the library that reads and writes a file, if it is installed."""
    library = "av" if path.suffix.lower() == ".mp4" else "PIL"
    for name in (library, "numpy"):
        if find_spec(name) is None:
            raise InputError(f'{path} needs the library {name}: pip install "zs2[video]"')
    return library


def _numbered(folder: Path) -> list[Path]:
    """The frames 0001.png, 0002.png, ... of a folder, in order."""
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4,}\.png", file.name)]
    return sorted(files, key=lambda file: int(file.stem))


def _files(path: Path) -> list[Path]:
    """The files of a clip: itself, or its folder's frames."""
    if not path.exists():
        raise InputError(f"{path} does not exist: give a clip, a picture or a folder of frames")
    files = _numbered(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no frames named 0001.png, 0002.png, ...")
    return files


def _decode(file: Path) -> list[Tensor]:
    """Frames [H, W, 3] of one file."""
    library = _require(file)
    try:
        if library == "av":
            import av

            with av.open(str(file)) as clip:
                return [
                    torch.from_numpy(frame.to_ndarray(format="rgb24"))
                    for frame in clip.decode(video=0)
                ]
        from PIL import Image, ImageOps, ImageSequence

        with Image.open(file) as image:
            # Phones store photographs lying down, with a note which side is up.
            upright = (ImageOps.exif_transpose(frame) for frame in ImageSequence.Iterator(image))
            return [
                torch.frombuffer(
                    bytearray(frame.convert("RGB").tobytes()), dtype=torch.uint8
                ).reshape(frame.height, frame.width, 3)
                for frame in upright
            ]
    except _DAMAGED as error:
        raise InputError(f"{file} cannot be read as a clip or picture: {error}") from error


def _durations(frames: int, fps: float, ticks: int) -> list[int]:
    """How long each frame shows, in `ticks` a second: rounded so that the sum stays right."""
    ends = [round(i * ticks / fps) for i in range(frames + 1)]
    return [end - start for start, end in pairwise(ends)]


def _write_mp4(path: Path, frames: Tensor, fps: float, text: str) -> None:
    import av

    height, width = frames.shape[1:3]
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as clip:
        clip.metadata["comment"] = text
        stream = clip.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "16"}
        )
        stream.width, stream.height, stream.pix_fmt = len(columns), len(rows), "yuv420p"
        # Players guess the colours of an untagged file, and differ.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame[rows][:, columns].numpy(), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
            clip.mux(stream.encode(picture))
        clip.mux(stream.encode())


def _write_gif(path: Path, frames: Tensor, fps: float, text: str) -> None:
    from PIL import GifImagePlugin, Image

    # One palette for all frames: palettes of their own would make still areas flicker.
    pixels = frames.reshape(-1, 3)
    pixels = pixels[:: len(pixels) // _PALETTE_SAMPLES | 1]  # an odd step meets every column
    palette = Image.fromarray(pixels[None].numpy()).quantize(kmeans=2)
    images = [Image.fromarray(frame.numpy()).quantize(palette=palette) for frame in frames]
    durations = _durations(len(frames), fps, 100)
    header, _ = GifImagePlugin.getheader(images[0], info={"loop": 0, "comment": text})
    # Block by block, as Image.save would merge equal frames.
    with path.open("wb") as file:
        file.writelines(header)
        for image, duration in zip(images, durations, strict=True):
            file.writelines(GifImagePlugin.getdata(image, duration=10 * duration))
        file.write(b";")


def _write_webp(path: Path, frames: Tensor, fps: float, text: str) -> None:
    from PIL import Image

    images = [Image.fromarray(frame.numpy()) for frame in frames]
    corner = (frames.shape[2] - 1, frames.shape[1] - 1)
    alpha = 255
    for i in range(1, len(frames)):
        # libwebp merges equal frames; one pixel's alpha, unseen, keeps each frame in the file.
        alpha = 509 - alpha if torch.equal(frames[i], frames[i - 1]) else 255
        if alpha < 255:
            images[i].putalpha(255)
            images[i].putpixel(corner, (*images[i].getpixel(corner)[:3], alpha))
    exif = Image.Exif()
    exif[_EXIF_DESCRIPTION] = text
    images[0].save(
        path,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=_durations(len(frames), fps, 1000),
        loop=0,
        lossless=True,
        exif=exif,
    )


def _write_png(path: Path, frame: Tensor, text: str) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("zs2", text)
    Image.fromarray(frame.numpy()).save(path, format="PNG", pnginfo=chunks)
