"""How much memory a clip takes: told before it is made, and kept within --max-memory."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from zs2.checkpoint.tiles import Tiles
from zs2.cli.terminal import say
from zs2.denoise import Whole
from zs2.device import free_memory, in_words
from zs2.errors import InputError
from zs2.estimate import clip_memory, model_memory
from zs2.models.tiled_vae import TiledVAE
from zs2.pipeline import Pipeline
from zs2.stream import Stream
from zs2.timeline import per_frame

LESS_MEMORY = "try a smaller --size, fewer frames at a time (--chunk 2), or --split-guidance"
TILES = (512, 256, 128)


@dataclass(frozen=True)
class Room:
    """A clip that is to be made, and what decides how much memory it takes."""

    pipe: Pipeline
    args: argparse.Namespace
    frames: int
    size: tuple[int, int]
    controls: int
    order: Whole | Stream

    @property
    def needed(self) -> int:
        """About how many bytes it takes beside the model."""
        weights, args = self.pipe.weights, self.args
        cfg = weights.defaults.cfg if args.cfg is None else args.cfg
        asked = self.frames // (args.fps_mult or 1)  # those between have their neighbours'
        guided = any(x != 1 for x in per_frame("cfg", cfg, asked))
        return clip_memory(
            weights,
            self.pipe.dtype,
            self.pipe.device,
            self.frames,
            self.pipe.latent_shape(self.size),
            self.order,
            branches=3 if args.edit else 1 + guided,
            controls=self.controls,
            steps=args.steps or weights.defaults.steps,
            deepcache=bool(args.deepcache),
        )

    def ways(self) -> Iterator["Room"]:
        """The ways to make it, from the fastest to the least memory; what was asked for stays."""
        asked, tiled = self.args, isinstance(self.pipe.weights.vae, TiledVAE)
        sides = (None,) if tiled else (None, *TILES)
        together = (True,) if asked.split_guidance else (True, False)
        chunks = [self.frames]
        while chunks[-1] > 1 and asked.chunk is None:
            chunks.append(-(-chunks[-1] // 2))
        for side in sides:
            pipe = self.pipe
            if side is not None:
                pipe = Pipeline(Tiles(side)(pipe.weights), pipe.device, pipe.dtype)
            for both in together:
                for chunk in chunks:
                    order = replace(self.order, together=both and self.order.together)
                    if asked.chunk is None and (chunk < self.frames or isinstance(order, Stream)):
                        order = replace(order, chunk=chunk)
                    yield replace(self, pipe=pipe, order=order)

    def fitted(self, most: int | str) -> "Room":
        """The fastest way that fits, which is said.

        Args:
            most: bytes for the model and the clip, or "auto": what is free now.

        Raises:
            InputError: none fits.
        """
        free = free_memory(self.pipe.device) if most == "auto" else None
        if most == "auto" and free is None:
            raise InputError("--max-memory auto: nobody counts the memory here; give it as 6GB")
        room = free if free is not None else int(most) - model_memory(self.pipe.weights)
        least: Room | None = None
        for way in self.ways():
            if way.needed <= room:
                say(f"--max-memory: {way.words()}, about {in_words(way.needed)}")
                return way
            if least is None or way.needed < least.needed:
                least = way
        assert least is not None
        raise InputError(
            f"one frame at a time takes {in_words(least.needed)} beside the model, and "
            f"--max-memory leaves {in_words(max(0, room))}: give more, or a smaller --size"
        )

    def words(self) -> str:
        """How it is made, by the options that do the same."""
        said = [f"--chunk {self.order.chunk}"] if self.order.chunk else ["all frames at once"]
        said += [] if self.order.together else ["--split-guidance"]
        tile = self.pipe.weights.settings.get("tile")
        return ", ".join(said + ([f"--tile {tile}"] if tile else []))

    def announce(self) -> None:
        """Say how much memory it takes, always if that is more than there is.

        Raises:
            InputError: it is so much more that the system would end the program.
        """
        free, needed = free_memory(self.pipe.device), self.needed
        sentence = f"a clip takes about {in_words(needed)} beside the model"
        if free is not None and needed > free:
            sentence = f"{sentence}, {in_words(free)} are free: {LESS_MEMORY}"
            if needed > 4 * free:  # the estimate is not that far off
                raise InputError(sentence)
            say(sentence)
        elif sys.stderr.isatty():
            say(sentence)
