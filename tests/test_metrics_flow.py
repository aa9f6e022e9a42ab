"""Optical flow against OpenCV's and against known motion; what is made of it."""

from pathlib import Path

import pytest
import torch

from zs2 import media
from zs2.metrics import flow

DATA = next(filter(Path.is_dir, (p / "shared/data" for p in Path(__file__).parents)), None)


def picture(height=96, width=128):
    """Smooth random hills, 0..255."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, height // 6, width // 6, generator=generator)
    return 255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[
        0, 0
    ].clamp(0, 1)


def moved(x, right, down):
    """A picture moved by parts of a pixel."""
    d = torch.tensor([-right, -down]).view(1, 2, 1, 1).expand(1, 2, *x.shape)
    return flow.moved_back(x[None, None], d.float())[0][0, 0]


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1.5, -0.5), (4, 3), (-6, 2)])
def test_known_motion_is_found(right, down):
    x = picture()
    found = flow.flow(x[None], moved(x, right, down)[None])[0, :, 16:-16, 16:-16]
    off = (found - torch.tensor([right, down]).view(2, 1, 1)).square().sum(0).sqrt()
    assert off.mean() < 0.25


def test_a_turn_is_found():
    x = picture()
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    v, u = rows - 47.5, columns - 63.5
    angle = 0.03
    back = torch.stack([-angle * v, angle * u])[None]  # where each pixel comes from
    turned = flow.moved_back(x[None, None], back)[0][0, 0]
    found = flow.flow(x[None], turned[None])[0]
    off = (found + back[0])[:, 20:-20, 20:-20].square().sum(0).sqrt()
    assert off.mean() < 0.25


def check_against_opencv(a, b):
    cv2 = pytest.importorskip("cv2")
    ours = flow.flow(a[None], b[None])[0]
    pictures = [x.byte().numpy() for x in (a, b)]
    theirs = cv2.calcOpticalFlowFarneback(*pictures, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    off = (ours - torch.from_numpy(theirs).permute(2, 0, 1)).square().sum(0).sqrt()
    # Sums in another order apart, which grow where a picture has nothing to hold to.
    assert off.median() < 1e-4
    assert off.mean() < 1e-3


def test_it_is_opencvs_on_a_picture_that_moves():
    x = picture().round()
    check_against_opencv(x, moved(x, 1.5, -0.5).round())


@pytest.mark.skipif(DATA is None, reason="needs the shared data")
@pytest.mark.parametrize("path", sorted(DATA.glob("clips/*.gif")) if DATA else [None])
def test_it_is_opencvs_on_real_clips(path):
    check_against_opencv(*flow.grey(media.read_frames(path, 2)))


def clip(*shifts):
    x = picture()
    return (
        torch.stack([moved(x, s, 0) for s in shifts])
        .round()
        .byte()[..., None]
        .expand(-1, -1, -1, 3)
    )


def test_flow_explains_motion_and_not_a_cut():
    moving = clip(0, 2, 4)
    back = flow.backwards(moving)
    assert back[..., 16:-16, 16:-16].mean((0, 2, 3))[0] == pytest.approx(-2, abs=0.1)
    left = flow.residuals(moving, back)
    plain = (moving[1:].float() - moving[:-1].float()).abs().mean()
    assert left.mean() < 0.3 * plain
    assert flow.jumps(left) == 0
    cut = torch.cat([moving[:1], 255 - moving[:1]])
    assert flow.jumps(flow.residuals(cut, flow.backwards(cut))) == 1


def test_a_still_clip_has_none_of_it():
    still = clip(0, 0, 0)
    back = flow.backwards(still)
    # What rounding of places leaves, most of it at the border.
    assert flow.size(back) < 0.05
    assert flow.tc(still, back) < 0.01
    assert flow.residuals(still, back).max() < 1


def test_tc_by_hand():
    frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    frames[1] = 51  # 0.2
    back = torch.zeros(1, 2, 4, 4)
    back[0, 0, :, 2:] = -1  # one step of 1 between columns 1 and 2, in 3 gaps of 2 channels
    # The last column and row lie at the border, where nothing is interpolated.
    assert flow.tc(frames, back) == pytest.approx(0.2 + 0.1 * (1 / 6))


def test_the_mean_length():
    assert flow.size(torch.tensor([3.0, 4.0]).view(2, 1, 1)) == 5
