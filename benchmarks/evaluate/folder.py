"""A folder of results: its settings, and a clip and its figures for each prompt, seed and method.

    settings.json          what all its clips share
    clips/NAME.webp        a clip, its own settings inside
    clips/NAME.json        its method's settings and its figures; written last, so what has them is
                           finished
    rows.csv               clip, method, prompt, seed, metric, frame, value: made of the above at
                           the end; frame is empty where a figure is of the whole clip

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

COLUMNS = ("clip", "method", "prompt", "seed", "metric", "frame", "value")
TOLD = ("model", "clip_score")
"""Settings that are told and not compared: a path, and words, where weights are the same."""
Figure = float | Sequence[float]
"""Of a clip, or of each of its frames."""


@dataclass(frozen=True)
class Row:
    """A figure of a clip, or of one of its frames, from 1."""

    clip: str
    method: str
    prompt: str
    seed: int
    metric: str
    frame: int | None
    value: float


@dataclass(frozen=True)
class Folder:
    """Where results lie."""

    path: Path

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Make the folder for clips of these settings.

        Raises:
            InputError: it holds clips of other settings, or cannot be made.
        """
        try:
            (self.path / "clips").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} cannot hold results: {error.strerror}") from error
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
        for key in sorted({*told, *settings} - {*TOLD}):
            if told.get(key) != settings.get(key):
                raise InputError(
                    f"{self.path} holds results of another {key}, {told.get(key)!r:.60} and not "
                    f"{settings.get(key)!r:.60}: choose another folder"
                )

    def clip(self, method: str, prompt: str, seed: int) -> Path:
        """Where a clip belongs, without its suffix."""
        told = json.dumps([method, prompt, seed]).encode()
        return self.path / "clips" / hashlib.sha256(told).hexdigest()[:16]

    def finish(
        self, method: str, settings: str, prompt: str, seed: int, figures: Mapping[str, Figure]
    ) -> None:
        """Keep a clip's figures."""
        told = {"method": method, "settings": settings, "prompt": prompt, "seed": seed}
        text = json.dumps({**told, "figures": dict(figures)}) + "\n"
        write(self.clip(method, prompt, seed).with_suffix(".json"), text)

    def finished(self, method: str, settings: str, prompt: str, seed: int) -> bool:
        """Whether a clip is there, and of a method that still means the same."""
        path = self.clip(method, prompt, seed).with_suffix(".json")
        return path.exists() and read(path)["settings"] == settings

    def rows(self, methods: Mapping[str, str], prompts: Sequence[str]) -> Iterator[Row]:
        """All figures of these methods and prompts, in an order that depends on nothing else.

        Args:
            methods: by name, what their settings are; clips of others by that name are left out.

        Raises:
            InputError: a file is damaged.
        """
        for path in sorted((self.path / "clips").glob("*.json")):
            told = read(path)
            if methods.get(told["method"]) != told["settings"] or told["prompt"] not in prompts:
                continue
            about = path.stem, told["method"], told["prompt"], told["seed"]
            for metric, value in told["figures"].items():
                if isinstance(value, list):
                    yield from (Row(*about, metric, i, v) for i, v in enumerate(value, start=1))
                else:
                    yield Row(*about, metric, None, value)


def read(path: Path) -> dict[str, Any]:
    """What is kept of a clip.

    Raises:
        InputError: it is damaged.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
        kept = {key: told[key] for key in ("method", "settings", "prompt", "seed", "figures")}
        kept["figures"] = {
            metric: [*map(float, v)] if isinstance(v, list) else float(v)
            for metric, v in kept["figures"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: delete it ({error})") from error
    return kept


def gathered(
    folders: Sequence[Folder], methods: Mapping[str, str], prompts: Sequence[str]
) -> list[Row]:
    """The rows of folders with the same settings.

    Raises:
        InputError: their settings differ, or one has none.
    """
    settings = folders[0].settings()
    found: dict[tuple[str, str, int], Row] = {}
    for folder in folders:
        told = folder.settings()
        if told is None or settings is None:
            raise InputError(f"{folder.path} holds no results")
        folder.same(told, settings)
        rows = folder.rows(methods, prompts)
        found |= {(row.clip, row.metric, row.frame or 0): row for row in rows}
    return [found[key] for key in sorted(found)]


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
