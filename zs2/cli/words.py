"""What is refused in a prompt, and what is said of its words."""

import argparse
import re
import shlex
from collections.abc import Sequence
from functools import partial

from zs2 import prompt
from zs2.cli import request
from zs2.cli.terminal import say
from zs2.errors import InputError
from zs2.weights import Weights


def check(args: argparse.Namespace, prompts: Sequence[str]) -> None:
    """Refuse prompts that ask for what zs2 does not do, before a model is loaded.

    Raises:
        InputError: the text is named.
    """
    if args.prompt_weights != "plain":
        for text in _all(args, prompts):
            request.refused(partial(prompt.check, text))


def warn_of_unused(args: argparse.Namespace, prompts: Sequence[str], weights: Weights) -> None:
    """Say which embeddings no prompt names: they change nothing."""
    try:
        pieces = [
            piece
            for text in _all(args, prompts)
            for part in weights.text.read(text)
            for piece in part
        ]
    except ValueError as error:
        raise InputError(str(error)) from None
    unused = weights.text.embeddings.keys() - {piece.name for piece in pieces}
    if unused:
        say(
            f"no prompt says {', '.join(sorted(unused))}: without its word an embedding is not used"
        )


def warn_of_unknown(text: str, weights: Weights) -> None:
    """A small model takes a word that it does not know for a random thing: say so.

    What a LoRA or an embedding has taught it, nobody can list.
    """
    if weights.receipts:
        return
    pieces = [piece.text for part in weights.text.read(text) for piece in part if not piece.name]
    words = re.findall(r"[^\W\d_]+", " ".join(pieces).lower())
    unknown = [word for word in dict.fromkeys(words) if word not in weights.defaults.words]
    if weights.defaults.words and unknown:
        say(
            f"the small model does not know {', '.join(unknown[:5])}: its words are listed by "
            + shlex.join(["python", "-m", "zs2.inspect", *([weights.name] if weights.name else [])])
        )


def _all(args: argparse.Namespace, prompts: Sequence[str]) -> list[str]:
    """Every text that the encoders will read."""
    travelled = request.travelled(args.prompt_at or ()).values()
    return [*prompts, *([] if args.negative is None else [args.negative]), *travelled]
