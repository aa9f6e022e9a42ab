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
pipe("x", frames=int(sys.argv[1]), size=(256, 256), steps=2, seed=1, chunk=8)
print(peak_memory(cpu) - loaded)
"""


@pytest.mark.slow
def test_64_frames_take_no_more_memory_than_8():
    def above_the_model(frames: int) -> int:
        out = subprocess.run(
            [sys.executable, "-c", CODE, str(frames)], capture_output=True, text=True, check=True
        )
        return int(out.stdout)

    assert above_the_model(64) <= 1.15 * above_the_model(8)
