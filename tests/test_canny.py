"""Canny's edges against OpenCV's, which are the same pixels."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zs2 import media
from zs2.canny import canny

DATA = next(filter(Path.is_dir, (p / "shared/data" for p in Path(__file__).parents)), None)


def opencv(frames: Tensor, low: float, high: float) -> Tensor:
    cv2 = pytest.importorskip("cv2")
    return torch.stack([torch.from_numpy(cv2.Canny(f.numpy(), low, high)) for f in frames])


def picture(seed: int, grey: bool = False) -> Tensor:
    """Soft blobs with plateaus: slopes of every direction and size."""
    noise = torch.randn(1, 1 if grey else 3, 9, 11, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.interpolate(noise, (61, 83), mode="bicubic")[0]
    return (x * 120 + 128).clamp(0, 255).byte().permute(1, 2, 0).expand(-1, -1, 3)


@pytest.mark.parametrize(
    "thresholds", [(100, 200), (0, 0), (3, 20), (20, 400), (60.7, 60.7), (0, 2040)]
)
@pytest.mark.parametrize("grey", [False, True])
def test_opencv_finds_the_same_pixels(thresholds, grey):
    frames = torch.stack([picture(seed, grey) for seed in range(3)])
    # Sharp corners at the border, and steps of one value.
    frames[2, :7, :9] = 255
    frames[2, 40:, 50:] = torch.arange(33)[:, None].byte()
    made = canny(frames, *thresholds)
    assert made.shape == frames.shape
    assert made.dtype == torch.uint8
    assert made.equal(opencv(frames, *thresholds)[..., None].expand(-1, -1, -1, 3))


def test_weak_edges_stay_where_a_strong_one_leads_to_them():
    frames = torch.zeros(1, 9, 40, 3, dtype=torch.uint8)
    frames[:, 5:] = 30  # a step of 4 x 30 all along
    assert not canny(frames, 100, 200).any()
    frames[:, 5:, :4] = 80
    edge = canny(frames, 100, 200)[0, :, :, 0] == 255
    assert edge.any(0).all()
    assert not canny(frames, 120, 200)[0, :, 8:].any()  # above 120 is above
    assert canny(frames, 119, 200)[0, :, 8:].any()


@pytest.mark.parametrize("thresholds", [(200, 100), (-1, 5), (0, 2041), (float("nan"), 5)])
def test_thresholds_out_of_range_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"two thresholds in 0\.\.2040, the lower one first"):
        canny(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), *thresholds)


@pytest.mark.skipif(DATA is None, reason="the real clips are not here")
@pytest.mark.parametrize("name", ["edit-road", "edit-swan", "control-depth"])
def test_real_clips(name):
    frames = media.read_frames(DATA / f"clips/{name}.gif", most=2)
    made, theirs = canny(frames, 100, 200)[..., 0] > 0, opencv(frames, 100, 200) > 0
    both = (made & theirs).sum()
    assert 2 * both / (made.sum() + theirs.sum()) > 0.999  # F1; equal where this was written
