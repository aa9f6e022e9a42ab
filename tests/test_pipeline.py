"""Algorithm 1, on random weights: what the method promises holds for any of them."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy
import pytest
import torch

import zs2
from zs2 import denoise, media, shot
from zs2.attention import FrameAttention, Share
from zs2.denoise import Whole
from zs2.errors import NumericalError
from zs2.models.unet import UNet
from zs2.noise import DependencyNoise, IndependentNoise, sample_noise
from zs2.pipeline import Pipeline

# float32 latents of size about 1 after a few steps: what reordered sums may differ by.
CLOSE = {"rtol": 0, "atol": 1e-4}


def test_frame_1_is_the_still_of_the_same_seed(random_pipe):
    clip = random_pipe("a ball", frames=5, lam=0.3, mu=0.5, seed=7)
    still = random_pipe("a ball", frames=1, seed=7)
    torch.testing.assert_close(clip.latents[:1], still.latents, **CLOSE)
    assert clip.frames.shape == (5, 16, 16, 3)
    assert still.frames.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("negative", ["", "blur"])
def test_a_still_is_plain_ddim_with_guidance(random_pipe, negative):
    weights = random_pipe.weights
    x = sample_noise(IndependentNoise(), [3], 1, (4, 8, 8))[:, 0]
    prompt, empty = (random_pipe.encode([text]) for text in ("a ball", negative))
    for here, there in pairwise(weights.schedule.levels(4)):
        e_prompt = weights.unet(x, torch.tensor(here.t), prompt)
        e_empty = weights.unet(x, torch.tensor(here.t), empty)
        eps = e_empty + 3 * (e_prompt - e_empty)
        x0 = (x - (1 - here.alpha_bar) ** 0.5 * eps) / here.alpha_bar**0.5
        x = there.alpha_bar**0.5 * x0 + (1 - there.alpha_bar) ** 0.5 * eps
    still = random_pipe("a ball", frames=1, seed=3, negative=negative)
    torch.testing.assert_close(still.latents, x, **CLOSE)


def test_mu_0_is_frame_by_frame(random_pipe):
    clip = random_pipe("a ball", frames=4, mu=0.0, lam=0.5, seed=1)
    noise = sample_noise(DependencyNoise(0.5), [1], 4, (4, 8, 8))[0]
    for i in range(4):
        alone = random_pipe("a ball", frames=1, latents=noise[i : i + 1])
        torch.testing.assert_close(clip.latents[i], alone.latents[0], **CLOSE)


class CrossFrame(Share):
    """Cross-frame attention as Text2Video-Zero writes it: keys and values of frame 1."""

    def __call__(self, x, norm):
        h = norm(x)
        frames = h.unflatten(0, (-1, 4))
        return h, frames[:, :1].expand_as(frames).flatten(0, 1)


def test_mu_1_is_cross_frame_attention(random_pipe, monkeypatch):
    momentum = random_pipe("a ball", frames=4, mu=1.0, lam=0.5, seed=1)
    alone = random_pipe("a ball", frames=4, mu=0.0, lam=0.5, seed=1)
    monkeypatch.setattr(denoise, "Share", CrossFrame)
    cross = random_pipe("a ball", frames=4, lam=0.5, seed=1)
    torch.testing.assert_close(momentum.latents, cross.latents, **CLOSE)
    assert (momentum.latents - alone.latents)[1:].abs().amax() > 0.01


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("together", [False, True])
# With one mu for all frames, frame 1 would take the last step's state if nobody saw to it.
@pytest.mark.parametrize("mu", [[0.0, 0.9, 0.5, 0.98, 1.0, 0.3, 0.98, 0.7], 0.98])
def test_chunks_and_split_guidance_give_the_same_clip(random_pipe, chunk, together, mu):
    whole = random_pipe("a ball", frames=8, mu=mu, lam=0.2, seed=2)
    order = Whole(chunk, together)
    parts = random_pipe("a ball", frames=8, mu=mu, lam=0.2, seed=2, order=order)
    torch.testing.assert_close(parts.latents, whole.latents, **CLOSE)


class Recorder:
    """A UNet that tells how many rows each pass had, whether it went on, and of prompts."""

    def __init__(self, unet):
        self.unet, self.config, self.passes, self.prompts = unet, unet.config, [], 0

    def prepare(self, condition):
        self.prompts += 1
        return self.unet.prepare(condition)

    def __call__(self, x, t, condition, share):
        self.passes.append((len(x), share.before is not None))
        return self.unet(x, t, condition, share)


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        # torch.compile would need a second graph for a whole clip that went on from a state.
        ({}, [(10, False)] * 2),
        ({"together": False}, [(5, False)] * 4),
        ({"chunk": 2}, [(4, False), (4, True), (2, True), (4, True), (4, True), (2, True)]),
    ],
)
def test_each_pass_has_the_rows_that_were_asked_for(random_pipe, options, passes):
    unet = Recorder(random_pipe.weights.unet)
    pipe = Pipeline(replace(random_pipe.weights, unet=unet), random_pipe.device, random_pipe.dtype)
    pipe("a ball", frames=5, steps=2, seed=1, order=Whole(**options))
    assert unet.passes == passes
    assert unet.prompts == (2 if "together" in options else 1)  # not one for each step


def test_a_list_of_one_is_a_list(random_pipe):
    (clip,) = random_pipe(["a ball"], frames=1, seed=[1])
    assert clip.settings["prompt"] == "a ball"


@pytest.mark.parametrize(("device", "drawn"), [("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_a_gpu_draws_its_own_noise(random_pipe, monkeypatch, device, drawn):
    def stop(model, seeds, frames, shape, device, step, rng):
        raise RuntimeError(f"on {device}")

    monkeypatch.setattr(shot, "each_frame", stop)
    with pytest.raises(RuntimeError, match=f"on {drawn}"):
        Pipeline(random_pipe.weights, torch.device(device), torch.float32)("a ball", seed=1)


def test_what_a_clip_holds_may_be_changed(random_pipe):
    clip = random_pipe("a ball", frames=2, seed=1)
    clip.frames[0] = 0
    clip.latents.requires_grad_().sum().backward()


def test_load_compiles_when_asked(monkeypatch):
    compiled = []
    monkeypatch.setattr(UNet, "compile", lambda unet: compiled.append(unet))
    assert zs2.load(device="cpu", compile=True).weights.unet is compiled[0]
    zs2.load(device="cpu")
    assert len(compiled) == 1


def test_clips_of_a_batch_are_the_clips_made_alone(random_pipe):
    both = random_pipe(["a ball", "a cube"], frames=3, seed=[4, 5], negative="blur")
    alone = random_pipe("a cube", frames=3, seed=5, negative="blur")
    torch.testing.assert_close(both[1].latents, alone.latents, **CLOSE)
    assert both[1].settings == alone.settings
    assert both[0].settings["prompt"] == "a ball"


def test_lam_0_is_a_still_clip_and_more_lam_more_motion(random_pipe):
    still, calm, wild = (
        random_pipe("a ball", frames=4, lam=lam, mu=1.0, seed=1).latents for lam in (0.0, 0.1, 1.0)
    )
    torch.testing.assert_close(still[1:], still[:1].expand_as(still[1:]), **CLOSE)
    assert 0.01 < (calm[1:] - calm[:-1]).abs().mean() < (wild[1:] - wild[:-1]).abs().mean()


def test_guidance_1_needs_no_negative_branch(random_pipe):
    plain = random_pipe("a ball", frames=2, cfg=1.0, seed=1)
    near = random_pipe("a ball", frames=2, cfg=1.0 + 1e-6, seed=1)
    torch.testing.assert_close(plain.latents, near.latents, **CLOSE)


@torch.inference_mode()
def test_pictures_and_latents(random_pipe):
    vae = random_pipe.weights.vae
    latents = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    frames = random_pipe.decode(latents)
    pixels = torch.cat([vae.decode(z[None] / 0.18215) for z in latents])
    expected = ((pixels + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1)
    assert frames.shape == (3, 10, 14, 3)
    assert (frames - expected).abs().max() <= 0.5  # the nearest
    assert ((frames > 0) & (frames < 255)).float().mean() > 0.2
    known = random_pipe.picture(frames)
    pixels = frames.permute(0, 3, 1, 2) / 255 * 2 - 1
    mean = torch.cat([vae.encode(one[None])[0] for one in pixels])
    torch.testing.assert_close(known, mean * 0.18215, rtol=1e-4, atol=1e-5)


def test_a_model_that_edits_needs_something_to_edit(random_pipe):
    """It takes more channels than a latent has."""
    with torch.device("meta"):
        editor = UNet(replace(random_pipe.weights.unet.config, in_channels=8))
    weights = replace(random_pipe.weights, unet=editor)
    pipe = Pipeline(weights, random_pipe.device, random_pipe.dtype)
    with pytest.raises(ValueError, match="takes 4 channels beside the latents and is given 0"):
        pipe("a ball", seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "independent"}, "noise is an object, as in noise=DependencyNoise"),
        ({"attention": 0.9}, "attention is an object"),
        ({"sampler": "euler"}, "sampler is a function"),
        ({"steps": 3.0}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"frames": "2"}, "frames must be a whole number"),
        ({"size": 16.0}, "a side in pixels must be a whole number"),
        ({"size": (16,)}, "one side or .width, height."),
        ({"seed": 2.0}, "seed"),
        ({"latents": [1.0]}, "latents must be a tensor"),
        ({"latents": torch.zeros(2, 4, 8, 8), "seed": -1}, "seed"),
        ({"latents": torch.zeros(2, 4, 8, 8), "lam": [0.1]}, "1 values for 2 frames"),
    ],
)
def test_objects_of_another_kind_are_named(random_pipe, options, message):
    with pytest.raises(ValueError, match=message):
        random_pipe("a ball", **{"frames": 2, "seed": 1, **options})


def test_whole_numbers_of_numpy_are_whole_numbers(random_pipe, tmp_path):
    two, order = numpy.int64(2), Whole(chunk=numpy.int64(1))
    options = {"frames": two, "steps": two, "size": numpy.int64(16), "order": order}
    clip = random_pipe("a ball", seed=numpy.int64(3), **options)
    settings = media.read_settings(clip.save(tmp_path / "a.gif", fps=numpy.float32(4)))
    assert (settings["frames"], settings["chunk"], settings["fps"]) == (2, 1, 4)


def test_the_loop_yields_every_step(random_pipe):
    seen = []
    clip = random_pipe("a ball", frames=2, steps=3, seed=1, progress=lambda *s: seen.append(s))
    assert [step[:2] for step in seen] == [(1, 3), (2, 3), (3, 3)]
    # The last step of DDIM leaves little noise: its prediction is nearly the clip.
    left = (seen[-1][2][0] - clip.latents).abs().mean() / clip.latents.abs().mean()
    assert 0 < left < 0.1


def test_nan_is_found_and_its_step_named(random_pipe):
    outputs = iter([1, torch.nan, 1, 1])
    broken = random_pipe.weights.unet.register_forward_hook(lambda _, __, out: out * next(outputs))
    with broken, pytest.raises(NumericalError, match=r"step 2 of 4 \(t = 501\)"):
        random_pipe("a ball", frames=1, seed=1)


def test_nan_in_a_decoded_frame_is_not_a_black_picture(random_pipe):
    latents = torch.zeros(2, 4, 8, 8)
    latents[1, 0, 0, 0] = torch.inf
    with pytest.raises(NumericalError, match="frame 2"):
        random_pipe.decode(latents)


def test_a_single_value_that_is_not_finite_is_found(random_pipe, monkeypatch):
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[0, 1, 2, 3] = torch.inf
    monkeypatch.setattr(random_pipe.weights.vae, "decode", lambda z: pixels)
    with pytest.raises(NumericalError, match="frame 1"):
        random_pipe.decode(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "at least"),
        ({"mu": 1.5}, "mu"),
        ({"mu": float("nan")}, "mu"),
        ({"mu": [0.5, 0.5, 0.5]}, "3 values for 2 frames"),
        ({"lam": -1.0}, "lam"),
        ({"lam": float("nan")}, "lam"),
        ({"lam": [0.1]}, "1 values for 2 frames"),
        ({"lam": 0.1, "noise": IndependentNoise()}, "lam is short for noise=DependencyNoise"),
        ({"mu": 0.1, "attention": FrameAttention(1)}, "give one of the two"),
        ({"cfg": math.inf}, "cfg"),
        ({"cfg": [1.0, 2.0, 3.0]}, "3 values for 2 frames"),
        ({"negative": ["blur"]}, "as strings"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"size": (17, 16)}, "multiples of 2"),
        ({"size": 3}, "multiples of 2 pixels, got 3"),
        ({"size": 0}, "a side in pixels must be a whole number, at least 1, got 0"),
        ({"size": (16, -2)}, "at least 1, got -2"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts: give 1 or as many"),
        ({"spacing": "turbo"}, "'turbo' is not known"),
    ],
)
def test_impossible_values_are_named(random_pipe, options, message):
    with pytest.raises(ValueError, match=message):
        random_pipe("a ball", **{"frames": 2, "seed": 1, **options})


@pytest.mark.skipif(bool(torch.version.cuda), reason="with CUDA, triton is a part of torch")
def test_importing_zs2_needs_torch_only():
    import subprocess
    import sys

    code = (
        "import sys, zs2, zs2.noise, zs2.attention, zs2.samplers\n"
        "import zs2.models.unet, zs2.models.vae, zs2.models.clip\n"
        "heavy = {'triton', 'safetensors', 'tokenizers', 'av', 'PIL', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
