"""A JSON file becomes a configuration: known keys by their type, others only where harmless.

A configuration is a dataclass, named and defaulted as the field's own files are. Two class
variables may say more: NEUTRAL, other keys of real files with the one value that is computed (a key
it lacks must be off; without NEUTRAL any key may come), and OMITTED, what a left-out key means
where our default is another.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zs2.errors import InputError

C = TypeVar("C")


def read_config(cls: type[C], values: Mapping[str, object], where: Path) -> C:
    """A configuration of class `cls` from the keys of the JSON file `where`.

    Raises:
        InputError: a value of the wrong type, or one that would change the result and that zs2
            does not compute.
    """
    hints = get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]
    neutral: dict[str, object] | None = getattr(cls, "NEUTRAL", None)
    given: dict[str, Any] = {}
    for key, value in values.items():
        if value is None or key.startswith("_"):
            continue
        if key in known:
            supported = _fits(value, known[key])
            given[key] = tuple(value) if isinstance(value, list) else value
        elif neutral is not None:
            allowed = neutral.get(key, False)  # a switch nobody knows is harmless while it is off
            items = value if isinstance(value, list) else [value]
            supported = allowed == "any" or all(item == allowed for item in items)
        else:
            continue
        if not supported:
            raise InputError(f"{where}: {key} = {value} is not supported")
    for key, value in getattr(cls, "OMITTED", {}).items():
        given.setdefault(key, value)
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is what a field's annotation says."""
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)
