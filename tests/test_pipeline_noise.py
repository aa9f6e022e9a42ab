"""The pipeline's noise: whose numbers it starts from, and what samplers add on the way."""

from dataclasses import replace

import pytest
import torch
from parity import error

from zs2.noise import DependencyNoise, IndependentNoise, expected_correlation, sample_noise
from zs2.samplers import SAMPLERS, dpm_2m, dpm_2m_sde, euler_ancestral, lcm
from zs2.shot import Noise

# Sums of float32 in another order, over four steps.
TOLERANCE = 1e-5
STOCHASTIC = [euler_ancestral, dpm_2m_sde, lcm]


def test_frame_1_starts_from_the_noise_of_diffusers(random_pipe):
    shot = random_pipe.shot(["a ball", "a cube"], frames=3, seed=[5, 6], rng="cpu")
    for clip, seed in enumerate((5, 6)):
        first = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
        assert shot.start(0, 1)[clip].equal(first)
    assert [s["rng"] for s in shot.settings] == ["cpu"] * 2
    assert random_pipe.shot("a ball", seed=5).settings[0]["rng"] == "zs2"


@pytest.mark.parametrize("name", SAMPLERS)
def test_frame_1_is_the_still_whatever_the_sampler(random_pipe, name):
    """With noise that samplers add: its numbers are those of the frame, not of the clip."""
    options = {"sampler": SAMPLERS[name], "seed": 3}
    clip = random_pipe("a ball", frames=4, lam=0.3, mu=0.5, **options)
    still = random_pipe("a ball", frames=1, **options)
    assert error(clip.latents[:1], still.latents) < TOLERANCE
    assert clip.settings["sampler"] == name


@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_lam_0_and_mu_1_is_a_still_clip_whatever_is_added(random_pipe, sampler):
    still = random_pipe("a ball", frames=4, lam=0.0, mu=1.0, seed=1, sampler=sampler).latents
    assert error(still, still[:1].expand_as(still)) < TOLERANCE
    other = random_pipe("a ball", frames=4, lam=0.0, mu=1.0, seed=2, sampler=sampler).latents
    assert error(still, other) > 0.1


def test_clips_of_a_batch_get_noise_of_their_own(random_pipe):
    options = {"frames": 3, "sampler": euler_ancestral}
    both = random_pipe(["a ball", "a cube"], seed=[4, 5], **options)
    for made, prompt, seed in zip(both, ("a ball", "a cube"), (4, 5), strict=True):
        alone = random_pipe(prompt, seed=seed, **options)
        assert error(made.latents, alone.latents) < TOLERANCE


def test_noise_that_is_added_independently_flickers(random_pipe):
    """From the same calm start: half of the picture is then each frame's own."""

    def apart(pipe, shot):
        shape = pipe.latent_shape(16)
        return replace(shot, noise=Noise(IndependentNoise(), [1], 6, shape, pipe.device))

    options = {"frames": 6, "lam": 0.005, "mu": 0.98, "seed": 1, "sampler": euler_ancestral}
    calm = random_pipe("a ball", **options).latents
    wild = random_pipe("a ball", **options, features=[apart]).latents
    moved = [(x[1:] - x[:-1]).square().mean().sqrt() for x in (calm, wild)]
    assert moved[1] > 2 * moved[0]  # 2.6 times, in a model that makes much of little


def test_the_usual_levels_of_a_sampler(random_pipe):
    schedule = random_pipe.weights.schedule
    for options, spacing in (
        ({}, "leading"),
        ({"sampler": dpm_2m}, "karras"),
        ({"sampler": dpm_2m, "spacing": "trailing"}, "trailing"),
        ({"spacing": "sgm-uniform"}, "sgm-uniform"),
    ):
        shot = random_pipe.shot("a ball", frames=1, seed=1, **options)
        assert list(shot.levels) == schedule.levels(4, spacing)
        assert shot.settings[0]["schedule"] == spacing


def test_a_clip_tells_how_alike_its_ends_start(random_pipe):
    clips = random_pipe(["a ball"] * 2, frames=4, lam=0.2, seed=[1, 2])
    noise = sample_noise(DependencyNoise(0.2), [1, 2], 4, (4, 8, 8)).flatten(2)
    for clip, x in zip(clips, noise, strict=True):
        assert clip.correlation == pytest.approx(torch.corrcoef(x[[0, 3]])[0, 1].item(), abs=1e-5)
        # 256 values: one standard error is 0.06.
        expected = expected_correlation(0.2, 4, DependencyNoise.inertia)[-1].item()
        assert clip.correlation == pytest.approx(expected, abs=0.2)
