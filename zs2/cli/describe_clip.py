"""How a clip was made: its settings, and the command line that makes it again."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zs2.cli.options import TABLE
from zs2.cli.terminal import shell_quote
from zs2.clip_file import beside, own_parts, read_settings

OPTIONS = {option.name: option for option in TABLE if option.stored}


def describe_clip(path: Path) -> Iterator[str]:
    """The settings of a clip, a line each, and its command line."""
    settings = read_settings(path)
    for key, value in _given(settings).items():
        yield f"{key:<15}{_text(value)}"
    again = beside(path, "again")
    if own := own_parts(settings):
        yield ""
        yield f"no command makes it again: {', '.join(own)} came from a program of one's own"
    elif "prompt" in settings and "esrgan" not in settings:
        yield ""
        yield in_a_shell(["python", "-m", "zs2.sample", *words(settings), f"--output={again}"])
    if "esrgan" in settings:
        how = [f"--scale={settings.get('scale')}", f"--esrgan={settings['esrgan']}"]
        yield ""
        yield in_a_shell(
            ["python", "-m", "zs2.enhance", str(settings.get("of")), *how, f"--output={again}"]
        )


def in_a_shell(words: Sequence[str]) -> str:
    """A command as bash and zsh read it."""
    return " ".join(map(shell_quote, words))


def words(settings: Mapping[str, object]) -> list[str]:
    """The arguments of `zs2.sample` that make a clip with these settings."""
    prompt = str(settings["prompt"])
    words = [f"--prompt={prompt}" if prompt.startswith("-") else prompt]
    for option, value in _given(settings).items():
        if option in OPTIONS and OPTIONS[option].repeat == 1 and isinstance(value, list):
            words += [f"--{option}={item}" for item in value]
        elif option in OPTIONS and OPTIONS[option].repeat and isinstance(value, list):
            words += [word for item in value for word in (f"--{option}", *map(str, item))]
        elif option in OPTIONS:
            # Joined with "=", a value that begins with a dash is not taken for an option.
            words.append(f"--{option}" if value is True else f"--{option}={_text(value)}")
    return words


def _given(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that say something; 0 and the empty negative prompt do."""
    return {k: v for k, v in settings.items() if v is not None and v is not False}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
