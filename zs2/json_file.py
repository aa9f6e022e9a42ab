"""A JSON file that holds one object."""

import json
from pathlib import Path

from zs2.errors import InputError

_MOST_BYTES = 100_000_000  # the largest of real files, a tokenizer's, has a few millions
_DEEPEST = 20  # what is nested deeper than Python's stack could not even be compared or printed


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise InputError(f"{path} is too large for a JSON file of a model: is it the right one?")
    try:
        values = parse_json(text.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no JSON object")
    return values


def parse_json(text: str) -> object:
    """The value that a JSON text holds.

    Raises:
        ValueError: it is not JSON, or nested so deep that nothing could be done with it.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    layer = [value]
    for _ in range(_DEEPEST):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if layer:
        raise ValueError("it is nested too deep")
    return value


def require_file(path: Path) -> None:
    """Refuse what exists and is no file: reading a named pipe would wait forever.

    Raises:
        InputError: it is a folder, a pipe or a device.
    """
    try:
        odd = path.exists() and not path.is_file()
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if odd:
        raise InputError(f"{path} is no regular file: give a file")
