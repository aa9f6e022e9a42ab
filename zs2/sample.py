"""The command line: python -m zs2.sample "PROMPT" [options]."""

import argparse
import re
import secrets
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from zs2 import media
from zs2.device import compile_failed, free_memory, out_of_memory, peak_memory, pick_device
from zs2.errors import InputError, NumericalError
from zs2.cli.options import build_parser, check, read_prompts, told
from zs2.pipeline import Clip, Pipeline, load
from zs2.cli.terminal import answer, print_anything, progress_bar, say

LESS_MEMORY = "try a smaller --size, fewer frames at a time (--chunk 2), or --split-guidance"


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


def fit_size(sides: tuple[int, int] | None, pipe: Pipeline) -> tuple[int, int] | None:
    """Round a size to what the model can do, and say so."""
    if sides is None:
        return None
    m = pipe.multiple
    width, height = (max(m, (side + m // 2) // m * m) for side in sides)
    if (width, height) != sides:
        say(f"size {sides[0]}x{sides[1]} rounded to {width}x{height}, a multiple of {m}")
    return width, height


def announce(args: argparse.Namespace, sides: tuple[int, int] | None, pipe: Pipeline) -> None:
    """Say how much memory a clip will take, always if that is more than there is."""
    needed = pipe.memory(args.frames, sides, args.chunk, args.split_guidance)
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
            f"{clip.settings['attention']} active in {layers} layers"
            if layers
            else "no shared attention",
            f"noise correlation 1-{len(clip.frames)} {clip.correlation:.3f}",
            f"motion {clip.motion:.1f}",
            f"flicker score {clip.flicker:.3f} (1 is none)",
        ]
    parts.append(f"{seconds:.1f} s")
    if peak := peak_memory(pipe.device):
        parts.append(f"peak {peak / 2**30:.2f} GiB")
    parts.append(str(path))
    return ", ".join(parts)


def run(args: argparse.Namespace) -> None:
    check(args)
    prompts = read_prompts(args)
    seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    paths = outputs(args, prompts, seed)
    if args.graph and (device := pick_device(args.device)).type != "cuda":
        raise InputError(f"--graph needs a CUDA device, and this is {device}: leave it out")
    options = {} if args.model is None else {"model": args.model}
    pipe = load(
        **options,
        device=args.device,
        dtype=args.dtype,
        prediction=args.prediction,
        tokenizer=args.tokenizer,
        compile=args.compile,
    )
    sides = fit_size(args.size, pipe)
    total = pipe.weights.ddim.num_train_timesteps
    steps = pipe.weights.sample.steps if args.steps is None else args.steps
    if steps > total:
        raise InputError(f"--steps must be at most {total} for this model, got {steps}")
    announce(args, sides, pipe)
    for prompt, path in zip(prompts, paths, strict=True):
        began = time.monotonic()
        clip = pipe(
            prompt,
            frames=args.frames,
            size=sides,
            seed=seed,
            noise=args.noise,
            attention=args.attention,
            split_guidance=args.split_guidance,
            graph=args.graph,
            progress=progress_bar,
            **told(args),
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


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    print_anything()
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
        except KeyboardInterrupt:
            say("interrupted, nothing half-written is left")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
