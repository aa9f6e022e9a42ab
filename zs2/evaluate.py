"""How does a clip move, and does it hold together? python -m zs2.evaluate CLIP...

Measures any video files, zs2's or not, with `zs2.metrics`. With --clip FOLDER, a CLIP model in the
layout of transformers, also whether they show their prompt.
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
    from torch import Tensor

    from zs2.models.clip import CLIP
    from zs2.models.tokenizer import Tokenizer

MEANINGS = {
    "frames": "",
    "motion": "mean difference of neighbours, 0..255",
    "motion_mae": "the same of 4x4 means (from 256 pixels on), free of a GIF's dither",
    "net_change": "difference of the last frame to the first",
    "persistence": "cosine of successive differences: 1 moves on, below 0 goes to and fro",
    "flow": "mean length of optical flow, in pixels",
    "residual": "what flow leaves of the difference of neighbours, 0..255",
    "jumps": "share of neighbours where that is above 10",
    "tc": "temporal consistency of EIDT-V, less is better",
    "ms_ssim": "structure kept from frame to frame, 1 for a still",
    "temporal_flickering": "VBench's, 1 for a still",
    "appearance": "distance of colours to frame 1, 0 when kept",
    "consistency_adjacent": "CLIP cosine of neighbours",
    "consistency_all_pairs": "CLIP cosine of all pairs",
    "clip_score": "",
}


def measured(frames: "Tensor") -> dict[str, float]:
    """All that a clip's frames tell, uint8 [F, H, W, 3] with F above 1."""
    from zs2.metrics import differences, flow, structure

    back, calm = flow.backwards(frames), differences.calm(frames)
    # A dither that stands still would be moved by every flow that is not quite 0.
    small = min(frames.shape[1:3]) < differences.LARGE
    left = flow.residuals(calm, back if small else flow.backwards(calm))
    return {
        "frames": len(frames),
        "motion": differences.motion(frames),
        "motion_mae": differences.motion_mae(frames),
        "net_change": differences.change(frames),
        "persistence": differences.persistence(frames.float() / 255),
        "flow": flow.size(back),
        "residual": float(left.mean()),
        "jumps": flow.jumps(left),
        "tc": flow.tc(frames, back),
        "ms_ssim": structure.ms_ssim(frames),
        "temporal_flickering": differences.flicker(frames),
        "appearance": differences.appearance_distance(frames),
    }


def seen(clip: "tuple[CLIP, Tokenizer]", frames: "Tensor", prompt: str | None) -> dict[str, float]:
    """What a CLIP model sees of a clip."""
    from zs2.metrics import clip as by_clip

    model, tokenizer = clip
    vectors = by_clip.features(model, frames)
    figures = {
        "consistency_adjacent": by_clip.adjacent(vectors),
        "consistency_all_pairs": by_clip.all_pairs(vectors),
    }
    if prompt is not None:
        figures["clip_score"] = by_clip.score(model, tokenizer, vectors, prompt)
    return figures


def of(path: Path, prompt: str | None, clip: "tuple[CLIP, Tokenizer] | None") -> dict[str, float]:
    """The figures of a file.

    Raises:
        InputError: it holds no clip of several frames, or is too small.
    """
    from zs2 import media

    frames = media.read_frames(path)
    if len(frames) < 2:
        raise InputError(f"{path} has 1 frame: a clip has several")
    if min(frames.shape[1:3]) < 2:
        raise InputError(f"{path} is a line of pixels: nothing can be measured in it")
    figures = measured(frames)
    if clip is not None:
        if prompt is None:
            try:
                prompt = str(read_settings(path)["prompt"])
            except (InputError, KeyError):
                say(f"{path} has no prompt, so no CLIP score: give --prompt TEXT")
        figures |= seen(clip, frames, prompt)
    return figures


def table(path: Path, figures: dict[str, float], backbone: str) -> Iterator[str]:
    """Lines that say them."""
    from zs2.metrics.clip import FORMULA

    meanings = {**MEANINGS, "clip_score": f"{FORMULA}, by {backbone}"}
    yield str(path)
    for name, value in figures.items():
        shown = f"{value:.0f}" if name == "frames" else f"{value:.3f}"
        yield f"  {name:22}{shown:>9}  {meanings[name]}".rstrip()


def evaluate(args: argparse.Namespace) -> None:
    """Measure and print.

    Raises:
        InputError: a file, or the CLIP model, cannot be used.
    """
    clip = None
    if args.clip is not None:
        from zs2.checkpoint.load import load_clip

        clip = load_clip(args.clip)
    elif args.prompt is not None:
        raise InputError("--prompt has no use without --clip, the model that compares them")
    backbone = args.clip.name if args.clip is not None else ""
    results = {}
    for path in args.paths:
        results[str(path)] = of(path, args.prompt, clip)
        if not args.json:
            for line in table(path, results[str(path)], backbone):
                answer(line)
    if args.json:
        told = {"clip_backbone": str(args.clip)} if args.clip is not None else {}
        for line in json.dumps({**told, "clips": results}, indent=1).splitlines():
            answer(line)


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
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    start()
    try:
        evaluate(args)
    except InputError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
