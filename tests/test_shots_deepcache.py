"""The inner levels of a UNet computed now and then: which passes, what changes, who refuses."""

import shlex
from dataclasses import replace

import pytest
import torch

from zs2 import inspect, media
from zs2.attention import Share
from zs2.cli import make
from zs2.denoise import Whole
from zs2.estimate import clip_memory
from zs2.models.unet import MidBlock
from zs2.read_media import read_frames
from zs2.shots.deepcache import Cached, DeepCache
from zs2.shots.invert import Invert
from zs2.stream import Stream


@pytest.fixture
def middles(random_pipe, monkeypatch):
    """How often the UNet's middle was computed."""
    calls, forward = [], MidBlock.forward
    monkeypatch.setattr(MidBlock, "forward", lambda *args: calls.append(1) or forward(*args))
    return calls


@pytest.mark.parametrize(("every", "whole"), [(2, 3), (3, 2), (9, 1)])
@pytest.mark.parametrize("order", [Whole(), Whole(2), Whole(2, together=False), Stream(2)])
def test_how_many_whole_passes(random_pipe, middles, every, whole, order):
    random_pipe("a", frames=4, steps=5, order=order, features=[DeepCache(every)])
    passes = (1 if order.chunk is None else 2) * (1 if order.together else 2)
    assert len(middles) == whole * passes


@pytest.mark.parametrize("order", [Whole(1), Whole(3, together=False), Stream(2)])
def test_every_order_makes_the_same_clip(random_pipe, order):
    options = {"frames": 5, "steps": 5, "seed": 2, "features": [DeepCache(2)]}
    whole = random_pipe("a", **options).latents
    other = random_pipe("a", order=order, **options).latents
    # Sums in another order, as without a cache.
    assert (whole - other).abs().max() < 1e-4 * whole.abs().max()
    plain = random_pipe("a", **{**options, "features": []}).latents
    assert (whole - plain).abs().max() > 1e-3 * plain.abs().max()


def test_a_step_with_a_fresh_cache_is_the_unets_own(random_pipe):
    unet = random_pipe.weights.unet
    rows, t = torch.randn(4, 4, 8, 8), torch.tensor(500)
    condition = unet.prepare(random_pipe.encode(["a", "b"]))
    mu = torch.tensor([0.0, 0.9])
    ours = Cached(unet, 2)(rows, t, condition, Share(mu))
    assert torch.equal(ours, unet(rows, t, condition, Share(mu)))


def test_one_step_is_no_different(random_pipe):
    options = {"frames": 2, "steps": 1, "seed": 2}
    plain = random_pipe("a", **options).latents
    assert torch.equal(random_pipe("a", features=[DeepCache(2)], **options).latents, plain)


def test_a_shot_can_be_run_again(random_pipe):
    shot = random_pipe.shot("a", frames=2, steps=3, seed=1, features=[DeepCache(2)])
    first, again = (random_pipe.film(shot)[0].latents for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("every", [1, 0, 2.5, True])
def test_wrong_counts_are_refused(every):
    with pytest.raises(ValueError, match="deepcache must be"):
        DeepCache(every)


def test_what_is_no_plain_unet_is_refused(random_pipe):
    shot = random_pipe.shot("a", frames=2)
    for model in (object(), Cached(random_pipe.weights.unet, 2)):
        with pytest.raises(ValueError, match="leave it or the controls out"):
            DeepCache(2)(random_pipe, replace(shot, model=model))


def test_the_option_and_back(run, capsys, tmp_path):
    same = ("a ball", "--seed", 3, "--frames", 2, "--steps", 4)
    assert run(*same, "--deepcache", 2, "-o", "a.gif")[0] == 0
    assert media.read_settings(tmp_path / "a.gif")["deepcache"] == 2
    inspect.main(["a.gif"])
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert "--deepcache=2" in words
    run(*same, "-o", "plain.gif")
    a, plain = (read_frames(tmp_path / name) for name in ("a.gif", "plain.gif"))
    assert not a.equal(plain)


@pytest.mark.parametrize(
    ("words", "said"),
    [((1,), "deepcache"), ((2, "--graph"), "--graph"), ((2, "--compile"), "--compile")],
)
def test_wrong_options_are_one_sentence(run, monkeypatch, words, said):
    monkeypatch.setattr(make, "load", None)
    status, out, err = run("a ball", "--deepcache", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_what_it_keeps_is_counted(random_pipe):
    """Of all frames, whatever the chunk."""
    options = {"frames": 4, "steps": 2, "size": 32}
    shot = random_pipe.shot("a", features=[DeepCache(2)], **options)
    random_pipe.film(shot, Whole(1))
    taken = sum(kept.nbytes for kept in shot.model.kept)
    told = [
        clip_memory(
            random_pipe.weights,
            random_pipe.dtype,
            random_pipe.device,
            options["frames"],
            random_pipe.latent_shape((32, 32)),
            Whole(1),
            deepcache=deepcache,
        )
        for deepcache in (False, True)
    ]
    assert told[1] - told[0] == taken


def test_an_inversion_before_it_is_another_sampling(random_pipe):
    """Its last timestep is the first one of what follows."""
    frames = random_pipe("a", frames=2, seed=1).frames
    features = [DeepCache(2), Invert(frames)]
    clip = random_pipe("b", frames=2, features=features)
    assert clip.frames.shape == frames.shape
