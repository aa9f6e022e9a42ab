"""Fair times: contenders alternate, the median counts, and a GPU is waited for."""

import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch


def alternate(
    contenders: Mapping[str, Callable[[], Any]], device: torch.device, *, seconds: float = 1.0
) -> dict[str, float]:
    """Median seconds of one call of each contender, from rounds in which each has its turn.

    The first call of each is not counted: it compiles, and touches its memory first.

    Args:
        seconds: how long to measure each contender, in all; at least 3 rounds are measured.
    """
    cost = 0.0
    for call in contenders.values():
        call()
        cost += _timer(call, device)()
    rounds = max(3, min(200, int(seconds * len(contenders) / max(cost, 1e-6))))
    timers: dict[str, list[Callable[[], float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            timers[name].append(_timer(call, device))
    # Read at the end: a GPU that was waited for after each call would wait in turn for the host's
    # next launch, within the time that counts.
    return {name: median(timer() for timer in made) for name, made in timers.items()}


def keep_memory() -> None:
    """Let freed memory be used again, on Linux.

    Pages new from the kernel, which fills each with zeros at its first touch, would be most of what
    a copy takes, and no two runs pay the same for them.
    """
    if sys.platform == "linux":
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h of glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def _timer(call: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    """Call once; what comes back says how many seconds it took."""
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
        return lambda: seconds
    _flush(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()

    def read() -> float:
        last.synchronize()
        return first.elapsed_time(last) / 1000

    return read


def _flush(device: torch.device) -> None:
    """Push what the last call left in the L2 cache out of it (an H200 has 50 MB)."""
    torch.empty(256 << 20, dtype=torch.int8, device=device).zero_()
