"""The numbers of a clip, on clips that can be counted by hand."""

import pytest
import torch

from zs2.metrics.differences import (
    appearance_distance,
    change,
    colour_histogram,
    drift,
    flicker,
    motion,
    motion_mae,
    persistence,
)


def test_a_still_clip():
    frames = torch.full((3, 4, 4, 3), 90, dtype=torch.uint8)
    assert (motion(frames), flicker(frames), appearance_distance(frames)) == (0, 1, 0)


def test_one_frame_has_no_motion():
    frames = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    assert (motion(frames), appearance_distance(frames)) == (0, 0)


def test_a_clip_that_changes():
    frames = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    frames[1, 0] = 255  # half of the pixels turn white
    assert motion(frames) == pytest.approx(127.5)
    assert flicker(frames) == pytest.approx(0.5)
    assert appearance_distance(frames) == pytest.approx(1.0)


@pytest.mark.parametrize(("side", "told"), [(256, 0), (252, 255)])
def test_a_dither_is_no_motion_of_large_frames(side, told):
    stripes = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).repeat(side // 4)
    frames = torch.stack([stripes, stripes.roll(2)])[:, None, :, None].expand(-1, side, -1, 3)
    assert (motion(frames), motion_mae(frames)) == (255, told)


def test_moving_is_not_a_change_of_appearance():
    frames = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    frames[0, 0], frames[1, 1] = 255, 255
    assert motion(frames) == 255
    assert appearance_distance(frames) == 0


def test_motion_is_from_frame_to_frame_and_appearance_since_the_first():
    frames = torch.zeros(3, 2, 2, 3, dtype=torch.uint8)
    frames[1:] = 255  # changes once and stays
    assert motion(frames) == 127.5
    assert appearance_distance(frames) == 2


def test_bins_of_colours():
    values = [0, 63, 64, 127, 128, 191, 192, 255]
    greens = torch.tensor([[[0, v, 0] for v in values]], dtype=torch.uint8)[None]
    for picture, stride in ((greens, 4), (greens.roll(1, -1), 1), (greens.roll(-1, -1), 16)):
        expected = torch.zeros(64)
        expected[[0, stride, 2 * stride, 3 * stride]] = 0.25
        assert colour_histogram(picture[0]).equal(expected)


def grey(*values):
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)


def test_moving_on_is_not_going_to_and_fro():
    """The same steps: one clip arrives somewhere, the other does not."""
    there, back = grey(0, 10, 20, 30, 40), grey(0, 10, 0, 10, 0)
    assert motion(there) == motion(back) == 10
    assert (change(there), change(back)) == (40, 0)
    assert persistence(there) == pytest.approx(1)
    assert persistence(back) == pytest.approx(-1)
    assert persistence(there[:2]) == 0


def test_the_persistence_of_noise():
    """Of a walk 0, and of noise around a still -1/2: d_i . d_(i+1) = -|e|^2, |d|^2 = 2 |e|^2."""
    steps = torch.randn(40, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    # 38 cosines of 4096 values are off by less than 4 / sqrt(38 * 4096).
    assert persistence(steps.cumsum(0)) == pytest.approx(0, abs=0.01)
    assert persistence(steps) == pytest.approx(-0.5, abs=0.01)


def test_drift_is_of_each_frame_since_the_first():
    assert drift(grey(0, 10, 100, 0)).tolist() == [0, 0, 2, 0]
