"""Whether a model is whole: its networks, a line each, against the names that they should have.

These are read off networks without memory, so this part of `inspect` needs torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap

from zs2.checkpoint.build import expected_shapes, same_shape
from zs2.checkpoint.config import read_config
from zs2.checkpoint.folder import tensors
from zs2.checkpoint.header import Entry
from zs2.checkpoint.kinds import Kind
from zs2.checkpoint.names import HARMLESS, PREFIX, TEXT_PREFIXES
from zs2.checkpoint.plan import NETWORKS
from zs2.checkpoint.single_file import configured, predicted, single_file_tensors
from zs2.cli.describe_file import row, size_of
from zs2.errors import InputError
from zs2.json_file import read_json


def folder_networks(path: Path) -> Iterator[str]:
    """The networks of a Hugging Face folder, a line each, and what else is there."""
    present = [name for name in NETWORKS if (path / name / "config.json").exists()]
    for name in present:
        entries = tensors(path, name)
        where = path / name / "config.json"
        model, config = NETWORKS[name]
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
    second = ["tokenizer_2"] if "text_encoder_2" in present else []
    for part in ("unet", "vae", "text_encoder", "tokenizer", *second):
        if part not in present and not (path / part).is_dir():
            yield row(part, "missing")


def file_networks(entries: Mapping[str, Entry], kind: Kind) -> Iterator[str]:
    """The networks of a single file, a line each, and what else is there."""
    preset = configured(entries, kind)
    if preset is None:
        return
    for part, found in single_file_tensors(entries, preset).items():
        shapes = expected_shapes(NETWORKS[part][0], getattr(preset, part))
        yield row(part, f"{size_of(found)}{_difference(shapes, found)}")
    guess = predicted(entries, kind) or "epsilon"
    yield row("prediction", kind.prediction or f"{guess}, unless --prediction says otherwise")
    yield row("tokenizer", "none inside: CLIP's own")
    networks = (*PREFIX.values(), *(p for some in TEXT_PREFIXES.values() for p in some))
    if spare := [k for k in entries if HARMLESS.search(k) or not k.startswith(networks)]:
        yield row("besides", f"{len(spare)} tensors that are not needed, as {spare[0]}")


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Entry]) -> str:
    missing = [k for k in expected if k not in found]
    misshaped = [
        e.name for k, e in found.items() if k in expected and not same_shape(e.shape, expected[k])
    ]
    spare = [k for k in set(found) - set(expected) if not k.endswith("position_ids")]
    faults = {"missing": missing, "of another shape": misshaped, "too many": sorted(spare)}
    told = [f", {len(keys)} tensors {how}, as {keys[0]}" for how, keys in faults.items() if keys]
    return "".join(told) or ", complete"
