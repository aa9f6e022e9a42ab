"""How the commands speak: one sentence for an error, a bar on stderr, and help that reads well."""

import argparse
import io
import os
import sys


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        if message.startswith("unrecognized arguments") and "-" not in message:
            message += ": put a prompt of several words in quotes"
        self.exit(2, f"zs2: {message}\n")


class Help(argparse.RawDescriptionHelpFormatter):
    """One column for options, one for what they do; an option is named once with its value."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=96)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {action.metavar}"


def say(message: object) -> None:
    """A sentence for the user on stderr, on a line of its own."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of a bar that was not finished
    print(f"{clear}zs2: {message}", file=sys.stderr)


def answer(line: str) -> None:
    """A line of the result on stdout, at once; it is no error that nobody reads on."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(step: int, steps: int, _: object = None) -> None:
    """A bar on stderr, where that is a terminal."""
    if sys.stderr.isatty():
        done = 30 * step // steps
        end = "\r\x1b[K" if step == steps else ""
        print(
            f"\r{'━' * done}{'╌' * (30 - done)} {step}/{steps}",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def print_anything() -> None:
    """Let stdout take every prompt: what a terminal's encoding lacks is written as \\u73ab."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
