"""Several processes, as torchrun begins them: who makes what, and who speaks.

    torchrun --nproc-per-node 4 -m zs2.sample ...

Several clips are dealt out to the processes; one clip is made by all of them (`zs2.wavefront`).
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from zs2.errors import InputError

T = TypeVar("T")
WAIT = timedelta(minutes=10)  # for a process that loads its model


def rank() -> int:
    """This process, from 0."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def group() -> Iterator[None]:
    """The processes know each other inside.

    Raises:
        InputError: they do not find each other.
    """
    if count() == 1:
        yield
        return
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=WAIT)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes do not find each other: start by torchrun ({error})"
        ) from None
    if rank() == 0:
        # Who begins the processes ends all when one has ended. This one hears of that from the
        # others, and then first makes a whole file of what is finished.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        dist.destroy_process_group()


def same(value: T) -> T:
    """What process 0 has."""
    if count() == 1:
        return value
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def wait_for_all() -> None:
    """Until all processes are here."""
    same(None)


def dealt(jobs: Sequence[T]) -> list[T]:
    """Of several jobs this process's own."""
    return list(jobs[rank() :: count()])


def device(asked: str | None) -> str:
    """A GPU for each process of a machine, where nothing else is asked for.

    Raises:
        InputError: there are more processes than GPUs.
    """
    if count() == 1 or asked not in (None, "auto", "cuda"):
        return asked or "auto"
    import torch

    local = int(os.environ.get("LOCAL_RANK", 0))
    if not torch.cuda.is_available():
        return asked or "auto"
    if local >= torch.cuda.device_count():
        raise InputError(
            f"{local + 1} processes on a machine with {torch.cuda.device_count()} GPUs: give "
            "--nproc-per-node as many as there are, or --device cpu"
        )
    return f"cuda:{local}"
