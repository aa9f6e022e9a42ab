"""The command line: python -m zs2.sample "PROMPT" [options]."""

import argparse
import re
import secrets
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zs2 import media
from zs2.device import compile_failed, free_memory, out_of_memory, peak_memory
from zs2.errors import InputError, NumericalError
from zs2.noise import per_frame
from zs2.pipeline import Clip, Pipeline, frame_attention, load, noise_model
from zs2.terminal import Help, Parser, print_anything, progress_bar, say

EXAMPLES = """\
examples:
  python -m zs2.sample "a small red ball on green grass"
  python -m zs2.sample "two big blue stars at night" --lam 0.1 --frames 16 -o stars.gif
  python -m zs2.sample "a bear dancing on the street" -m v1-5-pruned-emaonly.safetensors
  python -m zs2.sample "a heart in the snow" --frames 1 -o still.png

Frame 1 of a clip is the still of the same seed: find a still you like, then animate it.
More motion: raise --lam. Steadier looks: raise --mu.
"""

LESS_MEMORY = "try a smaller --size, fewer frames at a time (--chunk 2), or --split-guidance"


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m zs2.sample",
        usage='%(prog)s "PROMPT" [options]',
        description="Make a video from a prompt with any Stable Diffusion checkpoint.",
        epilog=EXAMPLES,
        formatter_class=Help,
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to show")

    group = parser.add_argument_group("model")
    group.add_argument(
        "-m",
        "--model",
        metavar="PATH",
        help="a folder, a .safetensors file or a hub id (default: the small model)",
    )
    group.add_argument(
        "--prediction",
        choices=["epsilon", "v"],
        metavar="KIND",
        help="epsilon or v: what the model predicts (default: what it says)",
    )
    group.add_argument(
        "--tokenizer", metavar="DIR", help="folder with CLIP's vocabulary, for single files"
    )

    group = parser.add_argument_group("picture")
    group.add_argument("-n", "--negative", metavar="TEXT", help="what to steer away from")
    group.add_argument(
        "--size", type=size, metavar="N|WxH", help="in pixels (default: the model's)"
    )
    group.add_argument(
        "-s", "--steps", type=int, metavar="N", help="DDIM steps (default: the model's)"
    )
    group.add_argument(
        "--cfg", type=float, metavar="X", help="guidance scale, 1 is none (default: the model's)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="default: a random one, printed")
    group.add_argument(
        "--prompts-file", type=Path, metavar="FILE", help="one prompt a line: a clip of each"
    )

    group = parser.add_argument_group(
        "motion", "--lam, --mu and --alpha may differ by frame: --frames 4 --lam 0,0.1,0.1,0.2"
    )
    group.add_argument(
        "--frames", type=int, default=8, metavar="N", help="1 is a still (default: 8)"
    )
    group.add_argument(
        "--lam",
        type=numbers,
        metavar="X",
        help="motion: KL between frames' noise, from 0 to inf (default: 0.01)",
    )
    group.add_argument(
        "--mu",
        type=numbers,
        metavar="X",
        help="steadiness: momentum of attention, 0..1 (default: 0.98)",
    )
    group.add_argument(
        "--noise",
        choices=["dependency", "independent", "mixed", "progressive"],
        default="dependency",
        metavar="KIND",
        help="dependency (default), independent, mixed or progressive",
    )
    group.add_argument(
        "--alpha",
        type=numbers,
        metavar="X",
        help="share of mixed or progressive noise kept (default: as of lam 0.01)",
    )
    group.add_argument(
        "--candidates", type=int, metavar="K", help="noises tried for each frame (default: 10)"
    )
    group.add_argument(
        "--attention",
        choices=["momentum", "self", "cross-frame"],
        default="momentum",
        metavar="KIND",
        help="how frames share it: momentum (default), self or cross-frame",
    )

    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".mp4 .gif .webp, or .png, a folder for a clip (default: of the prompt)",
    )
    group.add_argument(
        "--fps", type=float, default=8, metavar="X", help="frames a second (default: 8)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace the file if it exists")

    group = parser.add_argument_group("speed and memory")
    group.add_argument(
        "--chunk", type=int, metavar="N", help="frames computed at a time: same clip, less memory"
    )
    group.add_argument(
        "--split-guidance", action="store_true", help="guidance branches one after the other"
    )
    group.add_argument(
        "--compile", action="store_true", help="torch.compile: a slow start, then faster steps"
    )
    group.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        metavar="TYPE",
        help="auto (default), fp32, bf16 or fp16",
    )
    group.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="auto (default), cpu, cuda, cuda:N or mps",
    )
    return parser


def numbers(text: str) -> float | tuple[float, ...]:
    """One number, or several with commas between."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor numbers with commas between"
        ) from None
    return values[0] if len(values) == 1 else values


def size(text: str) -> tuple[int, int]:
    """(width, height) from "512" or "768x512"."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give pixels as 512 or 768x512")
    return sides


def check(args: argparse.Namespace) -> None:
    """Refuse impossible values before a model is loaded.

    Raises:
        InputError: the value is named.
    """
    if args.steps is not None and args.steps < 1:
        raise InputError(f"--steps must be at least 1, got {args.steps}")
    if args.frames < 1:
        raise InputError(f"--frames must be at least 1, got {args.frames}")
    if args.chunk is not None and args.chunk < 1:
        raise InputError(f"--chunk must be at least 1 frame, got {args.chunk}")
    if args.cfg is not None and not abs(args.cfg) < float("inf"):
        raise InputError(f"--cfg must be a finite number, got {args.cfg}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must lie in 0..2^63-1, got {args.seed}")
    no_use = {
        "lam": args.noise != "dependency" and f"--noise {args.noise}",
        "candidates": args.noise != "dependency" and f"--noise {args.noise}",
        "alpha": args.noise not in ("mixed", "progressive") and f"--noise {args.noise}",
        "mu": args.attention != "momentum" and f"--attention {args.attention}",
        "negative": args.cfg == 1 and "--cfg 1, which is no guidance",
    }
    for option, beside in no_use.items():
        if beside and getattr(args, option) is not None:
            raise InputError(f"--{option} has no use with {beside}: leave one of the two out")
    given = told(args)
    try:
        for option in ("lam", "alpha"):
            if option in given:
                per_frame(option, given[option], args.frames)
        noise_model(
            args.noise, **{k: given[k] for k in ("lam", "alpha", "candidates") if k in given}
        )
        frame_attention(args.attention, given.get("mu", 0), args.frames)
    except ValueError as error:
        raise InputError(str(error)) from None


def told(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `Pipeline.__call__` that were given; the others keep its defaults."""
    names = ("negative", "steps", "cfg", "lam", "mu", "alpha", "candidates", "chunk")
    given = {name: getattr(args, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def read_prompts(args: argparse.Namespace) -> list[str]:
    """The prompt, or the lines of --prompts-file.

    Raises:
        InputError: both or none are given, or the file has none.
    """
    if (args.prompt is None) == (args.prompts_file is None):
        raise InputError('give either a "PROMPT" or --prompts-file FILE')
    if args.prompts_file is None:
        return [args.prompt]
    try:
        lines = args.prompts_file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{args.prompts_file} cannot be read as text: {error}") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{args.prompts_file} holds no prompt: write one a line")
    return prompts


def outputs(args: argparse.Namespace, prompts: Sequence[str], seed: int) -> list[Path]:
    """Where each clip goes; every one is checked now, before any sampling.

    Raises:
        InputError: a path cannot be written to.
    """
    if args.output is not None and len(prompts) > 1:
        name: Path = args.output
        paths = [name.with_stem(f"{name.stem}-{i:04d}") for i in range(1, len(prompts) + 1)]
    elif args.output is not None:
        paths = [args.output]
    else:
        suffix = ".png" if args.frames == 1 else ".mp4"
        paths = []
        for i, prompt in enumerate(prompts, start=1):
            words = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60].rstrip("-") or "clip"
            number = f"{i:04d}-" if len(prompts) > 1 else ""  # prompts may repeat
            paths.append(Path(f"{number}{words}-{seed}{suffix}"))
    for path in paths:
        media.check_output(path, args.frames, args.overwrite)
        if args.frames > 1:
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
        layers = pipe.weights.unet.attention_layers if clip.shared else 0
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
            progress=progress_bar,
            **told(args),
        )
        assert isinstance(clip, Clip)
        seconds = time.monotonic() - began
        written = clip.save(path, args.fps, args.overwrite)
        print(summary(clip, pipe, seconds, written))


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
