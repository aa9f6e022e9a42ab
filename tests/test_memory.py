"""A long clip in the memory of a short one, with SD 1.5's real shapes."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
import torch
from benchmarks.models import load
from zs2.denoise import Whole
from zs2.device import peak_memory
from zs2.estimate import clip_memory

cpu = torch.device("cpu")
pipe = load(None, cpu, torch.bfloat16)
loaded = peak_memory(cpu)
frames, order = int(sys.argv[1]), Whole(chunk=8)
pipe("x", steps=2, seed=1, frames=frames, size=256, order=order)
latent = pipe.latent_shape(256)
estimate = clip_memory(pipe.weights, pipe.dtype, cpu, frames, latent, order)
print(peak_memory(cpu) - loaded, estimate)
"""


def above_the_model(frames: int, **environment: str) -> tuple[int, int]:
    """Peak memory that a clip takes beside the model, and what was estimated, in bytes."""
    out = subprocess.run(
        [sys.executable, "-c", CODE, str(frames)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, estimate = map(int, out.stdout.split())
    return peak, estimate


@pytest.mark.slow
def test_64_frames_take_no_more_memory_than_8():
    # What is freed goes back at once, so that the peak is what lives at once: gaps in the heap
    # come and go by up to half from run to run.
    live = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    (short, _), (long, _) = above_the_model(8, **live), above_the_model(64, **live)
    assert long <= 1.15 * short


@pytest.mark.slow
def test_memory_is_as_estimated():
    peak, estimate = above_the_model(8)
    assert estimate / 1.33 <= peak <= 1.33 * estimate
