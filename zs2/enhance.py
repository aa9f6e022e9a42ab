"""A larger clip, or a smoother one: python -m zs2.enhance CLIP --scale 2, or --fps-mult 2.

With --esrgan FILE an upscaler enlarges each frame of any clip or picture. Without it, a clip of
zs2's own is enlarged and then partly sampled again at its new size, with its own prompt and noise
(a second pass), which finds detail that no upscaler can know. --fps-mult makes a clip of zs2's own
once more, with frames between.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zs2 import sample
from zs2.cli import describe_clip
from zs2.cli.start import start
from zs2.cli.terminal import Parser, answer, progress_bar, say
from zs2.clip_file import beside, own_parts, read_settings
from zs2.errors import InputError

STRENGTH = 0.4
"""Of the second pass: enough for detail, too little for another layout."""


def made_again(path: Path, else_do: str, *replaced: str) -> dict[str, Any]:
    """The settings of a clip that zs2 can make again, apart from those that will be replaced.

    Raises:
        InputError: it is not zs2's; `else_do` says what can be done with it.
    """
    settings = read_settings(path)
    if "prompt" not in settings or "size" not in settings:
        raise InputError(f"{path} does not say how it was made: {else_do}")
    if "esrgan" in settings:
        raise InputError(f"{path} was enlarged: give {settings.get('of')}, which it was made of")
    if own := [key for key in own_parts(settings) if key not in replaced]:
        raise InputError(f"{path} cannot be made again: its {', '.join(own)} came from a program")
    return settings


def between(args: argparse.Namespace) -> int:
    """Make a clip once more, with frames between; the exit status.

    What a lossless file holds stays as it is to the bit: sums in another order change a pixel here
    and there.

    Raises:
        InputError: the clip is not zs2's.
    """
    from zs2 import media

    target = output(args, f"f{args.fps_mult}")
    settings = made_again(args.path, "only clips of zs2's get frames between")
    settings.pop("state", None)
    before, fps = settings.get("fps-mult") or 1, settings.get("fps") or 8
    told = {**settings, "fps-mult": before * args.fps_mult, "fps": fps * args.fps_mult}
    status = sample.main(words(args, told, target))
    same = args.path.suffix in ("", target.suffix)  # a folder of .png has none
    if status == 0 and same and target.suffix in (".png", ".webp"):
        folder = target.with_suffix("") if target.suffix == ".png" else target
        made, settings = media.read_frames(folder), read_settings(folder)
        made[:: args.fps_mult] = media.read_frames(args.path)
        media.save(target, made, told["fps"], settings, overwrite=True)
    return status


def second_pass(args: argparse.Namespace) -> list[str]:
    """The words for `zs2.sample` that sample a clip again at its larger size.

    Raises:
        InputError: the clip is not zs2's, or its model cannot be asked again.
    """
    from zs2 import media
    from zs2.shots.camera import Camera

    path: Path = args.path
    settings = made_again(path, "give --esrgan FILE, which enlarges any clip", "init")
    size = str(settings.get("size", "")).split("x")
    if len(size) != 2 or not all(map(str.isdecimal, size)):
        raise InputError(f"{path} does not say its size: give --esrgan FILE")
    if settings.get("edit") or settings.get("method") == "text2video-zero":
        raise InputError(f"{path} has no second pass, as it was edited or made by another method")
    for key in ("state", "invert", "mask", "mask-strength", "stream", "half-state"):
        settings.pop(key, None)
    if settings.pop("fps-mult", None):  # those between are frames like any others now
        settings["frames"] = len(media.read_frames(path))
    if settings.get("camera"):  # it goes by pixels
        settings["camera"] = Camera.parse(str(settings["camera"])).times(args.scale)
    larger = "x".join(str(int(side) * args.scale) for side in size)
    told = {
        **settings,
        "size": larger,
        "init": str(path),
        "strength": STRENGTH if args.strength is None else args.strength,
    }
    return words(args, told, output(args, f"x{args.scale}"))


def words(args: argparse.Namespace, told: dict[str, Any], target: Path) -> list[str]:
    """The words for `zs2.sample` that make what is told."""
    said = describe_clip.words(told)
    return [*said, f"--output={target}", *(["--overwrite"] if args.overwrite else [])]


def output(args: argparse.Namespace, kind: str) -> Path:
    given: Path | None = args.output
    return given or beside(args.path, kind)


def with_esrgan(args: argparse.Namespace) -> None:
    """Enlarge a clip frame by frame, and write it while that goes on.

    Raises:
        InputError: the clip or the upscaler cannot be used, or the file cannot be written.
    """
    import torch
    from torch import Tensor

    from zs2 import media
    from zs2.checkpoint.esrgan import load_esrgan
    from zs2.device import pick_device
    from zs2.models.esrgan import upscale
    from zs2.resize import covering

    target = output(args, f"x{args.scale}")
    frames, fps = media.read_clip(args.path)
    media.check_output(target, len(frames), args.overwrite)
    device = pick_device(args.device or "auto")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    net = load_esrgan(args.esrgan, device, dtype)
    height, width = (side * args.scale for side in frames.shape[1:3])
    try:
        settings = read_settings(args.path)
    except InputError:  # not one of zs2's
        settings = {}

    def larger() -> Iterator[Tensor]:
        for i, frame in enumerate(frames, start=1):
            picture = frame.permute(2, 0, 1).to(device) / 255  # (3, H, W)
            with torch.inference_mode():
                made = upscale(net, picture)
            pixels = (made * 255).round().byte().permute(1, 2, 0)[None].cpu()
            yield covering(pixels, width, height)
            progress_bar(i, len(frames))

    told = {**settings, "of": str(args.path), "scale": args.scale, "esrgan": str(args.esrgan)}
    written = media.record(target, larger(), len(frames), fps, told, args.overwrite)
    answer(f"{len(frames)} frames of {width}x{height}, {written}")


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m zs2.enhance",
        description="Make a clip larger, by a second pass of its model or by an upscaler, or "
        "smoother, by frames between its own.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", metavar="CLIP", type=Path, help="a clip of zs2; with --esrgan any clip or picture"
    )
    parser.add_argument(
        "--scale", metavar="N", type=int, help="times as wide and high, 2 (default) to 8"
    )
    parser.add_argument(
        "--fps-mult", metavar="N", type=int, help="times the frames a second, 2 to 8"
    )
    parser.add_argument("--esrgan", metavar="FILE", type=Path, help="an ESRGAN upscaler")
    parser.add_argument(
        "--strength",
        metavar="X",
        type=float,
        help=f"of the second pass, above 0 to 1 (default: {STRENGTH})",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default: CLIP-xN, CLIP-fN"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--device", metavar="NAME", help="of the upscaler (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    start()
    try:
        given = [name for name in ("scale", "fps_mult") if getattr(args, name) is not None]
        if len(given) > 1 or (args.fps_mult and (args.esrgan or args.strength is not None)):
            raise InputError("--fps-mult makes a clip smoother, and no more: leave the others out")
        for name in given:
            if not 2 <= (value := getattr(args, name)) <= 8:
                raise InputError(f"--{name.replace('_', '-')} must lie in 2..8, got {value}")
        if args.device is not None and args.esrgan is None:
            raise InputError("--device is the upscaler's: give --esrgan, or leave it out")
        if args.fps_mult is not None:
            return between(args)
        args.scale = args.scale or 2
        if args.esrgan is None:
            return sample.main(second_pass(args))
        if args.strength is not None:
            raise InputError("--strength is the second pass's: leave it or --esrgan out")
        with_esrgan(args)
    except InputError as error:
        say(error)
        return 2
    except OSError as error:
        say(f"the clip was not written: {error}")
        return 1
    except (RuntimeError, MemoryError) as error:  # torch is there by now: it raised this
        from zs2.device import out_of_memory

        if not (isinstance(error, MemoryError) or out_of_memory(error)):
            raise
        say("out of memory: free some, or try --device cpu")
        return 1
    except KeyboardInterrupt:
        say("interrupted: the frames that were finished are kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
