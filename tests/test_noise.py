import math
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from zs2.noise import (
    DependencyNoise,
    Draws,
    IndependentNoise,
    MixedNoise,
    NoiseModel,
    ProgressiveNoise,
    correlation,
    exact_search,
    expected_correlation,
    iterative_search,
    kl,
    kl_of_mix,
    kl_terms,
    mix,
    random_search,
    realised_kl,
    sample_noise,
)

SMALL = (4, 16, 16)  # 1024 values, a 128-pixel clip
LARGE = (4, 64, 64)  # 16384 values, 512 pixels
MODELS = [IndependentNoise(), MixedNoise(), ProgressiveNoise(), DependencyNoise()]
MODEL_IDS = ["independent", "mixed", "progressive", "dependency"]


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
    variance = x.var(correction=0)
    return (
        x.mean().item(),
        variance.item(),
        ((x - x.mean()) ** 4).mean().item() / variance.item() ** 2,
    )


# --- Eq. 1 ---------------------------------------------------------------------------------------


def test_kl_is_the_papers() -> None:
    """Listing 1's kl_div, with the `reduction="none"` that it forgets."""
    noise, previous = torch.randn(2, 3, *SMALL, dtype=torch.float64)
    listing = torch.nn.functional.kl_div(noise, previous, log_target=True, reduction="none")
    torch.testing.assert_close(kl(noise, previous), listing.mean(dim=[1, 2, 3]))


def test_kl_of_mix_needs_only_two_numbers() -> None:
    draws = Draws(torch.tensor([1, 2]), math.prod(SMALL))
    previous, fresh = draws(0)[:, 0], draws(1)[:, 0]
    a, b = kl_terms(previous, fresh[:, None])
    alpha = torch.tensor([0.3, 0.9], dtype=torch.float64)
    mixed = mix(previous, fresh, alpha).unflatten(1, SMALL)
    direct = kl(mixed, previous.unflatten(1, SMALL))
    torch.testing.assert_close(kl_of_mix(a, b[:, 0], alpha), direct, rtol=0, atol=1e-6)


@pytest.mark.parametrize("select", ["unbiased", "paper"])
@pytest.mark.parametrize("lam", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_realised_kl_is_lam(lam: float, select: Literal["unbiased", "paper"]) -> None:
    noise = sample_noise(DependencyNoise(lam, select=select), list(range(8)), 8, SMALL)
    assert (realised_kl(noise) - lam).abs().max() < 1e-6


def test_exact_search_finds_the_minimum() -> None:
    """Against every alpha of a fine grid, also where lam can't be met."""
    a = torch.tensor([1.2, 1.6, 2.1, 1.65], dtype=torch.float64)
    b = torch.tensor([0.2, -0.3, 0.0, 0.9], dtype=torch.float64)
    grid = torch.linspace(0, 1, 200_001, dtype=torch.float64)[:, None]
    for lam in (1e-3, 0.01, 0.3, 1.0, 1.5, 5.0, math.inf):
        alpha = exact_search(a, b, lam)
        assert ((alpha >= 0) & (alpha <= 1)).all()
        if lam < math.inf:
            best = (kl_of_mix(a, b, grid) - lam).abs().min(dim=0).values
            assert ((kl_of_mix(a, b, alpha) - lam).abs() <= best + 1e-12).all()
        assert (alpha[lam >= a - b] == 0).all()


def test_random_search_rules() -> None:
    draws = Draws(torch.tensor([1, 2, 3]), math.prod(SMALL))
    previous, candidates = draws(0)[:, 0], draws(1, candidates=10)
    a, b = kl_terms(previous, candidates)
    rules = {
        ("unbiased", 0.01): b.abs().argmin(dim=1),
        ("paper", 0.01): b.argmax(dim=1),
        ("paper", 1.65): (a[:, None] - b - 1.65).abs().argmin(dim=1),
        ("paper", math.inf): b.argmin(dim=1),
    }
    for (select, lam), best in rules.items():
        fresh, a_out, b_out = random_search(previous, candidates, lam, select)
        for clip, k in enumerate(best.tolist()):
            assert torch.equal(fresh[clip], candidates[clip, k])
            assert b_out[clip] == b[clip, k]
        assert torch.equal(a_out, a)


def test_lam_zero_is_a_still_clip() -> None:
    for search in ("exact", "iterative"):
        noise = sample_noise(DependencyNoise(0.0, search=search), [1, 2], 16, SMALL)
        assert torch.equal(noise, noise[:, :1].expand_as(noise))


@pytest.mark.parametrize(
    "model",
    [
        DependencyNoise(math.inf),
        DependencyNoise(math.inf, select="paper"),
        DependencyNoise(math.inf, search="iterative"),
        IndependentNoise(),
    ],
)
def test_lam_infinite_is_independent_frames(model: NoiseModel) -> None:
    noise = sample_noise(model, list(range(16)), 16, SMALL)
    mean = correlation(noise)[:, 1:].mean(dim=0)
    assert (mean.abs() < 5 / math.sqrt(16 * 1024)).all()


def test_lam_infinite_takes_a_candidate_as_it_is() -> None:
    noise = sample_noise(DependencyNoise(math.inf, candidates=1), [3], 5, SMALL)
    assert torch.equal(noise, sample_noise(IndependentNoise(), [3], 5, SMALL))


# --- eps ~ N(0, I), and how fast a clip forgets its first frame ----------------------------------


def assert_normal_and_correlated(noise: Tensor, at: tuple[int, ...]) -> None:
    mean, variance, kurtosis = moments(noise[:, -1])
    assert abs(mean) < 0.02
    assert abs(variance - 1) < 0.02
    assert abs(kurtosis - 3) < 0.1
    error = correlation(noise).mean(dim=0) - expected_correlation(0.01, noise.shape[1])
    for frame in at:
        assert abs(error[frame - 1]) < 0.03, f"frame {frame}"


def test_frame_64_is_normal_128_pixels() -> None:
    noise = sample_noise(DependencyNoise(), list(range(64)), 64, SMALL)
    assert_normal_and_correlated(noise, at=(8, 16, 64))


@pytest.mark.slow
def test_frame_64_is_normal_512_pixels() -> None:
    noise = sample_noise(DependencyNoise(), list(range(64)), 64, LARGE)
    assert_normal_and_correlated(noise, at=(8, 16, 64))


def test_the_papers_rule_drifts() -> None:
    """Why it is not the default; should it stop drifting, the docstring is out of date."""
    noise = sample_noise(DependencyNoise(select="paper"), list(range(16)), 64, SMALL)
    assert moments(noise[:, -1])[2] > 4


def test_expected_correlation() -> None:
    expected = expected_correlation(0.01, 64)
    torch.testing.assert_close(
        expected[[0, 7, 15, 63]], torch.tensor([1, 0.958, 0.913, 0.682]).double(), rtol=0, atol=1e-3
    )
    per_frame = expected_correlation([9.0, 0.0, 0.1, math.inf], 4)
    torch.testing.assert_close(
        per_frame, torch.tensor([1, 1, 1 - 0.1 / math.sqrt(math.e), 0], dtype=torch.float64)
    )


# --- the three rivals ----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_mixed(alpha: float) -> None:
    """Every two frames, the first included, correlate by alpha."""
    noise = sample_noise(MixedNoise(alpha), list(range(64)), 6, SMALL)
    for first in (0, 2):
        mean = correlation(noise[:, first:]).mean(dim=0)[1:]
        assert (mean - alpha).abs().max() < 0.02
    assert abs(moments(noise)[1] - 1) < 0.02


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_progressive(alpha: float) -> None:
    """Frames correlate by sqrt(alpha) to the power of their distance."""
    noise = sample_noise(ProgressiveNoise(alpha), list(range(64)), 6, SMALL)
    expected = math.sqrt(alpha) ** torch.arange(6)
    assert (correlation(noise).mean(dim=0) - expected).abs().max() < 0.02
    assert abs(moments(noise)[1] - 1) < 0.02


@pytest.mark.parametrize("model", [MixedNoise(1.0), ProgressiveNoise(1.0)])
def test_alpha_one_is_a_still_clip(model: NoiseModel) -> None:
    noise = sample_noise(model, [1, 2], 4, SMALL)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))


@pytest.mark.parametrize("model", [MixedNoise(), ProgressiveNoise()])
def test_default_alpha_moves_as_lam_001(model: NoiseModel) -> None:
    noise = sample_noise(model, list(range(16)), 2, SMALL)
    assert correlation(noise)[:, 1].mean().item() == pytest.approx(
        expected_correlation(0.01, 2)[1].item(), abs=1e-3
    )


# --- addressed by (seed, frame), nothing else ----------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_noise_depends_on_seed_and_frame_only(model: NoiseModel) -> None:
    noise = sample_noise(model, [5, 2**63 - 1, 6, 2**32 + 5], 8, SMALL)
    assert torch.equal(noise[:, :3], sample_noise(model, [5, 2**63 - 1, 6, 2**32 + 5], 3, SMALL))
    assert torch.equal(noise[1:2], sample_noise(model, [2**63 - 1], 8, SMALL))
    assert torch.equal(noise[[2, 0]], sample_noise(model, [6, 5], 8, SMALL))
    for other in range(1, 4):
        assert correlation(torch.stack((noise[0], noise[other]), dim=1)[0][None]).min() < 0.2


def test_batch_does_not_change_a_large_frame() -> None:
    """With threads torch splits a lone clip's sums, and not a batch's."""
    torch.set_num_threads(2)
    shape = (4, 128, 128)
    model = DependencyNoise(0.1, candidates=1)
    batch = sample_noise(model, [3, 4, 5], 8, shape)
    alone = [sample_noise(model, [seed], 8, shape) for seed in (3, 4, 5)]
    assert torch.equal(batch, torch.cat(alone))


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_first_frame_is_the_still_image_of_the_seed(model: NoiseModel) -> None:
    still = sample_noise(IndependentNoise(), [11], 1, SMALL)
    assert torch.equal(sample_noise(model, [11], 5, SMALL)[:, :1], still)


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7)])
def test_odd_sizes(model: NoiseModel, shape: tuple[int, int, int]) -> None:
    noise = sample_noise(model, [0, 1], 4, shape)
    assert noise.shape == (2, 4, *shape)
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()


def test_draws_never_repeat() -> None:
    """Seeds, frames, candidates and values are all different numbers."""
    draws = Draws(torch.tensor([0, 1, 2**32]), 64)
    numbers = torch.stack([draws(frame, candidates=5) for frame in range(4)])
    assert numbers.unique().numel() == numbers.numel()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_gpu_agrees_with_cpu(model: NoiseModel) -> None:
    noise = sample_noise(model, [0, 7], 16, SMALL, device="cuda").cpu()
    torch.testing.assert_close(noise, sample_noise(model, [0, 7], 16, SMALL), rtol=0, atol=1e-4)


# --- settings ------------------------------------------------------------------------------------


def test_lam_for_each_frame() -> None:
    lams = [9.0, 0.01, 0.0, 0.5, math.inf]
    noise = sample_noise(DependencyNoise(lams), [1, 2], 5, SMALL)
    realised = realised_kl(noise)
    for pair, lam in enumerate([0.01, 0.0, 0.5]):
        assert (realised[:, pair] - lam).abs().max() < 1e-6
    assert torch.equal(noise[:, 1], noise[:, 2])
    assert correlation(noise[:, 3:])[:, 1].abs().max() < 5 / math.sqrt(1024)


def test_alpha_for_each_frame() -> None:
    noise = sample_noise(ProgressiveNoise([0.3, 1.0, 0.0, 1.0]), [1], 4, SMALL)
    assert torch.equal(noise[:, 0], noise[:, 1])
    assert torch.equal(noise[:, 2], noise[:, 3])
    assert abs(correlation(noise)[0, 2]) < 5 / math.sqrt(1024)
    noise = sample_noise(MixedNoise([1.0, 0.0, 1.0, 0.25]), list(range(16)), 4, SMALL)
    expected = torch.tensor([1.0, 0.0, 1.0, 0.5])
    assert (correlation(noise).mean(dim=0) - expected).abs().max() < 5 / math.sqrt(16 * 1024)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lam": -0.01}, "lam must lie"),
        ({"lam": math.nan}, "lam must lie"),
        ({"lam": [0.1, -1.0]}, "lam must lie"),
        ({"candidates": 0}, "candidates must be"),
        ({"select": "best"}, "select is"),
        ({"search": "newton"}, "search is"),
    ],
)
def test_bad_dependency_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DependencyNoise(**settings)


@pytest.mark.parametrize("model", [MixedNoise, ProgressiveNoise])
@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, [0.5, 2.0]])
def test_bad_alpha(model: type, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie"):
        model(alpha)


@pytest.mark.parametrize(
    "model", [MixedNoise([0.5] * 3), ProgressiveNoise([0.5] * 3), DependencyNoise([0.5] * 3)]
)
def test_wrong_count_of_per_frame_values(model: NoiseModel) -> None:
    with pytest.raises(ValueError, match="3 values for 4 frames"):
        sample_noise(model, [0], 4, SMALL)


@pytest.mark.parametrize(
    ("seeds", "frames", "shape", "message"),
    [
        ([], 2, SMALL, "seed"),
        ([-1], 2, SMALL, "seed"),
        ([2**63], 2, SMALL, "seed"),
        ([1.5], 2, SMALL, "seed"),
        ([1], 0, SMALL, "at least 1 frame"),
        ([1], 2, (4, 16), "shape"),
        ([1], 2, (4, 0, 16), "shape"),
    ],
)
def test_bad_arguments(seeds: list[int], frames: int, shape: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_noise(DependencyNoise(), seeds, frames, shape)


# --- the paper's iterative search (Figure 17) ----------------------------------------------------


@pytest.mark.parametrize("lam", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_iterative_search_nears_the_exact(lam: float) -> None:
    draws = Draws(torch.arange(16), math.prod(SMALL))
    a, b = kl_terms(draws(0)[:, 0], draws(1))
    path = iterative_search(a, b[:, 0], lam, steps=40)
    error = (kl_of_mix(a, b[:, 0], path) - lam).abs()
    assert (error.diff(dim=0) <= 0).all(), "a step made it worse"
    torch.testing.assert_close(path[-1], exact_search(a, b[:, 0], lam), rtol=0, atol=1e-6)
    assert error[14].max() < 0.03  # the paper's 15 steps


def test_iterative_search_makes_a_moving_clip_at_a_small_lam() -> None:
    """As printed, Algorithm 1 walks past lam < 0.04 to alpha = 1 and makes a still clip."""
    noise = sample_noise(DependencyNoise(search="iterative"), [0, 1], 8, SMALL)
    assert ((realised_kl(noise) - 0.01).abs() < 0.02).all()
    assert (realised_kl(noise) > 0.009).all()
