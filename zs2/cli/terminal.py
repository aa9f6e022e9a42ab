"""How the commands speak: one sentence for an error, a bar on stderr, and help that reads well."""

import argparse
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from zs2.cli import ranks

# Terminals obey these instead of showing them: C0, DEL and C1, line ends, changes of direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST = 2000


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        if message.startswith("unrecognized arguments") and "-" not in message:
            message += ": put a prompt of several words in quotes"
        say(message)
        self.exit(2)


class Help(argparse.RawDescriptionHelpFormatter):
    """One column for options, one for what they do; an option is named once with its value."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=96)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = action.metavar
        words = " ".join(value) if isinstance(value, tuple) else value
        return f"{', '.join(action.option_strings)} {words}"


def say(message: object, own: bool = False) -> None:
    """A sentence for the user on stderr, on a line of its own; the middle of a long one is cut.

    Args:
        own: of several processes it is this one's alone; else process 0 says it for all.
    """
    if ranks.rank() > 0 and not own:
        return
    text = str(message)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    clear = "\r\x1b[K" if _stderr_is_a_terminal() else ""  # of a bar that was not finished
    if sys.stderr is not None:  # or print would take stdout instead
        with suppress(OSError):
            print(f"{clear}zs2: {printable(text)}", file=sys.stderr, flush=True)


def answer(line: str) -> None:
    """A line of the result on stdout, at once; it is no error that nobody reads on."""
    try:
        print(printable(line), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"stdout cannot be written: {error.strerror}")
        # What is still in the buffer goes nowhere, or Python would complain of it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(step: int, steps: int, _: object = None) -> None:
    """A bar on stderr, where that is a terminal."""
    if _stderr_is_a_terminal() and ranks.rank() == 0:
        done = 30 * step // steps
        end = "\r\x1b[K" if step == steps else ""
        print(
            f"\r{'━' * done}{'╌' * (30 - done)} {step}/{steps}",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def printable(text: str) -> str:
    """Text that a terminal only shows: what it would obey is written as \\x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shell_quote(text: str) -> str:
    """A word for a shell's command line, with nothing in it that a terminal would obey.

    As `shlex.quote`, but control characters are written as $'\\x1b', which bash and zsh read.
    """
    if not _CONTROL.search(text):
        return shlex.quote(text)
    text = text.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{_CONTROL.sub(_as_bytes, text)}'"


def _as_bytes(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())


def _stderr_is_a_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # None: a shell's 2>&-


def print_anything() -> None:
    """Let stdout take every prompt: what a terminal's encoding lacks is written as \\u73ab."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """While torch is imported, which takes seconds, Ctrl-C ends the program without a traceback."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:  # somebody else's, or a thread's own
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
