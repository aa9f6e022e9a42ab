"""Numbers by address: seed, frame, candidate, step; and the first ones as other programs draw."""

import math

import pytest
import torch
from normals import SMALL, one_thread  # noqa: F401

from zs2.draws import Draws, NoiseModel, mix, neighbour_correlation
from zs2.kernels.philox import cuda_randn, normal
from zs2.noise import NOISES, DependencyNoise, correlation, realised_kl, sample_noise

SIZE = math.prod(SMALL)
MODELS = [noise() for noise in NOISES.values()] + [DependencyNoise(inertia=0.9)]
MODEL_IDS = [*NOISES, "inertia"]


def test_draws_never_repeat() -> None:
    """Seeds, frames, candidates, steps and values are all different numbers."""
    seeds = torch.tensor([0, 1, 2**32])
    numbers = torch.stack(
        [Draws(seeds, 64, step)(frame, candidates=5) for frame in range(4) for step in range(3)]
    )
    assert numbers.unique().numel() == numbers.numel()


def test_the_address_is_the_counter() -> None:
    seeds = torch.tensor([3, 2**40])
    made = Draws(seeds, 6, step=7)(5, candidates=2)
    for clip, seed in enumerate(seeds):
        for candidate in range(2):
            counter = torch.tensor([0, 1]), *torch.tensor([5, candidate, 7])
            assert made[clip, candidate].equal(normal(counter, seed).flatten()[:6])


def test_neighbour_correlation() -> None:
    """The mean of the paper's KL over normals that correlate by c is sqrt(e) (1 - c)."""
    p, n = torch.randn(2, 2_000_000, generator=torch.Generator().manual_seed(0)).double()
    for lam in (0.0, 0.3, 1.0):
        c = neighbour_correlation(lam)
        eps = c * p + math.sqrt(1 - c * c) * n
        assert (p.exp() * (p - eps)).mean().item() == pytest.approx(lam, abs=0.01)
    assert neighbour_correlation(math.inf) == 0


# --- the steps of a sampler ----------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_steps_are_fresh_noise_of_the_same_model(model: NoiseModel) -> None:
    noise = torch.stack([sample_noise(model, [1, 2], 4, SMALL, step=k) for k in range(4)])
    assert torch.equal(noise[0], sample_noise(model, [1, 2], 4, SMALL))
    among = torch.corrcoef(noise.flatten(3).permute(1, 2, 0, 3).flatten(0, 2)).abs()
    for clip in range(2):
        for frame in range(4):
            at = [(clip * 4 + frame) * 4 + k for k in range(4)]
            assert (among[at][:, at] - torch.eye(4)).abs().max() < 5 / math.sqrt(SIZE)


def test_steps_meet_the_kl() -> None:
    for inertia in (0.0, 0.9):
        model = DependencyNoise(0.05, inertia=inertia)
        noise = sample_noise(model, [1, 2], 6, SMALL, step=9)
        assert (realised_kl(noise) - 0.05).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["dependency", "loop"])
def test_steps_of_a_still_clip_are_still(name: str) -> None:
    """An ancestral sampler must not flicker where nothing moves."""
    for step in range(3):
        noise = sample_noise(NOISES[name](lam=0.0), [1], 5, SMALL, step=step)
        assert torch.equal(noise, noise[:, :1].expand_as(noise))


@pytest.mark.parametrize("step", [-1, 2**31, 1.0, True])
def test_bad_steps(step: int) -> None:
    with pytest.raises(ValueError, match="step"):
        sample_noise(DependencyNoise(), [1], 2, SMALL, step=step)


# --- whose numbers come first --------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_the_first_frame_is_that_of_diffusers(model: NoiseModel) -> None:
    """One generator a seed, called once for the initial noise and once a step."""
    seeds, shape = [7, 2**40 + 3], (4, 5, 7)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for step in range(3):
        noise = sample_noise(model, seeds, 3, shape, step=step, rng="cpu")
        for clip, generator in zip(noise, generators, strict=True):
            assert torch.equal(clip[:1], torch.randn((1, *shape), generator=generator))


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_the_first_frame_is_that_of_a_gpu(model: NoiseModel) -> None:
    for step in range(2):
        noise = sample_noise(model, [7, 2**40 + 3], 3, SMALL, step=step, rng="cuda")
        for clip, seed in zip(noise, (7, 2**40 + 3), strict=True):
            assert torch.equal(clip[0], cuda_randn(seed, SMALL, offset=step))


@pytest.mark.parametrize("rng", ["cpu", "cuda"])
def test_later_frames_follow_the_first(rng: str) -> None:
    model = DependencyNoise(0.02, inertia=0.5)
    noise = sample_noise(model, [3, 4], 6, SMALL, rng=rng)
    assert (realised_kl(noise) - 0.02).abs().max() < 1e-6
    assert torch.equal(noise[1:], sample_noise(model, [4], 6, SMALL, rng=rng))
    own = sample_noise(NOISES["independent"](), [3, 4], 6, SMALL, rng=rng)
    assert torch.equal(own[:, 1:], sample_noise(NOISES["independent"](), [3, 4], 6, SMALL)[:, 1:])
    assert correlation(own)[:, 1:].abs().max() < 5 / math.sqrt(SIZE)


def test_the_cpus_numbers_do_not_change_with_torchs_default() -> None:
    expected = sample_noise(DependencyNoise(), [3], 1, SMALL, rng="cpu")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        made = sample_noise(DependencyNoise(), [3], 1, SMALL, rng="cpu")
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(made, expected)


def test_other_generators_are_unknown() -> None:
    with pytest.raises(ValueError, match="rng is 'zs2', 'cpu' or 'cuda', not 'gpu'"):
        sample_noise(DependencyNoise(), [1], 2, SMALL, rng="gpu")


def test_mix_keeps_both_parts() -> None:
    base, fresh = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    alpha = torch.tensor([0.0, 0.25, 1.0])
    made = mix(base, fresh, alpha)
    assert torch.equal(made[0], fresh[0])
    assert torch.equal(made[2], base[2])
    torch.testing.assert_close(made[1], 0.5 * base[1] + math.sqrt(0.75) * fresh[1])


def test_mix_of_very_little() -> None:
    """1 - alpha in float32 would be a multiple of 6e-8."""
    made = mix(torch.zeros(1), torch.ones(1), 1 - 1e-7)
    assert made.item() == pytest.approx(math.sqrt(1e-7), rel=1e-6)
