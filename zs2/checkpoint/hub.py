"""Where a model's name leads: to a path on this machine, or to a repository of the hub."""

import errno
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zs2.checkpoint.header import PICKLES
from zs2.errors import InputError

SUFFIXES = (".safetensors", ".gguf", *PICKLES)
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
TOKENIZER = "openai/clip-vit-large-patch14"  # the vocabulary of every SD 1.x
TOKENIZER_FILES = ["merges.txt", "tokenizer_config.json", "vocab.json"]
WEIGHTS = re.compile(
    r"/(model|diffusion_pytorch_model)(\.fp16)?(-\d{5}-of-\d{5})?(\.fp16)?\.safetensors$"
)
_TIMEOUT = 4  # seconds without a word of the hub
_DEADLINE = 20  # seconds until it has told what a repository holds, however slowly it speaks
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def resolve(
    name: str | Path,
    marker: str = "unet/config.json",
    choose: Callable[[list[str]], list[str]] | None = None,
) -> Path:
    """A path as it is; a hub id (`owner/name`) as the folder it was downloaded to.

    What `marker` and `choose` are, `download` says: by default, those of a model. An existing path
    wins. What looks like a path (a known suffix, a leading `.`, `/` or `~`, more
    than one slash or none) is never looked up.

    Raises:
        InputError: no such path, no such repository, or no connection.
    """
    text = str(name)
    if text and (path := local_path(text)):
        return path
    is_id = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text, re.ASCII) and not text.endswith(SUFFIXES)
    if isinstance(name, Path) or not is_id:
        hint = "give a folder, a .safetensors file or a hub id"
        raise InputError(f"{name or 'an empty name'} does not exist: {hint}")
    return download(text, marker, choose or pick)


def local_path(name: str) -> Path | None:
    """The path of this name, if it is on this machine."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; the home of nobody; a zero byte
        return None


def download(repository: str, marker: str, choose: Callable[[list[str]], list[str]]) -> Path:
    """The folder of a hub's repository, with those of its files that `choose` names.

    Offline, what an earlier run left in the cache will do: the folder that holds `marker`.

    Raises:
        InputError: no such repository, or no connection and nothing cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if sys.stderr is None or not sys.stderr.isatty():
        disable_progress_bars()
    try:
        files = _listing(repository)
    except Exception as error:  # of the hub's HTTP library, which changes with its version
        if folder := cached(repository, marker):
            return folder
        raise InputError(_reason(repository, error)) from error
    if marker in files:
        try:
            return Path(snapshot_download(repository, allow_patterns=choose(files)))
        except Exception as error:
            raise InputError(_why_no_download(repository, error)) from error
    single = next((f for f in files if f.endswith(".safetensors")), None)
    hint = f"download its {single} and give the path" if single else "is it the right one?"
    raise InputError(f"{repository} holds no {marker}: {hint}")


def cached(repository: str, marker: str) -> Path | None:
    """The folder that an earlier run downloaded, if it holds the file `marker`."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(repository, marker)
    return Path(file.removesuffix(marker)) if isinstance(file, str) else None


def pick(files: list[str]) -> list[str]:
    """Of a repository's files, those that zs2 reads: plain weights, or fp16 where only they are."""
    wanted = [f for f in files if re.fullmatch(r"(tokenizer(_2)?|scheduler)/[^/]+\.(json|txt)", f)]
    wanted += [f for f in files if f in ("zs2.json", "model_index.json")]
    for component in COMPONENTS:
        inside = [f for f in files if re.fullmatch(rf"{component}/[^/]+", f)]
        weights = [f for f in inside if WEIGHTS.search(f)]
        plain = [f for f in weights if ".fp16" not in f]
        wanted += plain or weights
        wanted += [f for f in inside if f.endswith(".json")]
    return sorted(set(wanted))


def clip_tokenizer() -> Path:
    """The folder of CLIP's vocabulary, cached or from the hub.

    Raises:
        InputError: it is in neither.
    """
    return cached(TOKENIZER, "vocab.json") or download(
        TOKENIZER, "vocab.json", lambda files: [f for f in files if f in TOKENIZER_FILES]
    )


def _listing(repository: str) -> list[str]:
    """The files of a repository. A hub that answers byte by byte would hold up any timeout of its
    library, so it is asked in a thread of its own.

    Raises:
        Exception: whatever went wrong.
    """
    from huggingface_hub import HfApi

    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(HfApi().model_info(repository, timeout=_TIMEOUT))
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # nobody waits for it at the end
    thread.start()
    thread.join(_DEADLINE)
    found = answer[0] if answer else TimeoutError("the hub is too slow")
    if isinstance(found, Exception):
        raise found
    # It becomes the name of a folder.
    if not re.fullmatch(r"[0-9a-f]{40}", str(found.sha)):
        raise ValueError(f"{found.sha} is no commit")
    return [file.rfilename for file in found.siblings or []]


def _why_no_download(repository: str, error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError

    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    numbers = {getattr(cause, "errno", None) for cause in causes}
    if numbers & {*_FULL} or any("No space left" in str(cause) for cause in causes):
        return f"{repository} cannot be stored: the disk is full, make room or set HF_HOME"
    if numbers & {*_FORBIDDEN}:
        return f"{repository} cannot be stored: you may not write there, set HF_HOME to a folder"
    if gated := next((cause for cause in causes if isinstance(cause, GatedRepoError)), None):
        return _reason(repository, gated)  # a gated repository's listing is open to all
    return (
        f"the download of {repository} broke off ({type(error).__name__}): "
        "run it again, and it goes on from there"
    )


def _reason(repository: str, error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"{repository} is gated: accept its terms on its page of the hub, then log in "
            "(`hf auth login`, or a token in HF_TOKEN)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{repository} is neither a path here nor an open repository of the hub"
    return (
        f"{repository} is not on this machine and the hub cannot be reached "
        f"({type(error).__name__}): give the path of a folder or file with --model"
    )
