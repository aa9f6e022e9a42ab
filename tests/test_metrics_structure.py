"""SSIM and MS-SSIM against pytorch-msssim."""

import pytest
import torch

from zs2.metrics.structure import ms_ssim, scales, ssim_parts


@pytest.fixture
def theirs():
    return pytest.importorskip("pytorch_msssim")


def pictures(size=200):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, size, size + 10, generator=generator)
    return x, (x + 0.2 * torch.rand(x.shape, generator=generator)).clamp(0, 1)


def test_ssim(theirs):
    x, y = pictures()
    expected = theirs.ssim(x, y, data_range=1, size_average=False)
    torch.testing.assert_close(ssim_parts(x, y)[0].mean(1), expected)


@pytest.mark.parametrize("size", [176, 201])
def test_ms_ssim(theirs, size):
    x, y = pictures(size)
    expected = theirs.ms_ssim(x, y, data_range=1, size_average=False)
    torch.testing.assert_close(torch.stack([*map(scales, x, y)]), expected)


def test_of_a_clip(theirs):
    x, y = ((z * 255).round().byte().permute(0, 2, 3, 1) for z in pictures())
    clip = torch.stack([x[0], y[0], y[1]])
    pairs = clip.permute(0, 3, 1, 2).float() / 255
    expected = theirs.ms_ssim(pairs[:-1], pairs[1:], data_range=1)
    assert ms_ssim(clip) == pytest.approx(float(expected), abs=1e-5)
    assert ms_ssim(clip[[0, 0]]) == 1


def test_a_small_clip_is_enlarged_and_a_negative_is_nothing_like_it():
    x = pictures()[0].mul(255).byte().permute(0, 2, 3, 1)[:, :64, :64]
    assert ms_ssim(x[[0, 0]]) == 1
    assert ms_ssim(torch.stack([x[0], 255 - x[0]])) < 0.2
