"""What was asked for: the words of a command line become the objects that the pipeline takes.

Impossible values are refused here, before a model is loaded, by those objects themselves.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import TypeVar

from torch import Tensor

from zs2.attention import FrameAttention
from zs2.cli import ranks
from zs2.denoise import WHOLE, Whole
from zs2.errors import InputError
from zs2.memory import Memory
from zs2.noise import NOISES, NoiseModel
from zs2.pipeline import Feature
from zs2.shots.between import Between
from zs2.shots.camera import Camera
from zs2.shots.deepcache import DeepCache
from zs2.shots.edit import Edit
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.image_prompt import HEAVIEST
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel
from zs2.stream import Stream
from zs2.timeline import check_range, per_frame

T = TypeVar("T")


OF_NOISE = tuple(dict.fromkeys(f.name for kind in NOISES.values() for f in fields(kind)))
"""The options that one noise model or another has."""
BY_FRAME = ("lam", "inertia", "mu", "alpha", "cfg")
"""The options that may have a value for each frame."""


def refused(make: Callable[[], T]) -> T:
    """What `make` returns.

    Raises:
        InputError: it refused a value.
    """
    try:
        return make()
    except ValueError as error:
        raise InputError(str(error)) from None


def check(args: argparse.Namespace, frames: int) -> None:
    """Refuse the impossible values that no object below holds.

    Args:
        frames: F of the clip.

    Raises:
        InputError: the value is named.
    """
    if args.fps_mult is not None and (args.fps_mult < 2 or frames < 2):
        raise InputError(
            f"--fps-mult {args.fps_mult} of {frames} frames makes none between: give at least 2 of "
            "both"
        )
    for option in ("steps", "frames", "count"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option} must be at least 1, got {value}")
    if args.seed is not None and not 0 <= args.seed <= 2**63 - args.count:
        raise InputError(f"--seed must lie in 0..2^63-1, got {args.seed}")
    needs = {
        "strength": "init",
        "invert": "init",
        "mask": "init",
        "mask-strength": "mask",
        "image-cfg": "edit",
    }
    needs |= {"ip-adapter": "image", "image": "ip-adapter", "image-weight": "ip-adapter"}
    needs |= {"image-encoder": "ip-adapter", "preview-vae": "preview"}
    needs |= {"resume": "keep-state", "keep-state": "stream"}
    needs |= {"host-state": "stream", "half-state": "stream"}
    given = {
        name.replace("_", "-")
        for name, value in vars(args).items()
        if value is not None and value is not False
    }
    for option, other in needs.items():
        if option in given and other not in given:
            raise InputError(f"--{option} has no use without --{other}")
    for name in BY_FRAME:
        if (value := getattr(args, name)) is not None:
            numbers = refused(partial(per_frame, name, value, frames))
            if name == "cfg":
                refused(partial(check_range, "cfg", value, 10_000, -10_000))
                if args.negative is not None and all(x == 1 for x in numbers):
                    raise InputError("--negative has no use with --cfg 1, which is no guidance")
    if args.camera is not None:
        refused(lambda: Camera.parse(args.camera))
    for name, most in (("strength", 1), ("image_weight", HEAVIEST), ("image_cfg", 10_000)):
        if (value := getattr(args, name)) is not None:
            refused(partial(check_range, name, value, most))
    usual = Invert.strength if args.invert else Init.strength
    most = usual if args.strength is None else args.strength
    if args.mask_strength is not None and not 0 <= args.mask_strength < most:
        raise InputError(
            f"--mask-strength must lie in 0..1 below --strength, which is {most}, "
            f"got {args.mask_strength}"
        )
    for frame in travelled(args.prompt_at or ()):
        if frame >= frames:
            raise InputError(f"--prompt-at {frame} lies behind the last of {frames} frames, from 0")
    if args.compile and args.graph:
        raise InputError(
            "--compile may compile again while --graph records a step: leave one of the two out"
        )
    if args.deepcache is not None:
        refused(lambda: DeepCache(args.deepcache))
        if args.graph:
            raise InputError("--deepcache has steps of two kinds: leave it or --graph out")
        if args.compile:
            raise InputError("--deepcache goes around what --compile compiles: leave one out")
        if args.control:
            raise InputError("--deepcache is for a UNet by itself: leave it or --control out")
    if ranks.count() > 1 and args.sheet is not None:
        raise InputError("--sheet needs all its clips: make them in one process")
    if args.skip_existing and args.overwrite:
        raise InputError("--skip-existing and --overwrite say the opposite: leave one out")
    if args.skip_existing and args.sheet is not None:
        raise InputError("--sheet needs all its clips: leave out --skip-existing")
    if args.skip_existing and args.seed is None and args.output is None:
        raise InputError("--skip-existing needs --seed or --output: other names are new each time")


def noise(args: argparse.Namespace) -> NoiseModel:
    """The noise model; an option that it has no use for is refused."""
    if args.loop and (args.noise not in (None, "loop") or args.method):
        other = f"--method {args.method}" if args.method else f"--noise {args.noise}"
        raise InputError(f"--loop has no use with {other}: leave one of the two out")
    if args.loop:
        name, beside = "loop", "--loop"
    elif args.method:  # it brings its own
        name, beside = "independent", f"--method {args.method}"
    else:
        name = args.noise or "dependency"
        beside = f"--noise {name}"
    kind = NOISES[name]
    given = {o: getattr(args, o) for o in OF_NOISE if getattr(args, o) is not None}
    unused = given.keys() - {f.name for f in fields(kind)}
    if args.camera is not None and (args.method or name != "dependency"):
        raise InputError(f"--camera moves dependency noise: leave it or {beside} out")
    if args.method:
        unused |= {o for o in ("noise", "mu", "segment", *given) if getattr(args, o) is not None}
    if unused:
        raise InputError(f"--{min(unused)} has no use with {beside}: leave one of the two out")
    return refused(lambda: kind(**given))


def attention(args: argparse.Namespace) -> FrameAttention | None:
    """How frames share attention; None where it is left to what goes with the noise."""
    if args.segment is not None and (args.loop or args.noise == "loop"):
        raise InputError("--segment would tear a loop: leave one of the two out")
    given = {name: v for name in ("mu", "segment") if (v := getattr(args, name)) is not None}
    return refused(lambda: FrameAttention(**given)) if given else None


def order(args: argparse.Namespace, frames: int, one: bool) -> Whole | Stream:
    """How shots of F frames are run, or the one shot that is asked for."""
    together = not args.split_guidance
    if one and ranks.count() > 1:
        for name in ("graph", "keep_state", "host_state", "half_state"):
            if getattr(args, name):
                raise InputError(f"--{name.replace('_', '-')} is of one process: leave it out")
        chunk = min(Stream.chunk, -(-frames // ranks.count())) if args.chunk is None else args.chunk
        return refused(lambda: Stream(chunk, together))
    if not args.stream:
        return refused(lambda: Whole(args.chunk, together, args.graph))
    if args.graph:
        raise InputError("--graph has no use with --stream: leave one of the two out")
    chunk = Stream.chunk if args.chunk is None else args.chunk
    memory = Memory(args.host_state, args.half_state, args.keep_state)
    return refused(lambda: Stream(chunk, together, memory))


def features(
    args: argparse.Namespace,
    frames: Tensor | None,
    mask: Tensor | None,
    steered: Sequence[Feature] = (),
    order: Whole = WHOLE,
) -> list[Feature]:
    """What changes the shot.

    Args:
        frames: of --init or --edit, as the clip needs them.
        mask: of --mask.
        steered: of --control and --image.
        order: of the way up to --init's noise.
    """
    made: list[Feature] = []
    if args.camera is not None:
        made.append(refused(lambda: Camera.parse(args.camera)))
    if args.method == "ddim":
        made.append(FrameByFrame())
    if frames is not None and args.init is not None:
        strength = {} if args.strength is None else {"strength": args.strength}
        if args.invert:
            made.append(Invert(frames, **strength, order=order))
        else:
            made.append(Init(frames, **strength))
        if mask is not None:
            made.append(Mask(frames, mask, args.mask_strength or 0.0))
    if frames is not None and args.edit is not None:
        made.append(Edit(frames) if args.image_cfg is None else Edit(frames, args.image_cfg))
    made += steered
    if args.method == "text2video-zero":
        made.append(Text2VideoZero())  # moves what the features before it start from
    if args.prompt_at is not None:
        made.append(Travel(travelled(args.prompt_at)))
    if args.deepcache is not None:
        made.append(DeepCache(args.deepcache))
    if args.fps_mult is not None:
        made.append(Between(args.fps_mult))  # of all that the others made
    return made


def travelled(points: Sequence[tuple[str, str]]) -> dict[int, str]:
    """The pairs of --prompt-at.

    Raises:
        InputError: what should be a frame is none, or is given twice.
    """
    prompts: dict[int, str] = {}
    for frame, text in points:
        if not re.fullmatch(r"\d{1,9}", frame) or int(frame) in prompts:
            raise InputError(f"--prompt-at takes a frame, from 0 and once each, not {frame}")
        prompts[int(frame)] = text
    return prompts


def prompts(args: argparse.Namespace) -> list[str]:
    """The prompt, or the lines of --prompts-file; `#` begins a comment.

    Raises:
        InputError: both or none are given, or the file has none.
    """
    named = "--" if args.named == [] else args.named  # what argparse makes of --prompt=--
    given = [p for p in (args.prompt, named, args.prompts_file) if p is not None]
    if len(given) != 1:
        raise InputError('give either a "PROMPT" or --prompts-file FILE')
    if args.prompts_file is None:
        return given
    try:
        text = args.prompts_file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{args.prompts_file} cannot be read as text: {error}") from error
    lines = (line.strip() for line in text.split("\n"))
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError(f"{args.prompts_file} holds no prompt: write one a line")
    return found
