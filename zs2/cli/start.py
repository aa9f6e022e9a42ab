"""What a command does around the import of torch, which takes seconds."""

import os
import signal


def prepare() -> None:
    """Before the imports: Ctrl-C ends without a traceback, and threads wait without working.

    The threads that share torch's work spin while they wait for more of it. On a machine with
    other work to do that costs more than it gains; whoever set it otherwise is obeyed.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def ready() -> None:
    """After the imports: Ctrl-C is KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
