"""Triton's interpreter: runs a kernel file on the CPU, while zs2 itself goes on without Triton.

Imported before anything else that could import Triton: whether a kernel is compiled or interpreted
is settled where it is defined, and Triton's own library is full of kernels. So a process does one
of the two. Where there is a GPU the kernels are compiled, and what is interpreted elsewhere is left
out there.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

import numpy
import pytest
import torch

GPU = torch.cuda.is_available()


@contextmanager
def interpreting() -> Iterator[None]:
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield
    finally:
        del os.environ["TRITON_INTERPRET"]
        if before is not None:
            os.environ["TRITON_INTERPRET"] = before


with nullcontext() if GPU else interpreting():
    try:
        import triton.experimental.gluon  # which Triton itself imports late
        import triton.language
    except ImportError:  # a Mac, or Windows
        triton = None


def version(module: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in module.__version__.split(".")[:2])


BROKEN = triton is not None and version(triton) < (3, 7) and version(numpy) >= (2, 4)
"""The interpreter makes an int of an array with one element, which numpy no longer allows."""


def interpreted(file: str | Path) -> ModuleType:
    """A second copy of the module in `file`, its kernels run by the interpreter."""
    if triton is None:
        pytest.skip("needs triton")
    if GPU:
        pytest.skip("kernels are compiled here")
    if BROKEN:
        pytest.skip("Triton's interpreter before 3.7 needs numpy before 2.4")
    spec = importlib.util.spec_from_file_location(f"interpreted_{Path(file).stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with interpreting():
        spec.loader.exec_module(module)
    return module
