"""LPIPS, the metric, from a file."""

import re
from pathlib import Path

import torch

from zs2.checkpoint.build import build
from zs2.checkpoint.header import read_header
from zs2.errors import InputError
from zs2.metrics.lpips import ALEXNET, LPIPS, VGG16

FIRST = "net.slice1.0.weight"
SLICES = {(64, 3, 11, 11): ALEXNET, (64, 3, 3, 3): VGG16}
"""By the shape of the first convolution."""


def load_lpips(path: Path) -> LPIPS:
    """The metric as the package `lpips` has it, saved as safetensors.

    Raises:
        InputError: it is something else, or not complete.
    """
    # The package keeps the last weights under two names.
    entries = {re.sub(r"^lins\.(\d)\.", r"lin\1.", k): e for k, e in read_header(path).items()}
    shape = tuple(entries[FIRST].shape) if FIRST in entries else ()
    if shape not in SLICES:
        raise InputError(
            f"{path} holds no LPIPS by AlexNet or VGG: save one in Python by "
            "safetensors.torch.save_model(lpips.LPIPS(net='alex'), 'lpips.safetensors')"
        )
    made: LPIPS = build(lambda: LPIPS(SLICES[shape]), entries, path, "cpu", torch.float32)
    return made
