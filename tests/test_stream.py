"""Chunk by chunk through all steps makes the same clip, in the memory of one chunk."""

import pytest
import torch

from zs2.attention import FrameAttention
from zs2.denoise import Whole
from zs2.noise import DependencyNoise
from zs2.samplers import SAMPLERS
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel
from zs2.stream import Stream

FRAMES = torch.randint(256, (5, 16, 16, 3), generator=torch.Generator().manual_seed(1)).byte()
# Float32: other numbers of rows in a pass, so sums in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def made(shot, order):
    return torch.cat([m.x for m in order(shot) if m.finished], dim=1)


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
@pytest.mark.parametrize("together", [True, False])
def test_any_chunk_makes_the_same_clip(random_pipe, chunk, together):
    shot = random_pipe.shot("a ball", frames=5, seed=3)
    torch.testing.assert_close(made(shot, Stream(chunk, together)), made(shot, Whole()), **CLOSE)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_every_sampler(random_pipe, sampler):
    shot = random_pipe.shot("a ball", frames=5, seed=3, sampler=SAMPLERS[sampler])
    torch.testing.assert_close(made(shot, Stream(2)), made(shot, Whole()), **CLOSE)


@pytest.mark.parametrize(
    "features",
    [
        [Init(FRAMES)],
        [Init(FRAMES), Mask(FRAMES, torch.ones(16, 16).tril()[None])],
        [Invert(FRAMES, order=Stream(2))],
        [Travel({4: "b"})],
        [Text2VideoZero()],
    ],
    ids=lambda features: type(features[-1]).__name__,
)
def test_with_every_feature(random_pipe, features):
    shot = random_pipe.shot("a ball", frames=5, seed=3, features=features)
    torch.testing.assert_close(made(shot, Stream(2)), made(shot, Whole()), **CLOSE)


def test_with_values_by_frame(random_pipe):
    shot = random_pipe.shot(
        "a ball",
        frames=5,
        seed=3,
        cfg=(1, 2, 3, 4, 5),
        noise=DependencyNoise((0, 0.1, 0.2, 0, 0.3)),
        attention=FrameAttention((0, 0.5, 0.9, 0.2, 1)),
    )
    torch.testing.assert_close(made(shot, Stream(2)), made(shot, Whole()), **CLOSE)


def test_frames_leave_as_they_are_finished(random_pipe):
    shot = random_pipe.shot("a ball", frames=5, steps=3)
    moments = list(Stream(2)(shot))
    assert [m.step for m in moments] == list(range(1, 10))
    assert {m.steps for m in moments} == {9}
    assert [(m.start, m.x.shape[1]) for m in moments if m.finished] == [(0, 2), (2, 2), (4, 1)]


def test_a_clip_tells_how_it_was_run(random_pipe):
    order = Stream(2, together=False)
    clip = random_pipe("a ball", frames=5, seed=3, order=order)
    whole = random_pipe("a ball", frames=5, seed=3)
    torch.testing.assert_close(clip.latents, whole.latents, **CLOSE)
    assert clip.correlation == pytest.approx(whole.correlation)
    assert clip.settings["stream"] is True
    assert (clip.settings["chunk"], clip.settings["split-guidance"]) == (2, True)


def test_noise_is_made_once_and_a_chunk_of_it_kept(random_pipe):
    shot = random_pipe.shot("a ball", frames=6, sampler=SAMPLERS["euler-a"])
    most = 0
    for _ in Stream(2)(shot):
        most = max(most, *(len(reel.kept) for reel in shot.noise.reels.values()))
    assert most == 2
    assert set(shot.noise.reels) <= {0}


@pytest.mark.parametrize("chunk", [0, -1, 1.5])
def test_a_chunk_has_a_frame(chunk):
    with pytest.raises(ValueError, match="chunk must be a whole number, at least 1"):
        Stream(chunk)
