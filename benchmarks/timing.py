"""Fair times: contenders alternate, the median counts, and a GPU is waited for."""

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
        cost += _time(call, device)
    rounds = max(3, min(200, int(seconds * len(contenders) / max(cost, 1e-6))))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            times[name].append(_time(call, device))
    return {name: median(values) for name, values in times.items()}


def _time(call: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    _flush(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1000


def _flush(device: torch.device) -> None:
    """Push what the last call left in the L2 cache out of it (an H200 has 50 MB)."""
    torch.empty(256 << 20, dtype=torch.int8, device=device).zero_()
