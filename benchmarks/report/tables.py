"""Tables in Markdown, and the small print under them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import slug

Result = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(result: Result) -> str:
    """What a figure was measured on, small print under its table."""
    torch = result["versions"]["torch"]
    count = result["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if "cpu" in torch else ""
    note = f", {result['note']}" if "note" in result else ""
    return (
        f"<sub>{result['device']}{threads}, {result['dtype']}, torch {torch}, "
        f"commit {result['commit']}, {result['date']}{note}</sub>"
    )


def seconds(time: float) -> str:
    return f"{time:.3g} s" if time >= 0.1 else f"{1000 * time:.3g} ms"


def plot_path(name: str, result: Result) -> str:
    """Where the plot of a result by this name lies."""
    return f"docs/{slug(name)}-{slug(result['device'])}.svg"


def image(name: str, result: Result, said: str) -> str:
    """It, on docs/results.md."""
    return f"![{said}]({Path(plot_path(name, result)).name})"


def plus_minus(found: Sequence[float], decimals: int) -> str:
    """A mean, and half the width of its interval."""
    mean, low, high = found
    return f"{mean:.{decimals}f} ± {(high - low) / 2:.{decimals}f}"
