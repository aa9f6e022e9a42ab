"""The VAE in tiles: weights that sum to 1, the same pictures where nothing reaches across."""

from dataclasses import replace

import pytest
import torch

import zs2
from zs2.checkpoint.tiles import Tiles
from zs2.models.tiled_vae import TiledVAE, blended, tiles
from zs2.pipeline import Pipeline


@pytest.mark.parametrize("length", [1, 7, 16, 17, 28, 29, 64, 100])
@pytest.mark.parametrize("side", [4, 16])
def test_tiles_cover_a_line_and_sum_to_1(length, side):
    total = torch.zeros(length)
    before = 0
    for start, stop, weights in tiles(length, side):
        assert stop - start == min(side, length)
        assert start <= before
        assert (weights > 0).all()
        total[start:stop] += weights
        before = stop
    assert before == length
    torch.testing.assert_close(total, torch.ones(length))


@pytest.mark.parametrize(("larger", "smaller"), [(2, 1), (1, 2), (1, 1)])
def test_what_looks_at_its_place_alone_is_not_changed(larger, smaller):
    def network(x):
        x = torch.nn.functional.avg_pool2d(x, smaller)
        return x.repeat_interleave(larger, -1).repeat_interleave(larger, -2) ** 2

    x = torch.randn(2, 3, 20, 34, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blended(x, network, 8, larger, smaller), network(x))


def test_the_small_model_s_pictures_have_no_seams():
    """At four times its side, in nine tiles; the measure is a step of 255."""
    pipe = zs2.load(device="cpu", dtype="fp32")
    clip = pipe("a big yellow star over the blue sea", frames=1, size=512, steps=4, seed=4)
    weights = Tiles(256)(pipe.weights)
    tiled = Pipeline(weights, pipe.device, pipe.dtype)
    made = tiled.decode(clip.latents).float()
    wrong = (made - clip.frames.float()).abs()
    assert wrong.mean() < 1.5
    # A seam would be a line where neighbours differ more than they did: at the tiles' borders.
    steps = [
        (f[:, :, 1:] - f[:, :, :-1]).mean((0, 1, 3)).abs() for f in (made, clip.frames.float())
    ]
    assert (steps[0] - steps[1]).max() < 1
    assert weights.settings["tile"] == 256


def test_pictures_are_read_in_tiles_too(random_pipe):
    pictures = torch.randint(256, (1, 24, 40, 3), generator=torch.Generator().manual_seed(0)).byte()
    tiled = Pipeline(
        replace(random_pipe.weights, vae=TiledVAE(random_pipe.weights.vae, 8)),
        random_pipe.device,
        random_pipe.dtype,
    )
    latents = tiled.picture(pictures)
    whole = random_pipe.picture(pictures)
    assert latents.shape == whole.shape
    assert (latents - whole).norm() / whole.norm() < 0.5  # random weights have no local look


def test_a_tile_is_large_enough():
    with pytest.raises(ValueError, match="tile must be a whole number, at least 64"):
        Tiles(32)


def test_from_the_command_line(run, tmp_path):
    assert run("a ball", "--frames", 1, "--tile", 64, "--size", 96, "-o", "a.png")[0] == 0
    assert (tmp_path / "a.png").exists()
    status, _, err = run("a ball", "--tile", 8, "-o", "b.png")
    assert status == 2
    assert "tile must be a whole number, at least 64" in err
