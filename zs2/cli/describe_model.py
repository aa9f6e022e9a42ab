"""Whether a model is whole: its networks, a line each, against the names that they should have.

These are read off networks without memory, so this part of `inspect` needs torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap

from zs2.checkpoint.build import expected_shapes, same_shape
from zs2.checkpoint.config import read_config
from zs2.checkpoint.family import preset_of
from zs2.checkpoint.header import Entry
from zs2.checkpoint.kinds import Kind
from zs2.checkpoint.load import COMPONENTS, single_file_names, tensors
from zs2.checkpoint.names import HARMLESS, PREFIX
from zs2.cli.describe_file import row, size_of
from zs2.errors import InputError
from zs2.json_file import read_json


def folder_networks(path: Path) -> Iterator[str]:
    """The networks of a Hugging Face folder, a line each, and what else is there."""
    present = [name for name in COMPONENTS if (path / name / "config.json").exists()]
    for name in present:
        entries = tensors(path, name)
        where = path / name / "config.json"
        model, config = COMPONENTS[name]
        try:
            shapes = expected_shapes(model, read_config(config, read_json(where), where), where)
        except InputError as error:
            yield row(name, f"{size_of(entries)}, not supported: {error}")
        else:
            yield row(name, f"{size_of(entries)}{_difference(shapes, entries)}")
    own = path / "zs2.json"
    known = read_json(own).get("words") if own.exists() else None
    if isinstance(known, list):
        yield from wrap(row("words", " ".join(map(str, known))), 96, subsequent_indent=" " * 15)
    scheduler = path / "scheduler/scheduler_config.json"
    values = read_json(scheduler) if scheduler.exists() else {}
    yield row("prediction", str(values.get("prediction_type", "epsilon")))
    for part in (*COMPONENTS, "tokenizer"):
        if part not in present and not (path / part).is_dir():
            yield row(part, "missing")


def file_networks(entries: Mapping[str, Entry], kind: Kind) -> Iterator[str]:
    """The networks of a single file, a line each, and what else is there."""
    preset = preset_of(kind)
    if preset is None:
        return
    used: set[str] = set()
    for part, table in single_file_names(entries, preset).items():
        shapes = expected_shapes(COMPONENTS[part][0], getattr(preset, part))
        expected = {table[key]: shape for key, shape in shapes.items()}
        used |= set(expected)
        inside = {
            k: e
            for k, e in entries.items()
            if k.startswith(PREFIX[part]) and (k in used or not HARMLESS.search(k))
        }
        yield row(part, f"{size_of(inside)}{_difference(expected, inside)}")
    yield row("prediction", kind.prediction or "epsilon, unless --prediction says otherwise")
    yield row("tokenizer", "none inside: CLIP's own")
    if spare := [k for k in entries if k not in used and not k.startswith(tuple(PREFIX.values()))]:
        yield row("besides", f"{len(spare)} tensors that are not needed, as {spare[0]}")


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Entry]) -> str:
    missing = [k for k in expected if k not in found]
    misshaped = [
        k for k, e in found.items() if k in expected and not same_shape(e.shape, expected[k])
    ]
    spare = [k for k in set(found) - set(expected) if not k.endswith("position_ids")]
    faults = {"missing": missing, "of another shape": misshaped, "too many": sorted(spare)}
    told = [f", {len(keys)} tensors {how}, as {keys[0]}" for how, keys in faults.items() if keys]
    return "".join(told) or ", complete"
