"""Models that need few steps: Turbo, Lightning, Hyper, and those with guidance built in (LCM)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import scramble
from folders import UNET, edit_json, refused, write_tokenizer
from parity import SMALL_UNET, TOLERANCE, error
from safetensors.torch import load_file, save_file
from single_files import random_networks, single_file, small

import zs2
from zs2 import sample
from zs2.attention import FrameAttention, Share
from zs2.checkpoint import family as presets
from zs2.checkpoint.kinds import Family
from zs2.checkpoint.load import load_weights
from zs2.condition import Condition
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.layers import scale_waves
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.samplers import ddim, lcm
from zs2.timeline import Keyframes

# scheduler_config.json as SDXL-Turbo's and LCM's folders hold it.
TURBO = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}
LCM = {
    **TURBO,
    "_class_name": "LCMScheduler",
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "original_inference_steps": 50,
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "thresholding": False,
    "timestep_scaling": 10.0,
    "timestep_spacing": "leading",
}


@pytest.mark.parametrize(
    ("scheduler", "spacing", "first"), [(TURBO, "trailing", 999), (LCM, "leading", 750)]
)
def test_their_schedulers_are_read(folder, scheduler, spacing, first):
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    schedule = load_weights(folder).schedule
    assert schedule.timestep_spacing == spacing
    assert schedule.prediction_type == "epsilon"
    assert schedule.levels(4)[0].t == first


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_few_steps_without_guidance(model, folder, written_xl, tmp_path, capsys):
    path = folder if model == "sd" else written_xl
    command = ["a ball", "-m", path, "--steps", 4, "--cfg", 1, "--frames", 2, "--seed", 1]
    command += ["--schedule", "trailing", "--sampler", "euler", "--device", "cpu"]
    clip = tmp_path / "clip.gif"
    assert sample.main([*map(str, command), "-o", str(clip)]) == 0, capsys.readouterr().err
    assert clip.stat().st_size > 0


# Guidance built in: the network is told the scale.
DISTILLED = {**SMALL_UNET, "time_cond_proj_dim": 32}


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_scales_are_told_as_diffusers_tells_them(scale):
    from diffusers import LatentConsistencyModelPipeline

    tell = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = tell(None, torch.tensor([scale - 1]), embedding_dim=32)
    assert error(scale_waves(torch.tensor([scale]), 32), expected) <= TOLERANCE


@torch.inference_mode()
def test_a_network_that_is_told_its_guidance():
    from diffusers import UNet2DConditionModel

    theirs = scramble(UNet2DConditionModel(**DISTILLED), 1)
    ours = UNet(UNetConfig(**DISTILLED))
    ours.load_state_dict(theirs.state_dict())
    x, context, t = torch.randn(3, 4, 8, 8), torch.randn(3, 7, 24), torch.tensor(400)
    told = scale_waves(torch.tensor([1.0, 4.0, 8.0]), 32)
    expected = theirs(x, t, context, timestep_cond=told).sample
    assert error(ours(x, t, Condition(context, guidance=told)), expected) <= TOLERANCE
    # Of one clip, frame by frame.
    row = Condition(context[:1], guidance=told[None])
    same = theirs(x, t, context[:1].expand(3, -1, -1), timestep_cond=told).sample
    assert error(ours(x, t, row), same) <= TOLERANCE
    with pytest.raises(ValueError, match="is told its scale"):
        ours.prepare(Condition(context))
    with pytest.raises(ValueError, match="is told its scale"):
        UNet(UNetConfig(**SMALL_UNET)).prepare(Condition(context, guidance=told))


@pytest.fixture
def distilled(folder) -> Path:
    from diffusers import UNet2DConditionModel

    # In groups of one channel a norm would remove what the timestep adds.
    config = {**UNET, "norm_num_groups": 8, "time_cond_proj_dim": 32}
    unet = scramble(UNet2DConditionModel(**config), 5)
    unet.save_pretrained(folder / "unet")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(LCM))
    return folder


def test_latents_are_those_of_diffusers(distilled):
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        LatentConsistencyModelPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    where = distilled / "tokenizer"
    theirs = LatentConsistencyModelPipeline(
        vae=AutoencoderKL.from_pretrained(distilled / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(distilled / "text_encoder"),
        tokenizer=CLIPTokenizer(
            str(where / "vocab.json"), str(where / "merges.txt"), model_max_length=77
        ),
        unet=UNet2DConditionModel.from_pretrained(distilled / "unet"),
        scheduler=DDIMScheduler.from_config(LCM, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe = zs2.load(distilled, device="cpu", dtype="fp32")
    noise = torch.randn(1, *pipe.latent_shape(16), generator=torch.Generator().manual_seed(5))
    told = {"frames": 1, "size": 16, "steps": 4, "latents": noise}
    ours = pipe("a ball", cfg=8.5, sampler=ddim, **told).latents

    # Its own DDIM, as the pipeline's LCM draws noise of its own.
    theirs.scheduler.set_timesteps(4)
    said = theirs.encode_prompt("a ball", "cpu", 1, False)[0]
    scale = theirs.get_guidance_scale_embedding(torch.tensor([7.5]), embedding_dim=32)
    x = noise
    with torch.inference_mode():
        for t in theirs.scheduler.timesteps:
            predicted = theirs.unet(x, t, said, timestep_cond=scale).sample
            x = theirs.scheduler.step(predicted, t, x).prev_sample
    assert error(ours, x) <= TOLERANCE
    other = pipe("a ball", cfg=2.0, sampler=ddim, **told).latents
    assert error(other, x) > 0.01


def test_the_scale_may_change_over_the_frames(distilled):
    pipe = zs2.load(distilled, device="cpu", dtype="fp32")
    noise = torch.randn(2, *pipe.latent_shape(16), generator=torch.Generator().manual_seed(5))
    told = {"frames": 2, "size": 16, "steps": 2, "latents": noise, "attention": FrameAttention(0)}
    both = pipe("a ball", cfg=Keyframes(((0, 2.0), (1, 8.0))), sampler=ddim, **told).latents
    for frame, cfg in enumerate((2.0, 8.0)):
        alone = pipe("a ball", cfg=cfg, sampler=ddim, **told).latents
        assert error(both[frame], alone[frame]) <= TOLERANCE
    assert pipe("a ball", sampler=lcm, frames=1, size=16, steps=2).latents.isfinite().all()


def test_it_takes_no_negative_prompt(distilled):
    pipe = zs2.load(distilled, device="cpu", dtype="fp32")
    with pytest.raises(ValueError, match="has its guidance built in: it takes no negative"):
        pipe("a ball", negative="rain", frames=1, size=16, steps=1)


def test_a_single_file_with_guidance_built_in(tmp_path, monkeypatch):
    preset = small(Family.SD1)
    monkeypatch.setitem(presets.PRESETS, Family.SD1, preset)
    preset = replace(preset, unet=replace(preset.unet, time_cond_proj_dim=16))
    networks = random_networks(preset)
    save_file(single_file(networks, preset, Family.SD1), tmp_path / "lcm.safetensors")
    write_tokenizer(tmp_path / "tokenizer")
    unet = load_weights(tmp_path / "lcm.safetensors").unet
    key = "time_embedding.cond_proj.weight"
    assert unet.state_dict()[key].equal(networks["unet"][key])


def test_a_unet_alone_says_where_it_belongs(written_xl, tmp_path):
    """As SDXL-Lightning and Hyper-SD are given."""
    file = tmp_path / "sdxl_lightning_4step_unet.safetensors"
    shutil.copy(written_xl / "unet/diffusion_pytorch_model.safetensors", file)
    refused(file, "is the UNet of an SDXL model alone, .* give its model's folder, with it")
    whole = Path(shutil.copytree(written_xl, tmp_path / "whole"))
    half = {k: t / 2 for k, t in load_file(file).items()}
    save_file(half, whole / "unet/diffusion_pytorch_model.safetensors")
    edit_json(whole / "scheduler/scheduler_config.json", timestep_spacing="trailing")
    weights = load_weights(whole)
    assert weights.unet.conv_in.weight.equal(half["conv_in.weight"])
    assert weights.schedule.levels(4)[0].t == 999


@torch.inference_mode()
def test_a_controlnet_is_not_told_the_scale():
    """Those that there are were made for models without guidance built in."""
    net = ControlNet(ControlNetConfig.of(UNetConfig(**DISTILLED))).eval()
    x, context = torch.randn(2, 4, 8, 8), Condition(torch.randn(1, 7, 24))
    picture = torch.randn(2, 32, 8, 8)
    told = replace(context, guidance=scale_waves(torch.tensor([4.0]), 32))
    plain, same = (net(x, torch.tensor(400), c, Share(), picture) for c in (context, told))
    assert all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))
