"""The search kernels, interpreted or on a GPU, against the noise model in plain torch."""

import math

import pytest
import torch
from interpreter import GPU, interpreted

from zs2 import draws, noise
from zs2.draws import Draws, mix
from zs2.kernels import noise_search
from zs2.noise import DependencyNoise, kl_terms, realised_kl, sample_noise
from zs2.noise_loop import LoopNoise

SEEDS = [7, 2**62 + 12345, 0]


COMPILED = pytest.param("compiled", marks=pytest.mark.skipif(not GPU, reason="no GPU"))


@pytest.fixture(scope="module", params=["interpreted", COMPILED])
def kernels(request):
    compiled = request.param == "compiled"
    return noise_search if compiled else interpreted(noise_search.__file__)


def device(kernels):
    return "cuda" if kernels is noise_search else "cpu"


def both(model, shape, frames, kernels, monkeypatch, seeds=SEEDS, step=0):
    expected = sample_noise(model, seeds, frames, shape, step=step)
    with monkeypatch.context() as patch:
        patch.setattr(noise, "noise_search", kernels)
        patch.setattr(draws, "noise_search", kernels)
        made = sample_noise(model, seeds, frames, shape, device(kernels), step=step)
    return made.cpu(), expected


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


@pytest.mark.parametrize(
    ("shape", "candidates", "select", "lam", "inertia"),
    [
        ((4, 5, 7), 1, "unbiased", math.inf, 0.5),
        ((4, 5, 7), 10, "paper", 0.2, 0.8),
        ((4, 5, 7), 3, "unbiased", 0.1, 1),
        ((3, 11, 31), 4, "paper", 0.2, 0.5),
        ((4, 32, 32), 3, "unbiased", 0.001, 0.95),
    ],
)
def test_inertia(kernels, monkeypatch, shape, candidates, select, lam, inertia):
    model = DependencyNoise(lam, candidates, select, inertia=inertia)
    made, expected = both(model, shape, 4, kernels, monkeypatch)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    if math.prod(shape) > 1000:
        assert (realised_kl(made) - lam).abs().max() < 1e-5


def test_lambda_and_inertia_may_differ_by_frame(kernels, monkeypatch):
    for inertia in (0.0, [0.0, 0.5, 0.9, 0.0, 0.5, 1.0]):
        model = DependencyNoise([0.0, 0.1, 0.0, 0.01, 0.1, 0.3], 3, inertia=inertia)
        made, expected = both(model, (4, 16, 16), 6, kernels, monkeypatch)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
        assert made[:, 2].equal(made[:, 1])


@pytest.mark.parametrize("step", [1, 2**31 - 1])
def test_steps(kernels, monkeypatch, step):
    for inertia in (0.0, 0.9):
        model = DependencyNoise(0.05, 3, inertia=inertia)
        made, expected = both(model, (4, 5, 7), 3, kernels, monkeypatch, step=step)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_other_noises_are_drawn_in_one_launch(kernels, monkeypatch):
    made, expected = both(LoopNoise(0.1), (3, 11, 31), 4, kernels, monkeypatch)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    seeds = torch.tensor(SEEDS)
    expected = Draws(seeds, 1025, step=3)(5, candidates=4)
    monkeypatch.setattr(draws, "noise_search", kernels)
    made = Draws(seeds.to(device(kernels)), 1025, step=3)(5, candidates=4).cpu()
    assert made.shape == (3, 4, 1025)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("order", "inertia", "select"),
    [
        ([0, 1], 0.6, "paper"),
        ([1, 0], 0, "paper"),
        ([1, 0], 0.6, "unbiased"),
        ([0, 2, 1], 0, "unbiased"),
        ([2, 0, 1], 0, "unbiased"),
    ],
)
def test_more_candidates_than_a_tile_holds(kernels, monkeypatch, order, inertia, select):
    """Candidates are scored in tiles of 64, whose winners meet; `order` ranks the tiles."""
    lam, k = 0.05, 64 * len(order) - 20
    for seed in range(100):
        address = Draws(torch.tensor([seed]), 4 * 5 * 7)
        first, turned = address(0, candidates=2).unbind(1)
        a, b = kl_terms(first, mix(turned[:, None], address(1, k), inertia**2))
        distance = b[0].abs() if select == "unbiased" else (a - b[0] - lam).abs()
        best = torch.stack([tile.min() for tile in distance.split(64)])
        if best.argsort().tolist() == order:
            break
    else:
        raise AssertionError(f"no seed ranks the tiles as {order}")
    model = DependencyNoise(lam, k, select, inertia=inertia)
    made, expected = both(model, (4, 5, 7), 2, kernels, monkeypatch, seeds=[seed])
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_the_iterative_search_stays_in_torch(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "next_frame", None)
    model = DependencyNoise(0.1, search="iterative", inertia=0.5)
    made, expected = both(model, (4, 8, 8), 3, kernels, monkeypatch)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
