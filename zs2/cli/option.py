"""One option of a command line, and what its words become."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zs2.timeline import Keyframes, PerFrame

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def values(text: str) -> PerFrame:
    """One number for all frames, numbers with commas between, or key frames "0:(0), 24:(0.1)"."""
    if ":" in text:
        try:
            return Keyframes.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor numbers with commas between"
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def size(text: str) -> tuple[int, int]:
    """(width, height) from "512" or "768x512"."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give pixels as 512 or 768x512")
    return sides


def limit(text: str) -> int | str:
    """The bytes of "6GB", "500 MiB" or a number; "auto" as it is."""
    if text == "auto":
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give it as 6GB, 800MB, or auto")
    return int(float(match[1]) * UNITS[match[2] or ""])


@dataclass(frozen=True)
class Option:
    """A row of the table.

    Attributes:
        flags: all its names; the first long one is its key in the settings.
        value: what stands for its value in the help; "" is a switch.
        help: what it does.
        kind: text to value; a tuple lists the words it may be.
        default: where it is not given; None leaves the choice to what the option is for.
        stored: whether it shapes the clip, and so is stored in it and printed back.
        repeat: how many words it takes, where it may be given again and again; else 0.
    """

    flags: str
    value: str
    help: str
    kind: Callable[[str], Any] | tuple[str, ...] = str
    default: Any = None
    stored: bool = True
    repeat: int = 0

    @property
    def name(self) -> str:
        return next(flag[2:] for flag in self.flags.split() if flag.startswith("--"))

    def add_to(self, group: Any) -> None:
        """The row as argparse takes it."""
        shared: dict[str, Any] = {"help": self.help, "dest": self.name.replace("-", "_")}
        if not self.value:
            shared |= {"action": "store_true"}
        else:
            shared |= {"metavar": self.value, "default": self.default}
            if isinstance(self.kind, tuple):
                shared["choices"] = self.kind
            else:
                shared["type"] = self.kind
            if self.repeat:
                shared["action"] = "append"
            if self.repeat > 1:
                shared |= {"nargs": self.repeat, "metavar": tuple(self.value.split())}
        group.add_argument(*self.flags.split(), **shared)
