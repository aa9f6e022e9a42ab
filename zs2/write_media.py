"""How each format is written, frame by frame: see `zs2.media.record`."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zs2.clip_file import EXIF_DESCRIPTION

_BT709 = 1  # its number in ITU-T H.273
_PALETTE_SAMPLES = 2**16


class Made:
    """The parts of a clip as they are made; what ends them early waits until they are written.

    Attributes:
        error: what ended them; an error before the first frame is raised at once.
    """

    def __init__(self, parts: Iterable[Tensor]) -> None:
        self.parts = parts
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """uint8 [f, H, W, 3] each, on the CPU."""
        some = False
        try:
            for part in self.parts:
                some = True
                with _uninterrupted():
                    yield part.cpu()
        except (Exception, KeyboardInterrupt) as error:
            if not some:
                raise
            self.error = error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is made has been written."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of it
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def write_mp4(path: Path, parts: Iterable[Tensor], fps: float, text: str) -> None:
    import av

    stream: Any = None
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as clip:
        clip.metadata["comment"] = text
        for part in parts:
            height, width = part.shape[1:3]
            rows = torch.arange(height + height % 2).clamp(max=height - 1)
            columns = torch.arange(width + width % 2).clamp(max=width - 1)
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = clip.add_stream("libx264", rate=rate, options={"crf": "16"})
                stream.width, stream.height, stream.pix_fmt = len(columns), len(rows), "yuv420p"
                # Players guess the colours of an untagged file, and differ.
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = _BT709
            for frame in part:
                pixels = frame[rows][:, columns].numpy()
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                clip.mux(stream.encode(picture))
        clip.mux(stream.encode())


def write_gif(path: Path, parts: Iterable[Tensor], fps: float, text: str) -> None:
    from PIL import GifImagePlugin, Image

    palette: Any = None
    done = 0
    with path.open("wb") as file:
        for part in parts:
            if palette is None:
                # One for all frames: palettes of their own would make still areas flicker.
                pixels = part.reshape(-1, 3)
                pixels = pixels[:: len(pixels) // _PALETTE_SAMPLES | 1]  # odd: meets every column
                palette = Image.fromarray(pixels[None].numpy()).quantize(kmeans=2)
            for frame in part:
                image = Image.fromarray(frame.numpy()).quantize(palette=palette)
                if not done:
                    info = {"loop": 0, "comment": text}
                    file.writelines(GifImagePlugin.getheader(image, info=info)[0])
                # Block by block, as Image.save would merge equal frames.
                shown = _shown(done, fps, 100)
                file.writelines(GifImagePlugin.getdata(image, duration=10 * shown))
                done += 1
        file.write(b";")


def write_webp(path: Path, parts: Iterable[Tensor], fps: float, text: str) -> None:
    from PIL import Image

    frames = torch.cat([*parts])
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
    exif[EXIF_DESCRIPTION] = text
    images[0].save(
        path,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=[_shown(i, fps, 1000) for i in range(len(frames))],
        loop=0,
        lossless=True,
        exif=exif,
    )


def write_png(path: Path, parts: Iterable[Tensor], _: float, text: str) -> None:
    for part in parts:
        _write_frame(path, part[0], text)


def write_folders(folder: Path, parts: Iterable[Tensor], text: str) -> Iterator[Path]:
    """A folder of PNGs for each part, numbered on; yields each when it is whole."""
    done = 0
    for number, part in enumerate(parts):
        frames = folder / f"part-{number}"
        frames.mkdir()
        for frame in part:
            done += 1
            _write_frame(frames / f"{done:04d}.png", frame, text)
        yield frames


def _write_frame(path: Path, frame: Tensor, text: str) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("zs2", text)
    Image.fromarray(frame.numpy()).save(path, format="PNG", pnginfo=chunks)


def _shown(frame: int, fps: float, ticks: int) -> int:
    """How long a frame shows, in `ticks` a second: rounded so that their sum stays right."""
    return round((frame + 1) * ticks / fps) - round(frame * ticks / fps)


Writer = Callable[[Path, Iterable[Tensor], float, str], None]
WRITERS: dict[str, Writer] = {
    ".mp4": write_mp4,
    ".gif": write_gif,
    ".webp": write_webp,
    ".png": write_png,
}
"""By suffix: each takes a path, parts uint8 [f, H, W, 3], frames per second and the settings."""
