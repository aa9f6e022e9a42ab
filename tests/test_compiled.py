"""What the compiler makes of the kernels for an H100: no GPU is needed to read it.

How fast they are, only a GPU can say. Here stand the grounds that they can be fast at all.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import triton

pytestmark = pytest.mark.skipif(triton is None, reason="needs triton")
SCRIPT = Path(__file__).with_name("compile_for_gpu.py")
REGISTERS = 65536  # of a multiprocessor of an H100, as are the next two
WARPS = 64
IN_FLIGHT = 20_000
"""Bytes on their way at a time that keep its memory busy: 3.35 to 4.8 TB/s shared by 132
multiprocessors, for some 600 ns that a read takes."""


KERNELS = {
    *("_scan_kernel", "_norm_scan_kernel", "_geglu_kernel"),
    *("_sum_kernel", "_scale_kernel", "_apply_kernel"),
    *("_draw_kernel", "_score_kernel", "_mix_kernel"),
}


@pytest.fixture(scope="module")
def kernels():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nothing_spills(kernels):
    assert {kernel["kernel"] for kernel in kernels} == KERNELS
    for kernel in kernels:
        assert kernel["spilled"] == 0, kernel
        assert not {"LDL", "STL"} & {move.partition(".")[0] for move in kernel["moves"]}, kernel


def of(kernels, name):
    return [kernel for kernel in kernels if kernel["kernel"] == name]


def test_rows_come_ahead_by_asynchronous_copies(kernels):
    for kernel in of(kernels, "_norm_scan_kernel"):
        wide = [move for move in kernel["moves"] if move.startswith("LDGSTS") and "128" in move]
        assert wide, kernel
        # Registers are given out by 8 a thread.
        programs = min(
            REGISTERS // (32 * kernel["warps"] * (-(-kernel["registers"] // 8) * 8)),
            WARPS // kernel["warps"],
        )
        rows = max(1, 640 // kernel["width"])
        ahead = 2 * rows * kernel["width"] * kernel["itemsize"]  # two frames while one is worked on
        assert programs * ahead >= IN_FLIGHT, kernel


def test_wide_loads_and_stores(kernels):
    for name in ("_scan_kernel", "_apply_kernel", "_geglu_kernel"):
        for kernel in of(kernels, name):
            assert {"LDG.E.128", "STG.E.128"} <= {*kernel["moves"]}, kernel


def test_warps_enough_where_numbers_are_drawn(kernels):
    """They compute more than they move: half of all warps want to be there at a time."""
    for name in ("_draw_kernel", "_score_kernel", "_mix_kernel"):
        for kernel in of(kernels, name):
            assert REGISTERS // (32 * kernel["registers"]) >= WARPS // 2, kernel
