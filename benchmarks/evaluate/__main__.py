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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zs2
from benchmarks.environment import save
from benchmarks.evaluate import folder as results
from benchmarks.evaluate.folder import Figure, Folder, Row
from benchmarks.evaluate.methods import PLANS, SMALL_MODEL, Method, planned, result_name
from benchmarks.evaluate.report import by_method, html, markdown, summary
from zs2.checkpoint.load import load_clip
from zs2.checkpoint.lpips import load_lpips
from zs2.cli.terminal import answer, say
from zs2.device import name_of
from zs2.errors import InputError
from zs2.metrics.clip import FORMULA, named
from zs2.metrics.differences import drift
from zs2.metrics.figures import measured, seen
from zs2.metrics.lpips import LPIPS, SMALLEST, lpips
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer
from zs2.pipeline import Pipeline
from zs2.shot import Clip
from zs2.weights import SMALL

PROMPTS = Path(__file__).parents[1] / "prompts" / "scenes.txt"


def lines(path: Path, count: int | None) -> list[str]:
    """The prompts of a file, one a line; # begins a comment.

    Raises:
        InputError: it cannot be read, or holds none, or fewer.
    """
    try:
        text = path.read_text("utf-8-sig")  # as Windows' editors begin a file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    found = [line.strip() for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in found if line and not line.startswith("#")))
    if not found:
        raise InputError(f"{path} holds no prompt: write one a line")
    if count is not None and count > len(found):
        raise InputError(f"{path} holds {len(found)} prompts, and {count} were asked for")
    return found[:count]


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def share(text: str) -> tuple[int, int]:
    """i/n, from 1."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    i, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"{text} is no i/n, as 1/2")
    return i, n


def digest(*models: object) -> str:
    """Of models' weights, so that clips of others are not taken for theirs."""
    found = hashlib.sha256()
    for model in models:
        assert isinstance(model, nn.Module)
        for tensor in model.state_dict().values():
            found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:12]


@dataclass(frozen=True)
class Judges:
    """Models that look at clips; None looks not."""

    clip: tuple[CLIP, Tokenizer] | None = None
    lpips: LPIPS | None = None

    def figures(self, frames: Tensor, prompt: str) -> dict[str, Figure]:
        """All that is kept of a clip."""
        found: dict[str, Figure] = {**measured(frames), "drift": drift(frames).tolist()}
        del found["frames"]
        if self.lpips is not None:
            found["lpips"] = lpips(self.lpips, frames)
        if self.clip is not None:
            found |= seen(self.clip, frames, prompt)
        return found


def settings_of(pipe: Pipeline, judges: Judges, asked: dict[str, Any]) -> dict[str, str]:
    """What all clips of a folder share.

    Args:
        asked: frames, steps, size and seed; None is the model's own.

    Raises:
        InputError: frames, steps, size or seed that the model cannot make.
    """
    if asked["frames"] < 2:
        raise InputError("--frames is at least 2: a clip has several")
    try:
        shot = pipe.shot("", **asked)
    except ValueError as error:
        raise InputError(str(error)) from error
    if judges.lpips is not None and min(pipe.pixels(shot)) < SMALLEST:
        raise InputError(f"LPIPS needs {SMALLEST} pixels: choose another --size, or leave it out")
    told = shot.settings[0]
    weights = pipe.weights
    towers = (tower.encoder for tower in weights.text.towers)
    return {
        "model": weights.name or SMALL_MODEL,
        "weights": digest(weights.unet, weights.vae, *towers),
        "zs2": zs2.__version__,
        "dtype": name_of(pipe.dtype),
        "clip": "none" if judges.clip is None else digest(judges.clip[0]),
        "clip_score": "none" if judges.clip is None else f"{FORMULA} by a {named(judges.clip[0])}",
        "lpips": "none" if judges.lpips is None else digest(judges.lpips),
        **{key: str(told[key]) for key in ("frames", "steps", "size", "cfg", "schedule")},
    }


def make(
    pipe: Pipeline, judges: Judges, to: Folder, how: Method, prompt: str, asked: dict[str, Any]
) -> None:
    """A clip and its figures."""
    clip = pipe(prompt, **asked, **how.asked)
    assert isinstance(clip, Clip)
    figures = judges.figures(clip.frames, prompt)
    path = to.clip(how.name, prompt, asked["seed"])
    clip.save(path.with_suffix(".webp"), overwrite=True)
    to.finish(how.name, how.settings, prompt, asked["seed"], figures)


def run(args: argparse.Namespace) -> None:
    """Make what is missing, then the report.

    Raises:
        InputError: prompts, methods, model or folder cannot be used.
    """
    if args.json and (len(args.methods) > 1 or args.methods[0] not in PLANS):
        raise InputError(f"--json keeps the summary of one plan: {', '.join(PLANS)}")
    if args.json and args.json.exists() and not args.json.is_dir():
        raise InputError(f"--json {args.json} is no folder")
    prompts = lines(args.prompts, args.count)
    methods = planned(args.methods)
    out = Folder(args.out)
    folders = [out, *map(Folder, args.merge)]
    if not args.report:
        clip = SMALL / "clip" if args.clip is None and args.model is None else args.clip
        judges = Judges(
            None if clip is None else load_clip(clip),
            None if args.lpips is None else load_lpips(args.lpips),
        )
        pipe = zs2.load(SMALL if args.model is None else args.model, device=args.device)
        asked = {"frames": args.frames, "size": args.size, "steps": args.steps, "seed": args.seed}
        out.settle(settings_of(pipe, judges, asked))
        results.gathered(folders, {}, [])  # what cannot be merged is told before anything is made
        # Prompt by prompt, so that whatever is finished can be compared.
        i, n = args.shard
        jobs = [(prompt, how) for prompt in prompts[i - 1 :: n] for how in methods]

        def missing(job: tuple[str, Method]) -> bool:
            prompt, how = job
            return not out.finished(how.name, how.settings, prompt, args.seed)

        jobs = [job for job in jobs if missing(job)]
        began = time.monotonic()
        for done, (prompt, how) in enumerate(jobs, start=1):
            if missing((prompt, how)):  # another process may have made it since
                make(pipe, judges, out, how, prompt, asked)
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            say(f"{done} of {len(jobs)}, {left / 60:.0f} min left: {how.name}, {prompt}")
    rows = results.gathered(folders, {how.name: how.settings for how in methods}, prompts)
    report(rows, [how.name for how in methods], prompts, folders, args)


def report(
    rows: Sequence[Row],
    names: Sequence[str],
    prompts: Sequence[str],
    folders: Sequence[Folder],
    args: argparse.Namespace,
) -> None:
    """Write what was found.

    Raises:
        InputError: nothing can be compared yet.
    """
    made = {row.method for row in rows}
    if absent := [name for name in names if name not in made]:
        say(f"{args.out} holds no clips of these prompts by {', '.join(absent)}")
    names = [name for name in names if name in made]
    found = by_method(rows, names)
    if not found:
        raise InputError(f"{args.out} holds no prompt that all of these methods have made")
    common = folders[0].settings() or {}
    results.write(args.out / "rows.csv", results.table(rows))
    results.write(args.out / "report.md", markdown(rows, names, common))
    page = html(rows, names, common, folders, prompts[: args.shown])
    results.write(args.out / "report.html", page)
    if args.json:
        (plan,) = args.methods
        if absent or {prompt for prompt, _ in found["motion"][names[0]]} < {*prompts}:
            raise InputError(f"--json needs every clip of {plan}, and some are still to be made")
        name = result_name(plan, common["model"])
        save(args.json, name, common["dtype"], {"plan": plan, **common, **summary(rows, names)})
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
    parser.add_argument("--count", type=positive, help="only the first prompts")
    parser.add_argument(
        "--methods", nargs="+", default=["table1"], metavar="NAME", help="methods or plans"
    )
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model, for scores")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS, see zs2.evaluate")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shard", type=share, default=(1, 1), metavar="I/N")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], metavar="DIR", help="more results"
    )
    parser.add_argument("--report", action="store_true", help="of what is finished, and no more")
    parser.add_argument(
        "--shown", type=positive, default=6, help="prompts whose clips the page shows"
    )
    parser.add_argument("--json", type=Path, help="folder of results, for a plan's summary")
    args = parser.parse_args(argv)
    try:
        run(args)
    except InputError as error:
        say(error)
        return 2
    except OSError as error:
        say(f"not written: {error}; what is finished is kept")
        return 2
    except KeyboardInterrupt:
        say("interrupted: what is finished is kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
