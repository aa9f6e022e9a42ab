"""In-between frames: the others stay as they were, and all are as their model makes them."""

import pytest
import torch

from zs2.attention import FrameAttention
from zs2.denoise import Whole
from zs2.noise import DependencyNoise, IndependentNoise, LoopNoise, each_frame
from zs2.samplers import SAMPLERS
from zs2.shots.between import Arcs, Between
from zs2.shots.init import Init
from zs2.shots.mask import Mask
from zs2.shots.travel import Travel
from zs2.stream import Stream
from zs2.timeline import Keyframes

FRAMES = torch.randint(256, (4, 16, 16, 3), generator=torch.Generator().manual_seed(1)).byte()
# Float32: other numbers of rows in a pass, so sums in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def both(pipe, times=2, features=(), **asked):
    """Latents without and with frames between."""
    asked = {"frames": 4, "seed": 3, **asked}
    plain = pipe("a ball", features=features, **asked)
    more = pipe("a ball", features=[*features, Between(times)], **asked)
    return plain.latents, more.latents


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "euler-a"])
def test_the_others_stay_as_they_were(random_pipe, times, sampler):
    plain, more = both(random_pipe, times, sampler=SAMPLERS[sampler])
    assert len(more) == 3 * times + 1
    torch.testing.assert_close(more[::times], plain, **CLOSE)
    assert (more[1] - more[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "asked",
    [
        {"mu": 0},
        {"mu": [0, 0.5, 0.9, 0.2]},
        {"lam": Keyframes(((0, 0.01), (3, 0.5))), "cfg": [1, 3, 5, 2]},
        {"attention": FrameAttention(0.9, segment=2)},
        {"noise": IndependentNoise()},
        {"order": Stream(3)},
        {"order": Whole(2, together=False)},
        {"features": [Travel({3: "b"})]},
        {"features": [Init(FRAMES)]},
        {"features": [Init(FRAMES)], "order": Stream(3)},
        {"features": [Init(FRAMES), Mask(FRAMES, torch.ones(16, 16).tril()[None])]},
    ],
    ids=str,
)
def test_with_all_that_varies_by_frame(random_pipe, asked):
    plain, more = both(random_pipe, **asked)
    torch.testing.assert_close(more[::2], plain, **CLOSE)


def test_prompts_lie_between_prompts(random_pipe):
    travel = [Travel({3: "b"})]
    plain, more = (
        random_pipe.shot("a ball", frames=4, seed=3, features=features).branches[-1]
        for features in (travel, [*travel, Between(2)])
    )
    told, all_told = plain.condition.prompt, more.condition.prompt
    assert all_told[:, ::2].equal(told)
    torch.testing.assert_close(all_told[:, 1], (told[:, 0] + told[:, 1]) / 2)


def test_a_loop_is_closed_by_frames_too(random_pipe):
    plain, more = both(random_pipe, noise=LoopNoise(0.1))
    assert len(more) == 8
    torch.testing.assert_close(more[::2], plain, **CLOSE)
    noise = noise_of(LoopNoise(0.1), 2, 4, 8)[0]
    last = torch.cosine_similarity(noise[7], noise[0], dim=0)
    assert last > torch.cosine_similarity(noise[6], noise[0], dim=0)


def noise_of(model, times, frames, made, shape=(4, 32, 32), clips=8):
    drawn = each_frame(Arcs(model, times, frames), range(clips), made, shape)
    return torch.stack(list(drawn), 1).flatten(2)


@pytest.mark.parametrize("model", [DependencyNoise(0.3), IndependentNoise(), LoopNoise(0.1)])
def test_noise_between_is_normal(model):
    noise = noise_of(model, 4, 5, 17)  # (8, 17, 4096)
    between = noise[:, 2::4].double()
    values = between.numel()
    # Within 4 standard errors of a normal sample, whose values here depend on each other by frame.
    assert abs(between.mean()) < 4 / (values / 4) ** 0.5
    assert abs(between.var() - 1) < 4 * (2 / (values / 4)) ** 0.5
    kurtosis = ((between - between.mean()) ** 4).mean() / between.var() ** 2
    assert abs(kurtosis - 3) < 4 * (24 / (values / 4)) ** 0.5


def test_it_lies_in_the_middle_of_the_arc():
    noise = noise_of(DependencyNoise(0.3), 2, 3, 5)
    left, middle, right = noise[:, 0], noise[:, 1], noise[:, 2]
    angles = [torch.cosine_similarity(a, middle, dim=1).arccos() for a in (left, right)]
    whole = torch.cosine_similarity(left, right, dim=1).arccos()
    # Up to the hundredth by which the lengths of the two differ.
    torch.testing.assert_close(angles[0], angles[1], rtol=0, atol=0.02)
    torch.testing.assert_close(angles[0] + angles[1], whole, rtol=0, atol=0.02)


def test_a_still_clip_stays_still(random_pipe):
    _, more = both(random_pipe, lam=0, frames=2)
    torch.testing.assert_close(more[1], more[0], **CLOSE)


def test_what_cannot_be_is_one_sentence(random_pipe):
    for times in (0, 1, 1.5, "2"):
        with pytest.raises(ValueError, match="fps-mult must be a whole number, at least 2"):
            both(random_pipe, times)
    with pytest.raises(ValueError, match="between the frames of a still"):
        random_pipe("a ball", frames=1, features=[Between()])
