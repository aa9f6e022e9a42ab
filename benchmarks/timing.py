"""Fair times: contenders alternate, the median counts, and a GPU is waited for."""

import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

CYCLES = 2e9
"""Of a GPU's clock a second, or some more: 1.8e9 of an H100, 2e9 of an H200."""


def alternate(
    contenders: Mapping[str, Callable[[], Any]], device: torch.device, *, seconds: float = 1.0
) -> dict[str, float]:
    """Median seconds of one call of each contender, from rounds in which each has its turn.

    The first call of each is not counted: it compiles, and touches its memory first.

    Args:
        seconds: how long to measure each contender, in all; at least 3 rounds are measured.
    """
    cost, launches = 0.0, {}
    for name, call in contenders.items():
        call()
        launches[name] = _launch(call, device)
        cost += _timer(call, device, launches[name])()
    rounds = max(3, min(200, int(seconds * len(contenders) / max(cost, 1e-6))))
    timers: dict[str, list[Callable[[], float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            timers[name].append(_timer(call, device, launches[name]))
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


def _launch(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds that the host takes to launch a call on a GPU."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _timer(call: Callable[[], Any], device: torch.device, launch: float) -> Callable[[], float]:
    """Call once; what comes back says how many seconds it took.

    Args:
        launch: seconds that the host takes to launch it. A GPU sleeps for longer first, so that it
            finds all launches waiting: the small layers' kernels take less time than their launch.
    """
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
        return lambda: seconds
    _flush(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(int(1.5 * launch * CYCLES) + 100_000)
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
