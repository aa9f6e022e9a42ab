"""What is this file? python -m zs2.inspect PATH

A model or an adapter: its kind and family, what is in it, and the command that uses it. A clip that
zs2 made: its settings, and the command that makes it again.

Files are told from their headers. torch takes seconds to import, so only what needs it does that,
after what is told without.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from zs2.checkpoint.header import component_weights
from zs2.checkpoint.hub import COMPONENTS, local_path
from zs2.checkpoint.identity import identify
from zs2.checkpoint.kinds import Family, Kind, Role, unusual_input
from zs2.cli.describe_file import details, size_of, use
from zs2.cli.terminal import Parser, answer, print_anything, say
from zs2.errors import InputError
from zs2.json_file import read_json

CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".png", ".jpg")


def describe_path(path: Path) -> Iterator[str]:
    """Lines that say what a path is.

    Raises:
        InputError: it is broken, or nothing that zs2 knows.
    """
    if path.suffix.lower() in CLIPS or (path.is_dir() and (path / "0001.png").exists()):
        from zs2.cli.describe_clip import describe_clip

        yield from describe_clip(path)
    elif any((path / name / "config.json").exists() for name in COMPONENTS):
        yield from _model_folder(path)
    else:
        entries = component_weights(path)
        kind = identify(entries)
        yield f"{path}: {kind.words}, {size_of(entries)}"
        yield use(path, entries, kind)
        yield from details(path, entries, kind)
        if kind.role is Role.MODEL:
            from zs2.cli.describe_model import file_networks

            yield from file_networks(entries, kind)


def _model_folder(path: Path) -> Iterator[str]:
    config = path / "unet/config.json"
    if config.exists():
        values = read_json(config)
        family = Family.of(values.get("cross_attention_dim"))
        channels = values.get("in_channels", 4)
        odd = unusual_input(channels)
        what = f", {odd}" if odd else ", Instruct-Pix2Pix" if channels == 8 else ""
        yield f"{path}: {family.value if family else 'Stable Diffusion'} folder{what}"
        if not odd:
            yield use(path, {}, Kind("", Role.MODEL, inputs=8 if channels == 8 else 4))
    from zs2.cli.describe_model import folder_networks

    yield from folder_networks(path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m zs2.inspect",
        description="Say what a model or an adapter is and how it is used, or how a clip was made.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="a file or folder of weights, or a clip that zs2 made (default: the small model)",
    )
    args = parser.parse_args(argv)
    print_anything()
    try:
        path = _small() if args.path is None else local_path(args.path)
        if path is None:
            raise InputError(f"{args.path} does not exist")
        for line in describe_path(path):
            answer(line)
    except InputError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _small() -> Path:
    from zs2.weights import SMALL

    return SMALL


if __name__ == "__main__":
    sys.exit(main())
