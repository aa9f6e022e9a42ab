"""Makes the clips that a command line asks for, one after the other, and says what was made."""

import argparse
import re
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zs2 import media
from zs2.asked import Asked
from zs2.checkpoint.vae import OtherVAE
from zs2.cli import control, image_prompt, inputs, ranks, request, state, words
from zs2.cli.adapters import adapters
from zs2.cli.options import CONTROL, PROMPT_AT, SOURCE
from zs2.cli.output import Output
from zs2.cli.room import LESS_MEMORY, Room
from zs2.cli.sheet import write_sheet
from zs2.cli.terminal import answer, say
from zs2.denoise import Order, Whole
from zs2.device import compile_failed, out_of_memory, pick_device
from zs2.errors import InputError, NumericalError
from zs2.pipeline import Feature, Pipeline, load
from zs2.samplers import SAMPLERS
from zs2.stream import Stream
from zs2.wavefront import EndedError, Wavefront
from zs2.weights import SMALL


def make(args: argparse.Namespace) -> int:
    """Make every clip that was asked for; the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: say(message)
        try:
            with ranks.group():
                run(args)
        except InputError as error:
            say(error)
            return 2
        except NumericalError as error:
            say(error, own=True)
            return 2
        except OSError as error:
            say(f"the clip was not written: {error}", own=True)
            return 1
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or out_of_memory(error):
                say(f"out of memory: {LESS_MEMORY}", own=True)
            elif compile_failed(error):
                reason = str(error).partition("\n")[0]
                say(f"torch.compile cannot work here: leave --compile out ({reason})")
            elif isinstance(error, EndedError):
                say(f"{error}: the frames that were finished are kept")
            else:
                raise
            return 1
    return 0


@dataclass(frozen=True)
class Job:
    """One clip to make."""

    prompt: str
    seed: int
    path: Path
    overwrite: bool


def run(args: argparse.Namespace) -> None:
    """Make them: what can be refused without the model is refused before it is loaded."""
    given, controls = inputs.source(args), control.asked(args)
    stencil = None if args.mask is None else inputs.read(args.mask)
    leading = given or control.leading(controls)
    frames = inputs.frame_count(args, leading)
    request.check(args, frames)
    control.check(controls, frames)
    prompts = request.prompts(args)
    one = len(prompts) * args.count == 1
    noise, attention = request.noise(args), request.attention(args)
    order = request.order(args, frames, one)
    picture = image_prompt.picture(args)
    usual = ((leading and leading.fps) or 8.0) * (args.fps_mult or 1)
    fps = usual if args.fps is None else args.fps
    words.check(args, prompts)
    jobs = planned(args, prompts, frames, fps)
    if not one:
        jobs = ranks.dealt(jobs)
    ranks.wait_for_all()  # before the first of them writes
    if not jobs:
        say("all of it is there already")
        return

    quick = None if args.preview_vae is None else OtherVAE(args.preview_vae)
    pipe = loaded(args)
    shown_by = Pipeline(quick(pipe.weights), pipe.device, pipe.dtype) if quick else pipe
    words.warn_of_unused(args, prompts, pipe.weights)
    nets = control.load(controls, pipe)
    size = inputs.clip_size(args, leading, pipe)
    clip = Room(pipe, args, frames * (args.fps_mult or 1), size, len(controls), order)
    if args.max_memory is not None:
        clip = clip.fitted(args.max_memory)
    clip.announce()
    pipe = clip.pipe
    shown = None if given is None else inputs.fitted(given, frames, size)
    mask = None if stencil is None else inputs.mask(stencil, frames, size)
    steered: list[Feature] = [
        *control.features(controls, nets, frames, size),
        *image_prompt.features(args, picture, pipe),
    ]
    asked: Asked = {
        "negative": args.negative,
        "frames": frames,
        "size": size,
        "steps": args.steps,
        "cfg": args.cfg,
        "noise": noise,
        "attention": attention,
        "sampler": SAMPLERS[args.sampler or "ddim"],
        "spacing": args.schedule,
        "rng": args.rng or "zs2",
        "features": request.features(
            args, shown, mask, steered, Whole(clip.order.chunk, clip.order.together)
        ),
    }
    output = Output(pipe, together(clip.order, one), fps, told(args), args.preview, shown_by)
    make_all(jobs, output, asked, args.sheet)


def together(order: Whole | Stream, one: bool) -> Order:
    """The order of one clip that several processes make together, or as it was."""
    if one and ranks.count() > 1 and order.chunk is not None:
        return Wavefront(order.chunk, order.together)
    return order


def make_all(jobs: Sequence[Job], output: Output, asked: Asked, sheet: Path | None) -> None:
    """Every clip, and the sheet of their first frames."""
    stills = []
    for job in jobs:
        words.warn_of_unknown(job.prompt, output.pipe.weights)
        try:
            one: Asked = {**asked, "seed": job.seed}
            shot = output.pipe.shot(job.prompt, **one)
            made = output.make(shot, job.path, job.overwrite)
        except ValueError as error:  # what only the model can refuse
            raise InputError(str(error)) from error
        if made is not None:
            answer(made[0])
            stills.append(made[1])
    if sheet is not None:
        answer(str(write_sheet(sheet, stills, [f"seed {job.seed}" for job in jobs])))


def loaded(args: argparse.Namespace) -> Pipeline:
    """The model, with what changes it; its receipts are said.

    Raises:
        InputError: it cannot be used, or cannot be recorded as a graph.
    """
    if args.graph and (device := pick_device(args.device or "auto")).type != "cuda":
        raise InputError(f"--graph needs a CUDA device, and this is {device}: leave it out")
    pipe = load(
        SMALL if args.model is None else args.model,
        device=ranks.device(args.device),
        dtype=args.dtype or "auto",
        prediction=args.prediction,
        tokenizer=args.tokenizer,
        adapters=adapters(args),
        compile=args.compile,
    )
    for receipt in pipe.weights.receipts:
        say(receipt)
    return pipe


def told(args: argparse.Namespace) -> dict[str, object]:
    """The settings that only the command line knows: what the features were made of."""
    rows = (*SOURCE, *CONTROL, PROMPT_AT)
    given = {o.name: getattr(args, o.name.replace("-", "_")) for o in rows}
    return {name: str(v) if isinstance(v, Path) else v for name, v in given.items() if v}


def planned(args: argparse.Namespace, prompts: Sequence[str], frames: int, fps: float) -> list[Job]:
    """What to make and where it goes; every path is checked now, before any sampling.

    Raises:
        InputError: a path cannot be written to.
    """
    kept = state.prepare(args)
    first = ranks.same(secrets.randbelow(2**32)) if args.seed is None else args.seed
    wanted = [(prompt, first + i) for prompt in prompts for i in range(args.count)]
    name: Path | None = args.output
    if name is not None and not name.name:
        raise InputError(f"--output {name} names no file: end it in .mp4, .gif, .webp or .png")
    jobs = []
    for i, (prompt, seed) in enumerate(wanted, start=1):
        if name is not None:
            path = name.with_stem(f"{name.stem}-{i:04d}") if len(wanted) > 1 else name
        else:
            number = f"{i:04d}-" if len(prompts) > 1 else ""  # prompts may repeat
            suffix = ".png" if frames == 1 else ".mp4"
            path = Path(f"{number}{words_of(prompt)}-{seed}{suffix}")
        folder = path.suffix.lower() == ".png" and frames > 1
        if args.skip_existing and (path.with_suffix("") if folder else path).exists():
            continue
        overwrite = args.overwrite or state.begun(path, kept)
        media.check_output(path, frames, overwrite)
        media.check_fps(path, fps)
        jobs.append(Job(prompt, seed, path, overwrite))
    beside = [path for path in (args.sheet, args.preview) if path is not None]
    for path in beside:
        media.check_output(path, 1, args.overwrite)
    taken = [job.path for job in jobs] + beside
    if len(set(taken)) < len(taken):
        raise InputError("--output, --sheet and --preview need names of their own")
    return jobs


def words_of(prompt: str) -> str:
    """A prompt as a part of a file's name, which holds 255 bytes in all."""
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60]
    return words.encode()[:200].decode(errors="ignore").rstrip("-") or "clip"
