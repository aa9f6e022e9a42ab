"""The search kernels against the noise model in plain torch, in Triton's interpreter."""

import math

import pytest
import torch
from interpreter import interpreted

from zs2 import noise
from zs2.kernels import noise_search
from zs2.noise import DependencyNoise, realised_kl, sample_noise

SEEDS = [7, 2**62 + 12345, 0]


@pytest.fixture(scope="module")
def kernels():
    return interpreted(noise_search.__file__)


def both(model, shape, frames, kernels, monkeypatch, seeds=SEEDS):
    expected = sample_noise(model, seeds, frames, shape)
    with monkeypatch.context() as patch:
        patch.setattr(noise, "noise_search", kernels)
        made = sample_noise(model, seeds, frames, shape)
    return made, expected


@pytest.mark.parametrize("select", ["unbiased", "paper"])
@pytest.mark.parametrize("lam", [0.001, 0.2, math.inf])
@pytest.mark.parametrize(
    ("shape", "candidates"), [((4, 5, 7), 1), ((3, 11, 31), 10), ((4, 32, 32), 3)]
)
def test_the_kernels_make_the_same_noise(kernels, monkeypatch, shape, lam, candidates, select):
    model = DependencyNoise(lam, candidates, select)
    made, expected = both(model, shape, 3, kernels, monkeypatch)
    # The same float32 formulas; logarithms and sines of two libraries differ in the last places.
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    if lam <= 1 and math.prod(shape) > 1000:
        assert (realised_kl(made) - lam).abs().max() < 1e-5


@pytest.mark.parametrize("select", ["unbiased", "paper"])
def test_more_candidates_than_a_tile_holds(kernels, monkeypatch, select):
    model = DependencyNoise(0.05, 70, select)
    made, expected = both(model, (4, 5, 7), 2, kernels, monkeypatch, seeds=[3])
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_lambda_may_differ_by_frame(kernels, monkeypatch):
    model = DependencyNoise([0.0, 0.1, 0.0, 0.01])
    made, expected = both(model, (4, 16, 16), 4, kernels, monkeypatch)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert made[:, 2].equal(made[:, 1])


def test_the_iterative_search_stays_in_torch(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "next_frame", None)
    model = DependencyNoise(0.1, search="iterative")
    made, expected = both(model, (4, 8, 8), 3, kernels, monkeypatch)
    assert made.equal(expected)
