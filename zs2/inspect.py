"""What is this file? python -m zs2.inspect PATH

A checkpoint: its family, precision, size, and what is missing or left over, from headers alone.
A clip that zs2 made: its settings, and the command line that makes it again.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from zs2.checkpoint.build import expected_shapes, same_shape
from zs2.checkpoint.config import read_config
from zs2.checkpoint.family import preset_of
from zs2.checkpoint.header import Entry, read_header
from zs2.checkpoint.hub import local_path
from zs2.checkpoint.identity import identify
from zs2.checkpoint.kinds import Family, Role, unusual_input
from zs2.checkpoint.load import COMPONENTS, single_file_names, tensors
from zs2.checkpoint.names import HARMLESS, PREFIX
from zs2.cli.options import TABLE
from zs2.cli.terminal import Parser, answer, print_anything, say, shell_quote
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.settings import OWN
from zs2.weights import SMALL

CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".png", ".jpg")
OPTIONS = {option.name: option for option in TABLE if option.stored}


def describe_clip(path: Path) -> Iterator[str]:
    """The settings of a clip, a line each, and its command line."""
    from zs2.media import read_settings

    settings = read_settings(path)
    for key, value in _given(settings).items():
        yield f"{key:<15}{_text(value)}"
    if own := [key for key, value in settings.items() if value == OWN]:
        yield ""
        yield f"no command makes it again: {', '.join(own)} came from a program of one's own"
    elif "prompt" in settings:
        again = path.with_name(f"{path.stem}-again{path.suffix or '.png'}")
        yield ""
        yield f"{command_line(settings)} {shell_quote(f'--output={again}')}"


def command_line(settings: Mapping[str, object]) -> str:
    """The command that makes a clip with these settings."""
    prompt = str(settings["prompt"])
    words = ["python", "-m", "zs2.sample"]
    words.append(f"--prompt={prompt}" if prompt.startswith("-") else prompt)
    for option, value in _given(settings).items():
        if option in OPTIONS and OPTIONS[option].repeat == 1 and isinstance(value, list):
            words += [f"--{option}={item}" for item in value]
        elif option in OPTIONS and OPTIONS[option].repeat and isinstance(value, list):
            words += [word for item in value for word in (f"--{option}", *map(str, item))]
        elif option in OPTIONS:
            # Joined with "=", a value that begins with a dash is not taken for an option.
            words.append(f"--{option}" if value is True else f"--{option}={_text(value)}")
    return " ".join(map(shell_quote, words))


def _given(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that say something; 0 and the empty negative prompt do."""
    return {k: v for k, v in settings.items() if v is not None and v is not False}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_folder(path: Path) -> Iterator[str]:
    """A Hugging Face folder, a component a line."""
    present = [name for name in COMPONENTS if (path / name / "config.json").exists()]
    if not present:
        if (path / "config.json").exists():
            raise InputError(f"{path} holds a single component: give the folder that it belongs to")
        raise InputError(f"{path} holds neither a Stable Diffusion model nor a clip of zs2's")
    if "unet" in present:
        values = read_json(path / "unet/config.json")
        family = Family.of(values.get("cross_attention_dim"))
        kind = family.value if family else "Stable Diffusion"
        channels: Any = values.get("in_channels", 4)
        use = f", {odd}" if (odd := unusual_input(channels)) else ""
        use = ", Instruct-Pix2Pix" if channels == 8 else use
        yield f"{path}: {kind} folder{use}"
    for name in present:
        entries = tensors(path, name)
        where = path / name / "config.json"
        model, config = COMPONENTS[name]
        try:
            shapes = expected_shapes(model, read_config(config, read_json(where), where), where)
        except InputError as error:
            yield f"{name:<15}{_size(entries)}, not supported: {error}"
        else:
            yield f"{name:<15}{_size(entries)}{_difference(shapes, entries)}"
    own = path / "zs2.json"
    known = read_json(own).get("words") if own.exists() else None
    if isinstance(known, list):
        yield from wrap(f"{'words':<15}{' '.join(map(str, known))}", 96, subsequent_indent=" " * 15)
    scheduler = path / "scheduler/scheduler_config.json"
    values = read_json(scheduler) if scheduler.exists() else {}
    yield f"{'prediction':<15}{values.get('prediction_type', 'epsilon')}"
    for part in (*COMPONENTS, "tokenizer"):
        if part not in present and not (path / part).is_dir():
            yield f"{part:<15}missing"


def describe_file(path: Path) -> Iterator[str]:
    """A single file: what it is, and its networks, a line each."""
    entries = read_header(path)
    kind = identify(entries)
    yield f"{path}: {kind.words}, {_size(entries)}"
    preset = preset_of(kind) if kind.role is Role.MODEL else None
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
        yield f"{part:<15}{_size(inside)}{_difference(expected, inside)}"
    yield f"{'prediction':<15}epsilon, unless --prediction says otherwise"
    yield f"{'tokenizer':<15}none inside: CLIP's own"
    if spare := [k for k in entries if k not in used and not k.startswith(tuple(PREFIX.values()))]:
        yield f"{'besides':<15}{len(spare)} tensors that are not needed, as {spare[0]}"


def _size(entries: Mapping[str, Entry]) -> str:
    values = sum(e.values for e in entries.values())
    size = sum(e.bytes for e in entries.values())
    dtypes: Counter[str] = Counter()
    for entry in entries.values():
        dtypes[entry.dtype] += entry.values
    kinds = "+".join(kind for kind, _ in dtypes.most_common())
    return f"{values / 1e6:,.1f} M values, {size / 1e6:,.1f} MB, {kinds}"


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Entry]) -> str:
    missing = [k for k in expected if k not in found]
    misshaped = [
        k for k, e in found.items() if k in expected and not same_shape(e.shape, expected[k])
    ]
    spare = [k for k in set(found) - set(expected) if not k.endswith("position_ids")]
    faults = {"missing": missing, "of another shape": misshaped, "too many": sorted(spare)}
    told = [f", {len(keys)} tensors {how}, as {keys[0]}" for how, keys in faults.items() if keys]
    return "".join(told) or ", complete"


def describe_path(path: Path) -> Iterator[str]:
    """Lines that say what a path is.

    Raises:
        InputError: it is broken, or nothing that zs2 knows.
    """
    if path.suffix.lower() in CLIPS or (path.is_dir() and (path / "0001.png").exists()):
        return describe_clip(path)
    return describe_folder(path) if path.is_dir() else describe_file(path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m zs2.inspect",
        description="Say what a checkpoint is, or how a clip was made.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        default=str(SMALL),
        help="a checkpoint, or a clip that zs2 made (default: the small model)",
    )
    args = parser.parse_args(argv)
    print_anything()
    try:
        path = local_path(args.path)
        if path is None:
            raise InputError(f"{args.path} does not exist")
        for line in describe_path(path):
            answer(line)
    except InputError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
