"""Mixed and progressive noise: how their frames correlate, and what they refuse."""

import math

import pytest
import torch
from normals import SMALL, moments, one_thread  # noqa: F401

from zs2.draws import NoiseModel
from zs2.noise import correlation, expected_correlation, sample_noise
from zs2.noise_rivals import MixedNoise, ProgressiveNoise


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


def test_alpha_for_each_frame() -> None:
    noise = sample_noise(ProgressiveNoise([0.3, 1.0, 0.0, 1.0]), [1], 4, SMALL)
    assert torch.equal(noise[:, 0], noise[:, 1])
    assert torch.equal(noise[:, 2], noise[:, 3])
    assert abs(correlation(noise)[0, 2]) < 5 / math.sqrt(1024)
    noise = sample_noise(MixedNoise([1.0, 0.0, 1.0, 0.25]), list(range(16)), 4, SMALL)
    expected = torch.tensor([1.0, 0.0, 1.0, 0.5])
    assert (correlation(noise).mean(dim=0) - expected).abs().max() < 5 / math.sqrt(16 * 1024)


@pytest.mark.parametrize("model", [MixedNoise, ProgressiveNoise])
@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, [0.5, 2.0]])
def test_bad_alpha(model: type, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie"):
        model(alpha)


@pytest.mark.parametrize("model", [MixedNoise([0.5] * 3), ProgressiveNoise([0.5] * 3)])
def test_wrong_count_of_per_frame_values(model: NoiseModel) -> None:
    with pytest.raises(ValueError, match="3 values for 4 frames"):
        sample_noise(model, [0], 4, SMALL)
