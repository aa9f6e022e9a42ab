"""What a clip says of itself, and that numbers may come from anywhere."""

import json
import secrets

import numpy
import pytest
import torch

import zs2
from zs2 import media
from zs2.denoise import Whole
from zs2.noise import MixedNoise
from zs2.samplers import ddim
from zs2.shots.init import Init
from zs2.timeline import Keyframes


def test_numbers_of_torch_and_numpy_are_numbers(random_pipe, tmp_path):
    clip = random_pipe(
        "a ball",
        frames=2,
        lam=torch.tensor([0, 0.5]),
        mu=numpy.array([0.0, 0.5]),
        cfg=numpy.float32(2),
        seed=numpy.int64(3),
    )
    told = random_pipe("a ball", frames=2, lam=(0.0, 0.5), mu=[0.0, 0.5], cfg=2.0, seed=3)
    assert clip.latents.equal(told.latents)
    settings = media.read_settings(clip.save(tmp_path / "a.gif"))
    assert (settings["lam"], settings["mu"], settings["seed"]) == ([0, 0.5], [0, 0.5], 3)
    plain = {name: clip.settings[name] for name in ("lam", "mu", "cfg", "seed")}
    assert repr(plain) == "{'lam': (0.0, 0.5), 'mu': (0.0, 0.5), 'cfg': 2.0, 'seed': 3}"


def test_key_frames_are_numbers_too(random_pipe):
    keys = Keyframes.parse("0:(0), 2:(0.5)")
    clip = random_pipe("a ball", frames=3, lam=keys, mu=keys, cfg=keys, seed=3)
    listed = [0, 0.25, 0.5]
    told = random_pipe("a ball", frames=3, lam=listed, mu=listed, cfg=listed, seed=3)
    assert clip.latents.equal(told.latents)
    for name in ("lam", "mu", "cfg"):
        assert clip.settings[name] == "0:(0.0), 2:(0.5)"
        assert told.settings[name] == (0, 0.25, 0.5)


def test_a_seed_is_drawn_where_none_is_told(random_pipe, monkeypatch):
    monkeypatch.setattr(secrets, "randbelow", lambda n: n - 5)
    clips = random_pipe(["a ball", "a cube"], frames=1)
    assert [clip.settings["seed"] for clip in clips] == [2**32 - 5] * 2
    again = random_pipe("a ball", frames=1, seed=2**32 - 5)
    torch.testing.assert_close(again.latents, clips[0].latents, rtol=0, atol=1e-4)


def test_settings_tell_what_was_done(random_pipe):
    clip = random_pipe("a ball", frames=2, size=(24, 16), seed=9, noise=MixedNoise(0.9))
    assert clip.frames.shape == (2, 16, 24, 3)
    assert clip.settings == {
        "zs2": zs2.__version__,
        "prompt": "a ball",
        "seed": 9,
        "negative": None,
        "model": "random",
        "frames": 2,
        "size": "24x16",
        "steps": 4,
        "cfg": 3.0,
        "noise": "mixed",
        "alpha": 0.9,
        "mu": 0.98,
        "segment": None,
        "sampler": "ddim",
        "schedule": "leading",
        "rng": "zs2",
        "latents": None,
        "prompt-weights": "a1111",
        "clip-skip": None,
        "dtype": "fp32",
        "prediction": "epsilon",
        "chunk": None,
        "split-guidance": False,
    }


class OwnNoise:
    def generate(self, draws, frames):
        return MixedNoise(0.9).generate(draws, frames)


def own_sampler(denoise, x, levels, fresh):
    yield from ddim(denoise, x, levels, fresh)


def test_settings_of_what_users_write(random_pipe):
    clip = random_pipe("a ball", frames=2, seed=9, noise=OwnNoise(), sampler=own_sampler)
    assert (clip.settings["noise"], clip.settings["sampler"]) == ("own", "own")
    assert clip.latents.equal(
        random_pipe("a ball", frames=2, seed=9, noise=MixedNoise(0.9)).latents
    )


def test_settings_tell_how_it_was_run(random_pipe):
    clip = random_pipe("a ball", frames=2, seed=1, negative="blur", order=Whole(1, together=False))
    assert (clip.settings["chunk"], clip.settings["split-guidance"]) == (1, True)
    assert clip.settings["negative"] == "blur"
    plain = random_pipe("a ball", frames=2, seed=1, negative="blur", cfg=1)
    assert (plain.settings["chunk"], plain.settings["split-guidance"]) == (None, False)
    assert plain.settings["negative"] is None  # it had no effect
    assert (plain.settings["cfg"], plain.settings["steps"]) == (1, 4)


@pytest.mark.parametrize(
    ("mu", "shared"), [(0.98, True), (0, False), ([0.9, 0, 0], False), ([0, 0, 0.1], True)]
)
def test_a_clip_knows_whether_its_frames_shared(random_pipe, mu, shared):
    assert random_pipe("a ball", frames=3, mu=mu, steps=1, seed=1).shared == shared


def test_a_features_numbers_may_be_numpy_s(random_pipe):
    """A file holds Python's own."""
    frames = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    feature = Init(frames, strength=numpy.float32(0.5))
    (told,) = random_pipe.shot("a", frames=2, features=[feature]).settings
    assert json.loads(json.dumps(told))["strength"] == 0.5
