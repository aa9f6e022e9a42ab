"""What became of an adapter's file: how much of it was applied, and what was not."""

from collections.abc import Mapping
from dataclasses import dataclass

_SHOWN = 4  # names that a line has room for


@dataclass(frozen=True)
class Receipt:
    """What was done with a file, by name and count.

    Attributes:
        file: as it was given.
        what: what it is, in words: "an SDXL LoRA".
        applied: how many of what, as {"LoRA in the UNet": 192}.
        unused: the names of its tensors that were not applied.
    """

    file: str
    what: str
    applied: Mapping[str, int]
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        used = ", ".join(f"{count} {words}" for words, count in self.applied.items())
        line = f"{self.file}: {self.what}, applied: {used or 'nothing'}"
        return f"{line}; unused: {cut(self.unused)}" if self.unused else line


def cut(names: tuple[str, ...] | list[str]) -> str:
    """The first of many names, and how many there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{len(names)} tensors, as {shown}"
