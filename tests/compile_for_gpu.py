"""Compiles zs2's kernels for an H100 (sm_90) where there is no GPU, and prints what became of them.

    python tests/compile_for_gpu.py     a line of JSON for each kernel that is launched

A stand-in takes the place of Triton's driver: a launch is compiled with the arguments that the
project gives it, and not run. Run in a process of its own, where Triton does not interpret.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

torch.version.cuda = torch.version.cuda or "13.0"  # the kernels are defined where torch has CUDA

from zs2.kernels import (  # noqa: E402
    geglu,
    group_norm,
    momentum_scan,
    noise_search,
    norm_momentum_scan,
)

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


class Driver:
    """What Triton asks a driver for before it compiles."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")

    def is_active(self):
        return True


def record(kernels):
    """From here on a launch compiles: its name and kernel are appended to the list."""
    run = JITFunction.run

    def compiled(self, *args, grid, warmup, **options):
        kernels.append((self.__name__, run(self, *args, grid=grid, warmup=True, **options)))

    JITFunction.run = compiled
    driver.set_active(Driver())
    for module in (geglu, group_norm, momentum_scan, norm_momentum_scan):
        module.on_gpu = lambda _: True


def resources(kernel):
    """Registers a thread, bytes that spilled, warps, and the instructions that move memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()

        def tool(*options):
            command = [TOOLS / "cuobjdump", *options, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        used, code = tool("-res-usage"), tool("--dump-sass")
    registers, spilled = re.search(r"REG:(\d+) .*LOCAL:(\d+)", used).groups()
    return {
        "registers": int(registers),
        "spilled": int(spilled),
        "warps": kernel.metadata.num_warps,
        "moves": re.findall(r"\b(?:LDG|STG|LDGSTS|LDL|STL)\b[.A-Z0-9]*", code),
        "barriers": len(re.findall(r"\bBAR\.SYNC", code)),
    }


def launches():
    """Every kernel at the shapes of SD 1.5 and SDXL, as zs2 calls it."""
    frames = 4
    mu = torch.full((frames,), 0.98)
    for dtype in (torch.float16, torch.float32):
        for width in (320, 640, 1280):
            x = torch.empty(1, frames, 64, width, dtype=dtype)
            weight, state = torch.empty(width, dtype=dtype), torch.empty(1, 64, width)
            for initial, keep in ((None, False), (state, True)):
                arguments = (x, weight, weight, mu, initial, 1e-5, keep)
                shape = {"width": width, "itemsize": dtype.itemsize}
                yield shape, lambda a=arguments: norm_momentum_scan.norm_momentum_scan(*a)
        x = torch.empty(1, frames, 64, 320, dtype=dtype)
        yield {}, lambda x=x: momentum_scan.momentum_scan((x, x), mu, None, False)
        for width, side in ((320, 64), (1280, 8), (1920, 16), (128, 128)):
            x = torch.empty(1, width, side, side, dtype=dtype).to(memory_format=torch.channels_last)
            weight, add = torch.empty(width, dtype=dtype), torch.empty(1, width, dtype=dtype)
            arguments = (x, weight, weight, 32, 1e-5, True, add)
            yield {"width": width}, lambda a=arguments: group_norm.group_norm_silu(*a)
        x = torch.empty(64, 2 * 1280, dtype=dtype)
        yield {}, lambda x=x: geglu.geglu(x)
    seeds = torch.zeros(1, dtype=torch.int64)
    yield {}, lambda: noise_search.draw(seeds, 0, 1, 0, 16384)
    noise = torch.empty(1, 16384)
    for turned in (None, noise):
        arguments = (noise, turned, seeds, 1, 0, 0.01, 0.5, 10, "unbiased")
        yield {}, lambda a=arguments: noise_search.next_frame(*a)


def main():
    kernels = []
    record(kernels)
    for shape, launch in launches():
        launch()
        for name, kernel in kernels:
            print(json.dumps({"kernel": name, **shape, **resources(kernel)}))
        kernels.clear()


if __name__ == "__main__":
    main()
