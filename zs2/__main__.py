"""One command for all: python -m zs2 COMMAND, and the same as zs2 COMMAND once it is installed."""

import sys
from collections.abc import Sequence
from importlib import import_module

from zs2.cli.terminal import answer, say
from zs2.version import __version__

COMMANDS = {
    "sample": "make a video from a prompt",
    "extend": "make more frames of a clip",
    "enhance": "make a clip larger, or smoother",
    "evaluate": "measure how clips move and hold together",
    "inspect": "say what a checkpoint is, or how a clip was made",
}
USAGE = [
    "usage: zs2 COMMAND [options]",
    "",
    "Training-free text-to-video from any Stable Diffusion checkpoint.",
    "",
    *(f"  {name:<12}{what}" for name, what in COMMANDS.items()),
    "",
    "zs2 COMMAND --help shows a command's options, zs2 --version the version.",
]


def main(argv: Sequence[str] | None = None) -> int:
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        for line in USAGE:
            answer(line)
    elif command == "--version":
        answer(f"zs2 {__version__}")
    elif command in COMMANDS:
        return import_module(f"zs2.{command}").main(rest)
    else:
        say(f"{command} is no command: use {', '.join(COMMANDS)}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
