"""Makes the clips that a command line asks for, one after the other, and says what was made."""

import argparse
import re
import secrets
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from zs2 import media
from zs2.cli import request
from zs2.cli.terminal import answer, progress_bar, say
from zs2.denoise import Whole
from zs2.device import compile_failed, free_memory, out_of_memory, peak_memory, pick_device
from zs2.errors import InputError, NumericalError
from zs2.estimate import clip_memory
from zs2.pipeline import Pipeline, load
from zs2.shot import Clip

LESS_MEMORY = "try a smaller --size, fewer frames at a time (--chunk 2), or --split-guidance"


def make(args: argparse.Namespace) -> int:
    """Make every clip that was asked for; the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: say(message)
        try:
            run(args)
        except (InputError, NumericalError) as error:
            say(error)
            return 2
        except OSError as error:
            say(f"the clip was not written: {error}")
            return 1
        except RuntimeError as error:
            if out_of_memory(error):
                say(f"out of memory: {LESS_MEMORY}")
            elif compile_failed(error):
                reason = str(error).partition("\n")[0]
                say(f"torch.compile cannot work here: leave --compile out ({reason})")
            else:
                raise
            return 1
    return 0


def run(args: argparse.Namespace) -> None:
    request.check(args)
    noise, attention, order = request.noise(args), request.attention(args), request.order(args)
    prompts = request.prompts(args)
    seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    paths = outputs(args, prompts, seed)
    if args.graph and (device := pick_device(args.device)).type != "cuda":
        raise InputError(f"--graph needs a CUDA device, and this is {device}: leave it out")
    given = {} if args.model is None else {"model": args.model}
    pipe = load(
        **given,
        device=args.device,
        dtype=args.dtype or "auto",
        prediction=args.prediction,
        tokenizer=args.tokenizer,
        compile=args.compile,
    )
    size = fit_size(args.size, pipe)
    total = pipe.weights.schedule.num_train_timesteps
    if (args.steps or pipe.weights.defaults.steps) > total:
        raise InputError(f"--steps must be at most {total} for this model, got {args.steps}")
    announce(pipe, args.frames, size, order)
    for prompt, path in zip(prompts, paths, strict=True):
        began = time.monotonic()
        clip = pipe(
            prompt,
            negative=args.negative or "",
            frames=args.frames,
            size=size,
            steps=args.steps,
            cfg=args.cfg,
            seed=seed,
            noise=noise,
            attention=attention,
            order=order,
            progress=progress_bar,
        )
        assert isinstance(clip, Clip)
        seconds = time.monotonic() - began
        try:
            written = clip.save(path, args.fps, args.overwrite)
        except InputError as error:  # it was free when sampling began: never lose what was sampled
            spare = path.with_stem(f"{path.stem}-{secrets.token_hex(3)}")
            written = clip.save(spare, args.fps)
            say(f"{error}; written to {written} instead")
        answer(summary(clip, pipe, seconds, written))


def outputs(args: argparse.Namespace, prompts: Sequence[str], seed: int) -> list[Path]:
    """Where each clip goes; every one is checked now, before any sampling.

    Raises:
        InputError: a path cannot be written to.
    """
    if args.output is not None and len(prompts) > 1:
        name: Path = args.output
        if not name.name:
            raise InputError(f"--output {name} names no file: end it in .mp4, .gif, .webp or .png")
        paths = [name.with_stem(f"{name.stem}-{i:04d}") for i in range(1, len(prompts) + 1)]
    elif args.output is not None:
        paths = [args.output]
    else:
        suffix = ".png" if args.frames == 1 else ".mp4"
        paths = []
        for i, prompt in enumerate(prompts, start=1):
            words = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60]
            # A file's name holds 255 bytes.
            words = words.encode()[:200].decode(errors="ignore").rstrip("-") or "clip"
            number = f"{i:04d}-" if len(prompts) > 1 else ""  # prompts may repeat
            paths.append(Path(f"{number}{words}-{seed}{suffix}"))
    for path in paths:
        media.check_output(path, args.frames, args.overwrite)
        media.check_fps(path, args.fps)
    return paths


def fit_size(sides: tuple[int, int] | None, pipe: Pipeline) -> tuple[int, int]:
    """Round a size to what the model can do, and say so; the model's own where none is given."""
    usual = pipe.weights.defaults.size
    if sides is None:
        return usual, usual
    m = pipe.multiple
    width, height = (max(m, (side + m // 2) // m * m) for side in sides)
    if (width, height) != sides:
        say(f"size {sides[0]}x{sides[1]} rounded to {width}x{height}, a multiple of {m}")
    return width, height


def announce(pipe: Pipeline, frames: int, size: tuple[int, int], order: Whole) -> None:
    """Say how much memory a clip will take, always if that is more than there is."""
    latent = pipe.latent_shape(size)
    needed = clip_memory(pipe.weights, pipe.dtype, pipe.device, frames, latent, order)
    free = free_memory(pipe.device)
    sentence = f"a clip takes about {needed / 2**30:.2g} GiB beside the model"
    if free is not None and needed > free:
        say(f"{sentence}, {free / 2**30:.2g} GiB are free: {LESS_MEMORY}")
    elif sys.stderr.isatty():
        say(sentence)


def summary(clip: Clip, pipe: Pipeline, seconds: float, path: Path) -> str:
    """One line that says what was made."""
    parts = [f"seed {clip.settings['seed']}"]
    if len(clip.frames) > 1:
        layers = len(pipe.weights.unet.transformers) if clip.shared else 0
        parts += [
            f"momentum active in {layers} layers" if layers else "no shared attention",
            f"noise correlation 1-{len(clip.frames)} {clip.correlation:.3f}",
            f"motion {clip.motion:.1f}",
            f"flicker score {clip.flicker:.3f} (1 is none)",
        ]
    parts.append(f"{seconds:.1f} s")
    if peak := peak_memory(pipe.device):
        parts.append(f"peak {peak / 2**30:.2f} GiB")
    parts.append(str(path))
    return ", ".join(parts)
