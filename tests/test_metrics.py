"""The numbers of a clip, on clips that can be counted by hand."""

import pytest
import torch

from zs2.metrics.differences import (
    appearance_distance,
    colour_histogram,
    flicker,
    motion,
    motion_mae,
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
    histogram = colour_histogram(torch.cat([greens, greens.roll(1, -1), greens.roll(-1, -1)]))
    for frame, stride in enumerate((4, 1, 16)):  # green, blue, red
        expected = torch.zeros(64)
        expected[[0, stride, 2 * stride, 3 * stride]] = 0.25
        assert histogram[frame].equal(expected)
