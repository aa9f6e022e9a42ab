"""What a command that computes does first, before torch is imported."""

import os

from zs2.cli.terminal import print_anything

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def start() -> None:
    """stdout takes every prompt, and threads wait without working.

    The threads that share torch's work spin while they wait for more of it. Beside another busy
    process they keep each other from working by that, and a clip takes several times as long
    (`benchmarks.command` has what it takes without). Alone on the machine it takes about the same,
    but more where two cores are one core's threads. Whoever set it otherwise is obeyed.
    """
    print_anything()
    if not os.environ.keys() & {*WAITING}:
        os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch is loaded
