r"""The grammar of prompts: a text becomes pieces with weights, in parts that are read apart.

    (x)      1.1 times the weight       (x:1.3)  1.3 times
    [x]      divided by 1.1             ((x))    1.21 times: brackets multiply
    \( \) \[ \] \\                      the character itself
    BREAK    begins the next part; it stands alone, in upper case

It is A1111's (stable-diffusion-webui, modules/prompt_parser.py), and so is what brackets without a
partner do: an open one counts to the end of the prompt, a closing one is a character.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache

ROUND, SQUARE = 1.1, 1 / 1.1
STRONGEST = 100
"""Far beyond what still makes a picture: a larger weight is a slip."""

_DEEPEST = 200  # brackets in brackets: more are characters, or time would grow as the square
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_LEXEME = re.compile(rf"\\[\\()\[\]]?|[()\[\]]|:\s*({_NUMBER})\s*\)|:|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")

_SCHEDULE = re.compile(rf":\s*{_NUMBER}\s*\]")
_ALTERNATION = re.compile(r"(?<!\\)\[[^\[\]|]*\|[^\[\]]*\]")
_FILE = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.I)
_AND = re.compile(r"\bAND\b")
_NOT_LOADED = re.compile(r"\bembedding:[^\s,]+", re.I)


@dataclass(frozen=True)
class Piece:
    """Text of one weight.

    Attributes:
        begin: where it stands in what it was cut from.
        name: of the embedding that it stands for; None where it is text.
    """

    text: str
    weight: float = 1.0
    begin: int = 0
    name: str | None = None


def parse(prompt: str) -> list[list[Piece]]:
    """The parts of a prompt, each a list of pieces; no prompt is refused.

    Empty parts stay, since A1111 reads them too, but for one at the end.
    """
    found: list[tuple[str, float] | None] = []  # None is a BREAK
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        for i in range(opened[bracket].pop(), len(found)):
            if piece := found[i]:
                found[i] = (piece[0], piece[1] * factor)

    for lexeme in _LEXEME.finditer(prompt):
        text, number = lexeme[0], lexeme[1]
        if text in opened and len(opened[text]) < _DEEPEST:
            opened[text].append(len(found))
        elif number is not None and opened["("]:
            close("(", float(number))
        elif text == ")" and opened["("]:
            close("(", ROUND)
        elif text == "]" and opened["["]:
            close("[", SQUARE)
        elif text.startswith("\\"):
            found.append((text[1:], 1.0))
        else:
            first, *others = _BREAK.split(text)
            found.append((first, 1.0))
            for other in others:
                found += [None, (other, 1.0)]
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        while opened[bracket]:
            close(bracket, factor)

    parts: list[list[Piece]] = [[]]
    for item in found:
        if item is None:
            parts.append([])
        elif item[0]:
            _append(parts[-1], Piece(*item))
    return parts if parts[-1] else parts[:-1] or [[]]


def _append(part: list[Piece], piece: Piece) -> None:
    """What has the same weight is read as one text, as if no bracket stood between."""
    if part and part[-1].weight == piece.weight:
        part[-1] = replace(part[-1], text=part[-1].text + piece.text)
    else:
        part.append(piece)


def check(prompt: str) -> None:
    """Refuse what A1111 would read as something that zs2 does not do.

    Raises:
        ValueError: the text is named.
    """
    if found := _FILE.search(prompt):
        raise ValueError(
            f"{found[0]:.80} in a prompt is not read: give the file with --lora FILE:WEIGHT"
        )
    schedule = _SCHEDULE.search(prompt)
    if schedule and not re.search(r"(?<!\\)\[", prompt[: schedule.start()]):
        schedule = None
    if found := schedule or _ALTERNATION.search(prompt):
        near = prompt[max(0, found.end() - 40) : found.end()]
        raise ValueError(
            f"prompts that change while sampling, as {near!r}, are not supported: write one "
            r"prompt, or \[ and \] for the characters"
        )
    for piece in (piece for part in parse(prompt) for piece in part):
        if not abs(piece.weight) <= STRONGEST:
            raise ValueError(
                f"the weight of {piece.text!r:.60} is {piece.weight:.3g}: it must lie in "
                f"-{STRONGEST}..{STRONGEST}"
            )


def joins(prompt: str) -> bool:
    """Whether A1111 would take this for several prompts, joined by AND."""
    return bool(_AND.search(prompt))


def named(piece: Piece, names: Collection[str]) -> Iterator[Piece]:
    """A piece cut at the names of embeddings, the longest of those that fit, in any case.

    `embedding:name` and `name.safetensors`, as ComfyUI writes them, are the same.
    """
    end = 0
    ordered = tuple(sorted(names, key=lambda name: (-len(name), name)))
    for found in _pattern(ordered).finditer(piece.text) if names else ():
        if before := piece.text[end : found.start()]:
            yield replace(piece, text=before, begin=piece.begin + end)
        name = ordered[(found.lastindex or 1) - 1]
        yield Piece(found[0], piece.weight, piece.begin + found.start(), name)
        end = found.end()
    if rest := piece.text[end:]:
        yield replace(piece, text=rest, begin=piece.begin + end)


def not_loaded(text: str) -> str | None:
    """An `embedding:name` that was left in a text, if there is one."""
    found = _NOT_LOADED.search(text)
    return found[0] if found else None


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the names as a word of its own, each in its own group."""
    words = "|".join(
        (r"(?<!\w)" if re.match(r"\w", name) else "")
        + f"({re.escape(name)})"
        + (r"(?!\w)" if re.search(r"\w$", name) else "")
        for name in names
    )
    return re.compile(rf"(?:\bembedding:)?(?:{words})(?:\.(?:safetensors|pt)\b)?", re.I)
