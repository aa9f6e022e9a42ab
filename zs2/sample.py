"""Make a video from a prompt: python -m zs2.sample "PROMPT" [options].

Nothing heavy is imported before the words of the command line are known to be right.
"""

import os
import sys
from collections.abc import Sequence

from zs2.cli.options import build_parser
from zs2.cli.terminal import print_anything, say


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    print_anything()
    if "torch" not in sys.modules:
        # Threads that spin while they wait take the cores from whatever else runs here. OpenMP
        # reads this once, when torch is imported; what the user has set stays.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from zs2.cli.make import make

        return make(args)
    except KeyboardInterrupt:
        say("interrupted, nothing half-written is left")
        return 130


if __name__ == "__main__":
    sys.exit(main())
