"""How a clip is made and written, and what is seen of it meanwhile."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from zs2 import media
from zs2.cli import ranks
from zs2.cli.state import belongs
from zs2.cli.terminal import progress_bar, say
from zs2.denoise import Order
from zs2.device import peak_memory
from zs2.metrics.differences import motion
from zs2.pipeline import Pipeline
from zs2.shot import Shot
from zs2.stream import Stream
from zs2.wavefront import Wavefront


@dataclass(frozen=True)
class Output:
    """Runs shots of one clip and writes them.

    Attributes:
        settings: what the command line alone knows of them.
        preview: where the clip so far is shown, decoded by `shown_by`; None shows nothing.
    """

    pipe: Pipeline
    order: Order
    fps: float
    settings: dict[str, object]
    preview: Path | None = None
    shown_by: Pipeline | None = None

    def make(self, shot: Shot, path: Path, overwrite: bool) -> tuple[str, Tensor] | None:
        """Make and write a clip: a line that says what was made, and its first frame.

        None where another process writes what this one helps to make.

        Raises:
            InputError, OSError: it cannot be written, wherever that was tried.
            ValueError, NumericalError: as `Pipeline.run`.
        """
        began = time.monotonic()
        told = {**shot.settings[0], **self.order.settings, **self.settings, "fps": self.fps}
        order = self.order
        if isinstance(order, Stream):
            order = replace(order, memory=replace(order.memory, told=belongs(told)))
            if order.memory.folder is not None:
                told["state"] = str(order.memory.folder)
        latents = self.pipe.run(shot, order, self.progress)
        if isinstance(order, Wavefront) and ranks.rank() > 0:
            for _ in latents:
                pass
            return None
        frames = Watched(self.pipe.decode(x[0]) for x in latents)

        def write(path: Path, parts: Iterable[Tensor]) -> Path:
            return media.record(path, parts, shot.frames, self.fps, told, overwrite)

        if isinstance(order, Stream | Wavefront):
            written = write(path, frames)
        else:  # elsewhere if it cannot be written where it should: it took long to make
            parts = [*frames]
            written, reason = media.save_somewhere(lambda place: write(place, parts), path)
            if reason:
                say(f"{reason}; written to {written} instead")
        words = [f"seed {told['seed']}", *self.seen(shot, frames)]
        words.append(f"{time.monotonic() - began:.1f} s")
        if peak := peak_memory(self.pipe.device):
            words.append(f"peak {peak / 2**30:.2f} GiB")
        return ", ".join((*words, str(written))), frames.first

    def seen(self, shot: Shot, frames: "Watched") -> list[str]:
        """What there is to say of a clip of several frames."""
        if shot.frames == 1:
            return []
        layers = len(self.pipe.weights.unet.transformers) if shot.shared else 0
        return [
            f"momentum active in {layers} layers" if layers else "no shared attention",
            f"noise correlation 1-{shot.frames} {shot.correlation()[0]:.3f}",
            f"motion {frames.motion:.1f}",
            f"flicker score {1 - frames.motion / 255:.3f} (1 is none)",
        ]

    def progress(self, step: int, steps: int, clean: Tensor) -> None:
        """The bar, and a picture of the clip so far every 5 steps."""
        progress_bar(step, steps)
        if self.preview is not None and (step % 5 == 0 or step == steps):
            some = clean[0, :: -(-clean.shape[1] // 8)]  # up to 8 frames
            frames = (self.shown_by or self.pipe).decode(some)
            sheet = media.contact_sheet(frames, min(4, len(frames)))
            media.save(self.preview, sheet[None], 1, {"step": step}, overwrite=True)


class Watched:
    """Parts of a clip, uint8 [f, H, W, 3], that pass by.

    Attributes:
        first, last: frames so far, [H, W, 3].
    """

    first: Tensor
    last: Tensor

    def __init__(self, parts: Iterable[Tensor]) -> None:
        self.parts = parts
        self.frames, self.moved = 0, 0.0

    def __iter__(self) -> Iterator[Tensor]:
        for part in self.parts:
            if not self.frames:
                self.first = part[0].clone()
            seen = torch.cat([self.last[None], part]) if self.frames else part
            self.moved += motion(seen) * (len(seen) - 1)
            self.frames += len(part)
            self.last = part[-1].clone()
            yield part

    @property
    def motion(self) -> float:
        """Mean absolute difference of adjacent frames, 0..255."""
        return self.moved / max(1, self.frames - 1)
