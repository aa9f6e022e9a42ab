"""Normal noise is told from what only looks like it."""

import torch

from zs2.metrics.normal import is_normal, moments


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_normal_noise_is():
    assert is_normal(noise(16, 4, 32, 32))


def test_what_is_not():
    x = noise(16, 4, 32, 32)
    assert not is_normal(x + 0.05)
    assert not is_normal(1.05 * x)
    assert not is_normal(x.sign())  # mean and variance are right
    assert not is_normal((x + x.roll(1, -1)) / 2**0.5)
    assert not is_normal((x + x.roll(1, -2)) / 2**0.5)
    for axis in (-1, -2):  # a little is told too
        assert not is_normal((x + 0.1 * x.roll(1, axis)) / 1.01**0.5)
    x[0, 0, 0, 0] = float("nan")
    assert not is_normal(x)


def test_moments_by_hand():
    found = moments(torch.tensor([[1.0, -1], [1, 3]]))
    assert found == {"mean": 1, "variance": 2, "kurtosis": 2, "beside": 1, "above": -1}
