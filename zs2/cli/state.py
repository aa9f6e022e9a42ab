"""--keep-state and --resume: a stream's folder, before a model is loaded."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zs2 import media
from zs2.errors import InputError
from zs2.memory import told_in

ANY = {"frames", "fps", "stream", "chunk"}
"""The settings that a clip may go on with others of: they change how many frames there are, and how
they are computed, but not what they show."""


def prepare(args: argparse.Namespace) -> dict[str, Any] | None:
    """Make the folder of --keep-state, and take the seed of what it keeps.

    Returns:
        What the folder's state belongs to; None where there is none.

    Raises:
        InputError: the folder cannot be used as was asked.
    """
    folder: Path | None = args.keep_state
    if folder is None:
        return None
    if args.count > 1 or args.prompts_file is not None:
        raise InputError("--keep-state keeps one clip: leave out --count and --prompts-file")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--keep-state {folder} cannot be made: {error.strerror}") from error
    told = told_in(folder)
    if told is not None and not args.resume:
        raise InputError(
            f"{folder} keeps a state already: go on from it with --resume, or choose another folder"
        )
    if told is not None and args.seed is None:
        args.seed = told.get("seed")
    return told


def begun(path: Path, told: Mapping[str, Any] | None) -> bool:
    """Whether what is at a path is the beginning of the clip that a state belongs to."""
    target = path if path.exists() else path.with_suffix("")
    if told is None or not target.exists():
        return False
    try:
        found = media.read_settings(target)
    except InputError:
        return False
    return all(found.get(key) == told.get(key) for key in ("prompt", "seed", "model"))


def belongs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a state belongs to: the settings of its clip without those that may change."""
    # A loop's noise lies on a circle of as many points as it has frames.
    fixed = {"frames"} if settings.get("noise") == "loop" else set()
    return {key: value for key, value in settings.items() if key not in ANY - fixed}
