"""More frames of a clip that zs2 made: python -m zs2.extend CLIP --frames N.

The clip is the one that N frames would have been from the beginning. Where it was streamed with
--keep-state, only the new frames are computed; else all of them, from the settings in the file.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from zs2 import sample
from zs2.cli.describe_clip import words
from zs2.cli.terminal import Parser, print_anything, say
from zs2.clip_file import beside, own_parts, read_settings
from zs2.errors import InputError


def command(path: Path, frames: int, output: Path | None, overwrite: bool) -> list[str]:
    """The words for `zs2.sample` that make a clip with more frames.

    Raises:
        InputError: the clip is not zs2's, or cannot be made again, or has that many frames.
    """
    settings = read_settings(path)
    now = settings.get("frames")
    if "prompt" not in settings or type(now) is not int:
        raise InputError(f"{path} does not say how it was made: only clips of zs2's are extended")
    if "esrgan" in settings:
        raise InputError(f"{path} was enlarged: extend {settings.get('of')}, which it was made of")
    if own := own_parts(settings):
        raise InputError(f"{path} cannot be made again: its {', '.join(own)} came from a program")
    if frames <= now:
        raise InputError(f"{path} has {now} frames: --frames takes more than that, not {frames}")
    if settings.get("noise") == "loop":
        raise InputError(f"{path} is a loop: it has no end to go on from")
    target = output or beside(path, str(frames))
    kept = settings.pop("state", None)
    said = words({**settings, "frames": frames})
    if kept is not None and Path(str(kept)).is_dir():
        said += [f"--keep-state={kept}", "--resume"]
    else:
        say(f"no state of {path} is kept: its first {now} frames are computed again")
    return [*said, f"--output={target}", *(["--overwrite"] if overwrite else [])]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m zs2.extend",
        description="Make more frames of a clip that zs2 made: the same clip, and longer.",
    )
    parser.add_argument("path", metavar="CLIP", type=Path, help="a clip that zs2 made")
    parser.add_argument("--frames", metavar="N", type=int, required=True, help="frames in all")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: CLIP-N")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args(argv)
    print_anything()
    try:
        said = command(args.path, args.frames, args.output, args.overwrite)
    except InputError as error:
        say(error)
        return 2
    return sample.main(said)


if __name__ == "__main__":
    sys.exit(main())
