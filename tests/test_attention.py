"""How frames share attention: segments, where the average begins anew."""

import pytest
import torch

from zs2.attention import FrameAttention
from zs2.denoise import Whole
from zs2.stream import Stream

# Float32: other numbers of rows in a pass, so sums in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def made(pipe, **asked):
    order = asked.pop("order", Whole())
    return pipe("a ball", seed=3, order=order, **asked).latents


def test_a_segment_begins_with_the_still_of_its_noise(random_pipe):
    shot = random_pipe.shot("a ball", frames=6, seed=3)
    segments = made(random_pipe, frames=6, attention=FrameAttention(0.9, segment=4))
    still = made(random_pipe, frames=1, latents=shot.noise(4, 5)[0])
    torch.testing.assert_close(segments[4:5], still, **CLOSE)
    # The frames before and after are as they are in clips of their own.
    before = made(random_pipe, frames=4, mu=0.9)
    after = made(random_pipe, frames=2, mu=0.9, latents=shot.noise(4, 6)[0])
    torch.testing.assert_close(segments, torch.cat([before, after]), **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_segments_and_chunks_know_nothing_of_each_other(random_pipe, chunk):
    asked = {"frames": 6, "attention": FrameAttention(0.9, segment=4)}
    whole = made(random_pipe, **asked)
    for order in (Whole(chunk), Stream(chunk)):
        part = made(random_pipe, order=order, **asked)
        torch.testing.assert_close(part, whole, **CLOSE)


@pytest.mark.parametrize("segment", [1, 0, -2, 2.5, "8"])
def test_a_segment_is_two_frames_at_least(segment):
    with pytest.raises(ValueError, match="segment must be a whole number, at least 2"):
        FrameAttention(segment=segment)


def test_the_command(run, tmp_path):
    from zs2.clip_file import read_settings

    assert run("a ball", "--segment", "2", "--frames", "4", "-o", "x.png", "--seed", "1")[0] == 0
    settings = read_settings(tmp_path / "x")
    assert (settings["segment"], settings["mu"]) == (2, 0.98)
    for beside in (["--loop"], ["--noise", "loop"], ["--method", "ddim"]):
        status, _, err = run("a ball", "-o", "y.gif", "--segment", "2", *beside)
        assert (status, err.count("\n")) == (2, 1)
        assert "--segment" in err
