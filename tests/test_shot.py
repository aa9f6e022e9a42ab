"""What a shot is made of: guidance by frame, the noise of each step, its settings."""

import math
from dataclasses import replace

import pytest
import torch

from zs2 import media
from zs2.condition import Condition
from zs2.noise import DependencyNoise, IndependentNoise, sample_noise
from zs2.shot import Clip, Noise, guidance
from zs2.timeline import Keyframes

CPU = torch.device("cpu")
PROMPT, NEGATIVE = Condition(torch.ones(1, 7, 3)), Condition(torch.zeros(1, 7, 3))


@pytest.mark.parametrize("cfg", [1, [1, 1, 1], Keyframes(((0, 1.0),))])
def test_guidance_1_is_one_branch(cfg):
    (branch,) = guidance(cfg, 3, PROMPT, NEGATIVE)
    assert branch.weights == (1, 1, 1)
    assert branch.condition is PROMPT


@pytest.mark.parametrize(
    ("cfg", "scale"),
    [
        (7.5, (7.5, 7.5, 7.5)),
        ([1, 3, 1], (1, 3, 1)),
        (torch.tensor([0.0, 1, 9]), (0, 1, 9)),
        (Keyframes(((0, 1.0), (2, 3.0))), (1, 2, 3)),
    ],
)
def test_guidance_by_frame(cfg, scale):
    negative, prompt = guidance(cfg, 3, PROMPT, NEGATIVE)
    assert prompt.weights == scale
    assert negative.weights == tuple(1 - s for s in scale)
    assert (prompt.condition, negative.condition) == (PROMPT, NEGATIVE)


@pytest.mark.parametrize("cfg", [math.inf, -math.inf, math.nan, 10_001.0, [1.0, 2.0, math.nan]])
def test_guidance_that_is_no_number(cfg):
    with pytest.raises(ValueError, match=r"cfg must lie in -10000\.\.10000"):
        guidance(cfg, 3, PROMPT, NEGATIVE)


@pytest.mark.parametrize("rng", ["zs2", "cpu"])
def test_the_noise_of_every_step(rng):
    model, seeds, shape = DependencyNoise(0.1), [3, 4], (4, 2, 2)
    noise = Noise(model, seeds, 5, shape, CPU, rng)
    for step in range(3):
        expected = sample_noise(model, seeds, 5, shape, step=step, rng=rng)
        assert noise(0, 5, step).equal(expected)
        assert noise(2, 4, step).equal(expected[:, 2:4])
    assert noise(1, 5).equal(noise(0, 5, 0)[:, 1:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_noise_that_is_given(dtype):
    first = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    noise = Noise(IndependentNoise(), [3, 4], 3, (4, 2, 2), CPU, first=first)
    assert noise(0, 3).dtype == torch.float32
    assert noise(1, 3).equal(torch.stack([first, first]).float()[:, 1:])  # of every clip
    # The later steps' is drawn as ever.
    assert noise(0, 3, 1).equal(sample_noise(IndependentNoise(), [3, 4], 3, (4, 2, 2), step=1))
    each = torch.stack([first, -first])
    assert Noise(IndependentNoise(), [3, 4], 3, (4, 2, 2), CPU, first=each)(0, 3).equal(
        each.float()
    )


@pytest.mark.parametrize("shape", [(4, 2, 2), (2, 4, 2, 2), (1, 3, 4, 2, 2), (3, 4, 2, 3)])
def test_noise_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"latents must be a tensor \[2, 3, 4, 2, 2\]"):
        Noise(IndependentNoise(), [3, 4], 3, (4, 2, 2), CPU, first=torch.zeros(shape))


def test_a_clips_numbers(tmp_path):
    frames = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    frames[1] = 51
    clip = Clip(frames, torch.zeros(2, 4, 2, 2), {}, 1.0, True, fps=5)
    assert clip.motion == 51
    assert clip.flicker == pytest.approx(0.8)
    assert media.read_settings(clip.save(tmp_path / "a.gif"))["fps"] == 5
    assert media.read_settings(clip.save(tmp_path / "b.gif", fps=10))["fps"] == 10
    with pytest.raises(ValueError, match="fps"):
        clip.save(tmp_path / "c.gif", fps=0)


def test_a_features_settings_win(random_pipe):
    shot = random_pipe.shot(["a ball", "a cube"], frames=2, seed=[1, 2])
    shot = replace(shot, settings=shot.with_settings(seed=9, strength=0.5))
    assert [s["seed"] for s in shot.settings] == [9, 9]
    assert [s["strength"] for s in shot.settings] == [0.5, 0.5]
    assert [s["prompt"] for s in shot.settings] == ["a ball", "a cube"]
