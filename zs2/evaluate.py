"""How does a clip move, and does it hold together? python -m zs2.evaluate CLIP...

Measures any video files, zs2's or not, with `zs2.metrics`. With --clip FOLDER, a CLIP model in the
layout of transformers, also whether they show their prompt; with --lpips FILE how much the look
changes from frame to frame.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zs2.cli.start import start
from zs2.cli.terminal import Parser, answer, say
from zs2.clip_file import read_settings
from zs2.errors import InputError

if TYPE_CHECKING:
    from zs2.metrics.lpips import LPIPS
    from zs2.models.clip import CLIP
    from zs2.models.tokenizer import Tokenizer


def of(
    path: Path,
    prompt: str | None,
    clip: "tuple[CLIP, Tokenizer] | None",
    looks: "LPIPS | None" = None,
) -> dict[str, float]:
    """The figures of a file.

    Raises:
        InputError: it holds no clip of several frames, or is too small.
    """
    from zs2 import media
    from zs2.metrics.figures import measured, seen
    from zs2.metrics.lpips import SMALLEST, lpips

    frames = media.read_frames(path)
    if len(frames) < 2:
        raise InputError(f"{path} has 1 frame: a clip has several")
    if min(frames.shape[1:3]) < 2:
        raise InputError(f"{path} is a line of pixels: nothing can be measured in it")
    figures = measured(frames)
    if looks is not None:
        if min(frames.shape[1:3]) < SMALLEST:
            raise InputError(f"{path} is smaller than {SMALLEST} pixels: leave --lpips out")
        figures["lpips"] = lpips(looks, frames)
    if clip is not None:
        prompt = stored_prompt(path) if prompt is None else prompt
        if prompt is None:
            say(f"{path} has no one prompt, so no CLIP score: give --prompt TEXT")
        figures |= seen(clip, frames, prompt)
    return figures


def stored_prompt(path: Path) -> str | None:
    """What a clip was told, where that is one text, without its weights."""
    from zs2.prompt import parse

    try:
        settings = read_settings(path)
    except InputError:
        return None
    prompt = settings.get("prompt")
    if not isinstance(prompt, str) or not prompt or settings.get("prompt-at"):
        return None
    if settings.get("prompt-weights", "plain") == "plain":
        return prompt
    return " ".join("".join(piece.text for piece in part) for part in parse(prompt))


def table(path: Path, figures: dict[str, float], score: str) -> Iterator[str]:
    """Lines that say them; `score` is what the CLIP score is and by which model."""
    from zs2.metrics.figures import MEANINGS

    meanings = {**MEANINGS, "clip_score": score}
    yield str(path)
    for name, value in figures.items():
        shown = f"{value:.0f}" if name == "frames" else f"{value:.3f}"
        yield f"  {name:22}{shown:>9}  {meanings[name]}".rstrip()


def evaluate(args: argparse.Namespace) -> int:
    """Measure and print; 2 where a file cannot be measured, after the others.

    Raises:
        InputError: a model, or the prompt, cannot be used.
    """
    clip, score, told = None, "", {}
    if args.prompt is not None and not args.prompt.strip():
        raise InputError("--prompt is empty: leave it out for the prompts in the files")
    if args.clip is not None:
        from zs2.checkpoint.load import load_clip
        from zs2.metrics.clip import FORMULA, named

        clip = load_clip(args.clip)
        score = f"{FORMULA}, by {args.clip.name} ({named(clip[0])})"
        told = {"clip_backbone": str(args.clip), "clip_score": score}
    elif args.prompt is not None:
        raise InputError("--prompt has no use without --clip, the model that compares them")
    looks = None
    if args.lpips is not None:
        from zs2.checkpoint.lpips import load_lpips

        looks = load_lpips(args.lpips)
    results = {}
    for path in args.paths:
        try:
            results[str(path)] = of(path, args.prompt, clip, looks)
        except InputError as error:
            say(error)
            continue
        if not args.json:
            for line in table(path, results[str(path)], score):
                answer(line)
    if args.json and results:
        for line in json.dumps({**told, "clips": results}, indent=1).splitlines():
            answer(line)
    return 0 if len(results) == len({*args.paths}) else 2


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m zs2.evaluate",
        description="Measure how clips move and hold together.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths", metavar="VIDEO", nargs="+", type=Path, help="a video, or a folder of frames"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="of all of them (default: the stored one)")
    parser.add_argument("--clip", metavar="FOLDER", type=Path, help="a CLIP model, for scores")
    parser.add_argument(
        "--lpips", metavar="FILE", type=Path, help="LPIPS' weights, for how alike frames look"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    start()
    try:
        return evaluate(args)
    except InputError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
