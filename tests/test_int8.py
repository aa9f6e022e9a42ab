"""Weights in 8 bits: what is lost, what is kept, and who still finds a tensor."""

import copy
import shlex

import pytest
import torch
from torch.nn.utils.parametrize import register_parametrization

import zs2
from zs2 import inspect, media
from zs2.checkpoint.control import tensor_of
from zs2.checkpoint.int8 import EightBits, Int8
from zs2.cli import make
from zs2.estimate import model_memory
from zs2.models import transformer
from zs2.models.transformer import FeedForward
from zs2.pipeline import Pipeline
from zs2.read_media import read_frames


def test_each_weight_is_off_by_half_a_step_at_most():
    """A step is 1/127 of the largest weight of the same output channel."""
    weight = torch.randn(5, 3, 2, 2) * torch.tensor([1e-4, 1, 50, 0, 1]).view(-1, 1, 1, 1)
    q, scale = EightBits().right_inverse(weight)
    assert (q.dtype, q.shape, scale.shape) == (torch.int8, weight.shape, (5, 1, 1, 1))
    steps = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
    off = (EightBits()(q, scale) - weight).abs()
    assert (off <= 0.501 * steps).all()  # the division is rounded, too
    assert (q.flatten(1).abs().amax(1)[[0, 1, 2, 4]] == 127).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_they_come_back_in_the_models_own_type(dtype):
    weight = torch.randn(8, 64).to(dtype)
    back = EightBits()(*EightBits().right_inverse(weight))
    assert back.dtype == dtype
    error = (back.float() - weight.float()).norm() / weight.float().norm()
    assert error < 0.012  # steps of 1/127 of 2.5 deviations: .02 / sqrt(12), and 16 bits


def test_small_weights_come_back_in_fp16():
    """Of .001 the scale is below fp16's normal numbers, where it has six bits still."""
    weight = (0.001 * torch.randn(8, 64, generator=torch.Generator().manual_seed(0))).half()
    back = EightBits()(*EightBits().right_inverse(weight))
    assert (back.float() - weight.float()).norm() / weight.float().norm() < 0.02


def test_parts_share_the_weights_that_are_made_whole(monkeypatch):
    ff, made, forward = FeedForward(8).requires_grad_(False), [], EightBits.forward
    for layer in (ff.net[0].proj, ff.net[2]):
        register_parametrization(layer, "weight", EightBits())
    monkeypatch.setattr(transformer, "CPU_CACHE", 0)  # a row at a time
    monkeypatch.setattr(EightBits, "forward", lambda *args: made.append(1) or forward(*args))
    ff(torch.randn(5, 6, 8))
    assert len(made) == 2


def test_a_model_in_8_bits_takes_a_quarter_and_makes_nearly_the_same(random_pipe):
    def clip(pipe):
        return pipe("a ball", frames=2, steps=3, seed=1).latents

    weights = copy.deepcopy(random_pipe.weights)
    before = model_memory(weights)
    vae = sum(p.numel() * 4 for p in weights.vae.parameters())
    eight = Int8()(weights)
    assert eight.settings["int8"] is True
    # Biases, norms, embeddings and a scale for each channel stay whole: much of a model this small.
    assert model_memory(eight) - vae < 0.35 * (before - vae)
    assert torch.int8 not in {p.dtype for p in eight.vae.parameters()}
    reference = clip(random_pipe)
    changed = clip(Pipeline(eight, random_pipe.device, random_pipe.dtype))
    error = float((changed - reference).norm() / reference.norm())
    assert 0 < error < 0.1


def test_controls_that_add_to_the_unet_still_find_its_tensors(random_pipe):
    eight = Int8()(copy.deepcopy(random_pipe.weights))
    for key, tensor in random_pipe.weights.unet.state_dict().items():
        found = tensor_of(eight.unet, key)
        assert found is not None
        assert found.shape == tensor.shape
        assert (found - tensor).abs().max() <= tensor.abs().max() / 127
    assert tensor_of(eight.unet, "controlnet_mid_block.weight") is None


def test_the_option_and_back(run, random_pipe, monkeypatch, capsys, tmp_path):
    def load(*_, adapters=(), **__):
        weights = copy.deepcopy(random_pipe.weights)  # they are changed in place
        for adapter in adapters:
            weights = adapter(weights)
        return Pipeline(weights, random_pipe.device, random_pipe.dtype)

    monkeypatch.setattr(make, "load", load)
    same = ("a ball", "--seed", 3, "--frames", 2, "--steps", 2)
    assert run(*same, "--int8", "-o", "a.gif")[0] == 0
    assert media.read_settings(tmp_path / "a.gif")["int8"] is True
    inspect.main(["a.gif"])
    command = capsys.readouterr().out.splitlines()[-1]
    assert "--int8" in shlex.split(command)
    run(*same, "-o", "whole.gif")
    first, whole = (read_frames(tmp_path / name) for name in ("a.gif", "whole.gif"))
    assert not first.equal(whole)


def test_the_small_model():
    same = {"frames": 2, "steps": 4, "seed": 3}
    prompt = "a small red ball on green grass"
    whole = zs2.load(device="cpu", dtype="fp32")(prompt, **same)
    eight = zs2.load(device="cpu", dtype="fp32", adapters=[Int8()])(prompt, **same)
    assert eight.settings["int8"] is True
    off = (whole.frames.float() - eight.frames.float()).square().mean()
    assert off > 0
    assert 10 * torch.log10(255**2 / off) > 30  # a mean error of 1 of 32; most clips have 40
