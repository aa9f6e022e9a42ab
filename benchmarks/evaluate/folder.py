"""A folder of results: its settings, and a clip and its figures for each prompt, seed and method.

    settings.json          what all its clips share
    clips/NAME.webp        a clip, its own settings inside
    clips/NAME.json        its figures; written last, so what has them is finished
    rows.csv               clip, method, prompt, seed, metric, value: made of the above at the end

Nothing is written in place: a run that is killed loses the clip it was at, and several runs may
share a folder.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zs2.errors import InputError

COLUMNS = ("clip", "method", "prompt", "seed", "metric", "value")


@dataclass(frozen=True)
class Row:
    """A figure of a clip."""

    clip: str
    method: str
    prompt: str
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class Folder:
    """Where results lie."""

    path: Path

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Make the folder for clips of these settings.

        Raises:
            InputError: it holds clips of other settings.
        """
        (self.path / "clips").mkdir(parents=True, exist_ok=True)
        told = self.settings()
        if told is None:
            write(self.path / "settings.json", json.dumps(settings, indent=1) + "\n")
        else:
            self.same(told, settings)

    def settings(self) -> dict[str, Any] | None:
        path = self.path / "settings.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(f"{path} is damaged: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no settings")
        return found

    def same(self, told: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """InputError unless both are the same."""
        for key in sorted({*told, *settings}):
            if told.get(key) != settings.get(key):
                raise InputError(
                    f"{self.path} holds results of another {key}, {told.get(key)!r:.60} and not "
                    f"{settings.get(key)!r:.60}: choose another folder"
                )

    def clip(self, method: str, prompt: str, seed: int) -> Path:
        """Where a clip belongs, without its suffix."""
        told = json.dumps([method, prompt, seed]).encode()
        return self.path / "clips" / hashlib.sha256(told).hexdigest()[:16]

    def finish(self, method: str, prompt: str, seed: int, figures: Mapping[str, float]) -> None:
        """Keep a clip's figures."""
        told = {"method": method, "prompt": prompt, "seed": seed, "figures": dict(figures)}
        write(self.clip(method, prompt, seed).with_suffix(".json"), json.dumps(told) + "\n")

    def finished(self, method: str, prompt: str, seed: int) -> bool:
        return self.clip(method, prompt, seed).with_suffix(".json").exists()

    def rows(self) -> Iterator[Row]:
        """All figures, in an order that depends on nothing else.

        Raises:
            InputError: a file is damaged.
        """
        for path in sorted((self.path / "clips").glob("*.json")):
            try:
                told = json.loads(path.read_text("utf-8"))
                about = path.stem, told["method"], told["prompt"], told["seed"]
                yield from (Row(*about, m, float(v)) for m, v in told["figures"].items())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{path} is damaged: delete it ({error})") from error


def gathered(folders: Sequence[Folder]) -> list[Row]:
    """The rows of folders with the same settings.

    Raises:
        InputError: their settings differ, or one has none.
    """
    settings = folders[0].settings()
    rows: dict[tuple[str, str], Row] = {}
    for folder in folders:
        told = folder.settings()
        if told is None or settings is None:
            raise InputError(f"{folder.path} holds no results")
        folder.same(told, settings)
        rows |= {(row.clip, row.metric): row for row in folder.rows()}
    return [rows[key] for key in sorted(rows)]


def table(rows: Sequence[Row]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows([getattr(row, name) for name in COLUMNS] for row in rows)
    return text.getvalue()


def write(path: Path, text: str) -> None:
    """A file that is whole under its name, or not there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, "utf-8")
    os.replace(part, path)
