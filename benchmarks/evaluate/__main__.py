"""Compare methods over prompts, on any model, with intervals.

    python -m benchmarks.evaluate --out DIR --methods zs2 paper text2video-zero:motion=6 ddim
    python -m benchmarks.evaluate --out DIR --model PATH --prompts FILE --shard 1/2

Each prompt is made once by each method from the same seed, and measured by `zs2.metrics`. What is
finished is kept and never made again: a run that was killed goes on with the same words, and shards
that share a folder merge by themselves. At the end, and with --report at once, it writes to DIR:

    rows.csv       a line for each clip and figure
    report.md      means with 95 % intervals, and each method's difference to the first, paired by
                   prompt and seed
    report.html    the same with curves over motion and the clips side by side; needs no network
"""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zs2
from benchmarks.environment import save
from benchmarks.evaluate import folder as results
from benchmarks.evaluate.folder import Folder
from benchmarks.evaluate.methods import PLANS, Method, planned
from benchmarks.evaluate.report import html, markdown, summary
from zs2.checkpoint.load import load_clip
from zs2.cli.terminal import answer, say
from zs2.device import name_of
from zs2.errors import InputError
from zs2.metrics.figures import measured, seen
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.weights import SMALL

PROMPTS = Path(__file__).parents[1] / "prompts" / "scenes.txt"


def lines(path: Path, count: int | None) -> list[str]:
    """The prompts of a file, one a line; # begins a comment.

    Raises:
        InputError: it cannot be read, or holds none.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    found = [line.strip() for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in found if line and not line.startswith("#")))
    if not found:
        raise InputError(f"{path} holds no prompt: write one a line")
    return found[:count]


def share(text: str) -> tuple[int, int]:
    """i/n, from 1."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    i, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"{text} is no i/n, as 1/2")
    return i, n


def digest(model: nn.Module) -> str:
    """Of a model's weights, so that clips of others are not taken for its own."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:12]


def make(
    pipe: Pipeline, judge: Any, to: Folder, how: Method, prompt: str, args: argparse.Namespace
) -> None:
    """A clip and its figures."""
    began = time.monotonic()
    asked = {"frames": args.frames, "size": args.size, "steps": args.steps, "seed": args.seed}
    clip = pipe(prompt, **asked, **how.asked)
    assert isinstance(clip, Clip)
    seconds = time.monotonic() - began
    figures = measured(clip.frames)
    del figures["frames"]
    figures["noise_correlation"] = clip.correlation
    if judge is not None:
        figures |= seen(judge, clip.frames, prompt)
    path = to.clip(how.name, prompt, args.seed)
    clip.save(path.with_suffix(".webp"), overwrite=True)
    to.finish(how.name, prompt, args.seed, {**figures, "seconds": seconds})


def run(args: argparse.Namespace) -> None:
    """Make what is missing, then the report.

    Raises:
        InputError: prompts, methods, model or folder cannot be used.
    """
    if args.json and (len(args.methods) > 1 or args.methods[0] not in PLANS):
        raise InputError(f"--json keeps the summary of one plan: {', '.join(PLANS)}")
    prompts = lines(args.prompts, args.count)
    methods = planned(args.methods)
    out = Folder(args.out)
    folders = [out, *map(Folder, args.merge)]
    if not args.report:
        clip = SMALL / "clip" if args.clip is None and args.model is None else args.clip
        judge = None if clip is None else load_clip(clip)
        pipe = zs2.load(SMALL if args.model is None else args.model, device=args.device)
        settings = {
            "model": pipe.weights.name or "the small model",
            "weights": digest(pipe.weights.unet),
            "dtype": name_of(pipe.dtype),
            "clip": None if clip is None else Path(clip).name,
            "frames": args.frames,
            "steps": args.steps or pipe.weights.defaults.steps,
            "size": args.size or str(pipe.weights.defaults.size),
        }
        out.settle({key: str(value) for key, value in settings.items()})
        # Prompt by prompt, so that whatever is finished can be compared.
        jobs = [(prompt, how) for prompt in prompts for how in methods]
        i, n = args.shard
        jobs = [job for k, job in enumerate(jobs) if k % n == i - 1]
        jobs = [(p, how) for p, how in jobs if not out.finished(how.name, p, args.seed)]
        began = time.monotonic()
        for done, (prompt, how) in enumerate(jobs, start=1):
            make(pipe, judge, out, how, prompt, args)
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            say(f"{done} of {len(jobs)}, {left / 60:.0f} min left: {how.name}, {prompt}")
    rows = results.gathered(folders)
    if not rows:
        raise InputError(f"{args.out} holds no results yet")
    results.write(args.out / "rows.csv", results.table(rows))
    names = [how.name for how in methods]
    common = out.settings() or {}
    results.write(args.out / "report.md", markdown(rows, names, common))
    results.write(args.out / "report.html", html(rows, names, common, folders, args.shown))
    if args.json:
        (plan,) = args.methods
        name = f"evaluate {plan}" + (f" of {Path(common['model']).stem}" if args.model else "")
        result = {"plan": plan, **common, **summary(rows, names)}
        save(args.json, name, common["dtype"], result)
    answer(str(args.out / "report.html"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", type=Path, help="default: the small one")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FILE")
    parser.add_argument("--count", type=int, help="only the first prompts")
    parser.add_argument(
        "--methods", nargs="+", default=["table1"], metavar="NAME", help="methods or plans"
    )
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model, for scores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shard", type=share, default=(1, 1), metavar="I/N")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], metavar="DIR", help="more results"
    )
    parser.add_argument("--report", action="store_true", help="of what is finished, and no more")
    parser.add_argument("--shown", type=int, default=6, help="prompts whose clips the page shows")
    parser.add_argument("--json", type=Path, help="folder of results, for a plan's summary")
    args = parser.parse_args(argv)
    try:
        run(args)
    except InputError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        say("interrupted: what is finished is kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
