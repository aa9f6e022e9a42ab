"""What can be said to python -m zs2.sample, and what is refused before a model is loaded."""

import argparse
import re
from pathlib import Path
from typing import Any

from zs2.errors import InputError
from zs2.noise import per_frame
from zs2.pipeline import frame_attention, noise_model
from zs2.cli.terminal import Help, Parser

EXAMPLES = """\
examples:
  python -m zs2.sample "a small red ball on green grass"
  python -m zs2.sample "two big blue stars at night" --lam 0.1 --frames 16 -o stars.gif
  python -m zs2.sample "a bear dancing on the street" -m v1-5-pruned-emaonly.safetensors
  python -m zs2.sample "a heart in the snow" --frames 1 -o still.png

Frame 1 of a clip is the still of the same seed: find a still you like, then animate it.
More motion: raise --lam. Steadier looks: raise --mu.
"""


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m zs2.sample",
        usage='%(prog)s "PROMPT" [options]',
        description="Make a video from a prompt with any Stable Diffusion checkpoint.",
        epilog=EXAMPLES,
        formatter_class=Help,
        allow_abbrev=False,  # --prompt is not --prompts-file
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to show")
    parser.add_argument("-p", "--prompt", dest="named", metavar="PROMPT", help="the same, by name")

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
        "--graph", action="store_true", help="on a CUDA device, replay the steps as a CUDA graph"
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
    given = [p for p in (args.prompt, args.named, args.prompts_file) if p is not None]
    if len(given) != 1:
        raise InputError('give either a "PROMPT" or --prompts-file FILE')
    if args.prompts_file is None:
        return given
    try:
        lines = args.prompts_file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{args.prompts_file} cannot be read as text: {error}") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{args.prompts_file} holds no prompt: write one a line")
    return prompts
