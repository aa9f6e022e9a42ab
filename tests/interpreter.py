"""Triton's interpreter: runs a kernel file on the CPU, while zs2 itself goes on without Triton.

Imported before anything else that could import Triton: whether a kernel is compiled or interpreted
is settled where it is defined, and Triton's own library is full of kernels.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest


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


with interpreting():
    try:
        import triton.experimental.gluon  # which Triton itself imports late
        import triton.language
    except ImportError:  # a Mac, or Windows
        triton = None


def interpreted(file: str | Path) -> ModuleType:
    """A second copy of the module in `file`, its kernels run by the interpreter."""
    if triton is None:
        pytest.skip("needs triton")
    spec = importlib.util.spec_from_file_location(f"interpreted_{Path(file).stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with interpreting():
        spec.loader.exec_module(module)
    return module
