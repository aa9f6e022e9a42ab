"""Loops: closed, normal at every frame, with the KL between neighbours that was asked for."""

import math

import pytest
import torch
from normals import SMALL, moments, one_thread  # noqa: F401
from torch import Tensor

from zs2.draws import neighbour_correlation
from zs2.noise import NOISES, correlation, realised_kl, sample_noise
from zs2.noise_loop import LoopNoise


def closed(noise: Tensor) -> Tensor:
    """The clip and its first frame once more: the last pair is the seam."""
    return torch.cat((noise, noise[:, :1]), dim=1)


@pytest.mark.parametrize("frames", [2, 3, 8, 33])
@pytest.mark.parametrize("lam", [0.002, 0.05, 0.5, math.inf])
def test_the_kl_is_met_in_the_mean_round_the_ring(lam: float, frames: int) -> None:
    noise = sample_noise(LoopNoise(lam), list(range(64)), frames, SMALL)
    realised = realised_kl(closed(noise))
    target = min(lam, math.sqrt(math.e))
    # b of a pair varies by e / sqrt(D) = .085 sqrt(1 - c^2), and a as much times 1 - c.
    c = neighbour_correlation(lam)
    error = 5 * math.e / math.sqrt(1024 * 64) * (math.sqrt(1 - c * c) + 1 - c)
    assert (realised.mean(0) - target).abs().max() < error


@pytest.mark.parametrize(("lam", "frames"), [(0.01, 16), (0.05, 16), (0.05, 64), (1.0, 9)])
def test_correlations_round_the_ring(lam: float, frames: int) -> None:
    loop = LoopNoise(lam)
    noise = sample_noise(loop, list(range(64)), frames, SMALL)
    expected = loop.expected_correlation(frames)
    assert expected[1].item() == pytest.approx(neighbour_correlation(lam), abs=1e-12)
    torch.testing.assert_close(expected[1:], expected[1:].flip(0), rtol=0, atol=1e-12)
    for first in (0, 3):  # the same from any frame on
        made = correlation(noise.roll(-first, dims=1)).mean(dim=0)
        assert (made - expected).abs().max() < 5 / math.sqrt(1024 * 64)


@pytest.mark.parametrize("frames", [2, 7, 8])
def test_lam_infinite_is_independent_frames(frames: int) -> None:
    made = LoopNoise(math.inf).expected_correlation(frames)
    assert made[0].item() == pytest.approx(1)
    assert made[1:].abs().max() < 1e-9


@pytest.mark.parametrize("lam", [0.01, 0.2, math.inf])
def test_every_frame_is_normal(lam: float) -> None:
    noise = sample_noise(LoopNoise(lam), list(range(64)), 12, SMALL)
    for frame in range(12):  # four standard errors of 65,536 values
        mean, variance, kurtosis = moments(noise[:, frame])
        assert abs(mean) < 0.016
        assert abs(variance - 1) < 0.023
        assert abs(kurtosis - 3) < 0.08


def test_values_of_one_clip_are_independent() -> None:
    """Over many seeds the covariance of all frames is C: nothing of frame 1 is counted twice."""
    loop = LoopNoise(0.3)
    x = sample_noise(loop, list(range(4096)), 5, (1, 2, 2)).flatten(2).double()  # (B, 5, 4)
    c = loop.expected_correlation(5)
    expected = torch.stack([c.roll(i) for i in range(5)])
    made = torch.einsum("bid,bjd->ij", x, x) / (4096 * 4)
    assert (made - expected).abs().max() < 5 / math.sqrt(4096 * 4)
    others = torch.einsum("bi,bj->ij", x[:, :, 0], x[:, :, 1]) / 4096
    assert others.abs().max() < 5 / math.sqrt(4096)


def test_a_small_lam_is_a_circle() -> None:
    """One turn about what all frames share, of the weight that lam asks for."""
    w = LoopNoise(0.005).weights(16)
    circle = 0.005 / math.sqrt(math.e) / (1 - math.cos(2 * math.pi / 16))
    assert w[1].item() == pytest.approx(circle, rel=1e-3)
    assert w[2:].sum() < 1e-5
    assert w.sum().item() == pytest.approx(1)


def test_a_large_lam_brings_harmonics_in_that_fall() -> None:
    w = LoopNoise(0.05).weights(64)
    assert len(w) > 3
    assert (w[1:].diff() < 0).all()
    assert (w > 0).all()


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_lam_zero_is_a_still_clip(frames: int) -> None:
    noise = sample_noise(LoopNoise(0.0), [1, 2], frames, SMALL)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))


def test_the_path_is_smooth() -> None:
    """The step between frames hardly turns: second differences are far below a random walk's."""
    noise = closed(sample_noise(LoopNoise(0.01), list(range(8)), 32, SMALL)).double()
    step = noise.diff(dim=1)
    turn = step.diff(dim=1).square().mean() / step.square().mean()
    assert turn < 0.1  # a random walk's is 2


@pytest.mark.parametrize("lam", [-0.1, math.nan, True, "0.1", [0.1, 0.2], None])
def test_bad_lam(lam: object) -> None:
    with pytest.raises(ValueError, match="lam"):
        LoopNoise(lam)


def test_lam_of_a_tensor() -> None:
    made = sample_noise(LoopNoise(torch.tensor(0.5)), [1], 3, SMALL)
    assert torch.equal(made, sample_noise(LoopNoise(0.5), [1], 3, SMALL))


def test_its_name() -> None:
    assert NOISES["loop"] is LoopNoise


@pytest.mark.slow
def test_a_loops_seam_is_no_wider_than_its_other_steps() -> None:
    """Of 20 prompts, at the momentum that goes with a loop.

    Some steps are layout jumps, many times as wide as the rest, so that any step is wider in the
    mean than the median of its clip's others. Compared are means with means, and ranks.
    """
    import zs2
    from weights.recipe import judge

    pipe, found = zs2.load(dtype="fp32"), []
    for seed, scene in enumerate(judge.prompts(20), start=1):
        clip = pipe(scene.caption, frames=16, steps=15, seed=seed, noise=LoopNoise(0.02))
        frames = clip.frames.float()
        found.append((frames.roll(-1, 0) - frames).abs().mean((1, 2, 3)))  # the last is the seam's
    steps = torch.stack(found)
    seam, others = steps[:, -1:], steps[:, :-1]
    rank = (seam > others).float().mean()
    print(f"seam {seam.mean():.2f}, others {others.mean():.2f}, wider than {rank:.0%} of them")
    assert seam.mean() <= 1.2 * others.mean()
    # A step like the others is wider than half of them; three standard errors of 20 ranks.
    assert rank <= 0.5 + 3 * (1 / 12 / 20) ** 0.5
