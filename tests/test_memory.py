"""A long clip in the memory of a short one, with SD 1.5's real shapes."""

import subprocess
import sys

import pytest

CODE = """
import sys
import torch
from benchmarks.models import load
from zs2.device import peak_memory

cpu = torch.device("cpu")
pipe = load(None, cpu, torch.bfloat16)
loaded = peak_memory(cpu)
shape = {"frames": int(sys.argv[1]), "size": (256, 256), "chunk": 8}
pipe("x", steps=2, seed=1, **shape)
print(peak_memory(cpu) - loaded, pipe.memory(**shape))
"""


@pytest.mark.slow
def test_64_frames_take_no_more_memory_than_8_and_what_was_estimated():
    def above_the_model(frames: int) -> tuple[int, int]:
        out = subprocess.run(
            [sys.executable, "-c", CODE, str(frames)], capture_output=True, text=True, check=True
        )
        peak, estimate = map(int, out.stdout.split())
        return peak, estimate

    (short, estimate), (long, _) = above_the_model(8), above_the_model(64)
    assert long <= 1.15 * short
    assert estimate / 1.33 <= short <= 1.33 * estimate
