"""Where the tokenizers of a checkpoint are: in its folder, beside its file, or CLIP's own."""

from collections.abc import Sequence
from pathlib import Path

from zs2.checkpoint.hub import clip_tokenizer
from zs2.errors import InputError
from zs2.models.tokenizer import Tokenizer

FOLDERS = ("tokenizer", "tokenizer_2")


def find_tokenizers(
    path: Path, told: str | Path | None, pads: Sequence[str | None]
) -> list[tuple[Tokenizer, Path]]:
    """A tokenizer for each text encoder, and where it was found.

    Args:
        path: the checkpoint.
        told: a folder with CLIP's vocabulary, in place of the checkpoint's own.
        pads: the token that fills up a short prompt, for each text encoder, where the tokenizer is
            not the checkpoint's own; None is what its settings say.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if told is not None and not Path(told).exists():
        raise InputError(f"{told} does not exist: --tokenizer is a folder with vocab.json")
    if told is None and path.is_dir():
        own = [path / folder for folder in FOLDERS[: len(pads)]]
        for folder in own:
            if not folder.is_dir():
                raise InputError(
                    f"{path} has no {folder.name} folder: add it, or pass --tokenizer DIR"
                )
        return [(Tokenizer.load(folder), folder) for folder in own]
    where = Path(told) if told else _beside(path)
    return [(Tokenizer.load(where, pad), where) for pad in pads]


def _beside(path: Path) -> Path:
    """The vocabulary for a single file, which has none inside."""
    near = path.parent
    if (near / "tokenizer").is_dir():
        return near / "tokenizer"
    for name in ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz"):
        if (near / name).exists():
            return near
    try:
        return clip_tokenizer()
    except InputError as error:
        raise InputError(
            f"{path} has no tokenizer, and the hub cannot be reached: "
            "pass --tokenizer DIR, a folder with CLIP's vocab.json and merges.txt"
        ) from error
