"""Make a video from a prompt: python -m zs2.sample "PROMPT" [options].

Nothing heavy is imported before the words of the command line are known to be right.
"""

import sys
from collections.abc import Sequence

from zs2.cli.options import build_parser
from zs2.cli.start import start
from zs2.cli.terminal import quiet_interrupt, say


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    start()
    with quiet_interrupt():
        from zs2.cli.make import make
    try:
        return make(args)
    except KeyboardInterrupt:
        say("interrupted: nothing half-written is left, clips that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())
