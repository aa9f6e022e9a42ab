"""A JSON file becomes a configuration: known keys by their type, others only where harmless.

A configuration is a dataclass, named and defaulted as the field's own files are. Two class
variables may say more: NEUTRAL, other keys of real files with the one value that is computed (a key
it lacks must be off; without NEUTRAL any key may come), and OMITTED, what a left-out key means
where our default is another.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zs2.errors import InputError

C = TypeVar("C")

_MOST = {"num_hidden_layers": 100, "layers_per_block": 20}
"""Of what a network is built from: real ones have a third of it, a billion would never be built."""
_MOST_WORDS = 10_000
_MOST_LEVELS = 10  # of any list


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
            if supported and isinstance(value, int) and value > _MOST.get(key, value):
                raise InputError(f"{where}: {key} = {value} is not supported: at most {_MOST[key]}")
            given[key] = tuple(value) if isinstance(value, list) else value
        elif neutral is not None:
            allowed = neutral.get(key, False)  # a switch nobody knows is harmless while it is off
            items = value if isinstance(value, list) else [value]
            supported = allowed == "any" or all(item == allowed for item in items)
        else:
            continue
        if not supported:
            raise InputError(f"{where}: {_short(key)} = {_short(value)} is not supported")
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
        kind = get_args(hint)[0]
        most = _MOST_WORDS if kind is str else _MOST_LEVELS
        if not isinstance(value, list) or len(value) > most:
            return False
        return all(_fits(item, kind) for item in value)
    if hint in (int, float):
        kinds = (int, float) if hint is float else int
        # The comparison is false for NaN and Inf, which JSON files may hold too.
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, hint)


def _short(value: object) -> str:
    """A value for a message: the first characters of a long one, and nothing unprintable."""
    brief = reprlib.Repr()
    brief.maxstring = 80
    return brief.repr(value).strip("'")
