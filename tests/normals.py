"""What the tests of noise share: sizes of frames, and moments to compare with a normal's."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

SMALL = (4, 16, 16)  # 1024 values, a 128-pixel clip
LARGE = (4, 64, 64)  # 16384 values, 512 pixels


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower with threads, by far so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def moments(noise: Tensor) -> tuple[float, float, float]:
    """Mean, variance and kurtosis (3 for a normal) over all values."""
    x = noise.double()
    variance = x.var(correction=0).item()
    return x.mean().item(), variance, ((x - x.mean()) ** 4).mean().item() / variance**2
