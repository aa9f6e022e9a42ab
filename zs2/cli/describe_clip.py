"""How a clip was made: its settings, and the command line that makes it again."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from zs2.cli.options import TABLE
from zs2.cli.terminal import shell_quote
from zs2.clip_file import OWN, read_settings

OPTIONS = {option.name: option for option in TABLE if option.stored}


def describe_clip(path: Path) -> Iterator[str]:
    """The settings of a clip, a line each, and its command line."""
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
    if "esrgan" in settings:
        larger = path.with_name(f"{path.stem}-again{path.suffix or '.png'}")
        words = [str(settings.get("of")), f"--scale={settings.get('scale')}"]
        words += [f"--esrgan={settings['esrgan']}", f"--output={larger}"]
        yield ""
        yield " ".join(map(shell_quote, ["python", "-m", "zs2.enhance", *words]))


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
