"""What single files of the same model differ in, and what is wrong with others."""

import re

import pytest
import torch
from folders import refused
from single_files import CLIP_L, OPENCLIP, loaded, same, single_file, small, write_single

from zs2.checkpoint.kinds import Family
from zs2.checkpoint.load import load_weights

FAMILIES = [*Family]
UNET = "model.diffusion_model."


# What real files have that the networks do not need.
BESIDE = {
    "model_ema.decay": (1,),
    "model_ema.diffusion_modelinput_blocks00weight": (3,),
    "alphas_cumprod": (1000,),
    "denoiser.sigmas": (1000,),
    "first_stage_model.loss.logvar": (1,),
    "first_stage_model.model_ema.decay": (1,),
}
EACH_BESIDE = {
    Family.SD1: {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77)},
    Family.SD2: {
        # waifu-diffusion 1.4
        "cond_stage_model.model.transformer.encoder.text_model.embeddings.position_ids": (1, 77),
        "cond_stage_model.logit_scale": (),
    },
    Family.SDXL: {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77),
        "conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids": (1, 77),
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_needed_is_left_out(family, networks, tmp_path):
    tensors = networks(family)
    beside = {k: torch.ones(shape) for k, shape in (BESIDE | EACH_BESIDE[family]).items()}
    file = write_single(tmp_path, single_file(tensors, small(family), family) | beside)
    same(loaded(load_weights(file)), tensors)


def as_trained_early(tensors):
    """kohya's of 2022, and newer transformers': without text_model."""
    return {k.replace(".transformer.text_model.", ".transformer."): t for k, t in tensors.items()}


def as_convolutions(tensors):
    """Projections before and after the transformers, converted from SD 1.x's code."""
    ends = re.compile(UNET + r".*\.1\.proj_(in|out)\.weight$")
    return {k: t[:, :, None, None] if ends.match(k) else t for k, t in tensors.items()}


def as_converted(tensors):
    """By diffusers' script: SD 2.x's without the layer, the projection and the scale."""
    prefix = OPENCLIP[Family.SD2]
    left_out = (f"{prefix}transformer.resblocks.2.", f"{prefix}text_proj", f"{prefix}logit_scale")
    return {k: t for k, t in tensors.items() if not k.startswith(left_out)}


def as_sdxl_trains_it(tensors):
    """SD 2.x in the layout of SDXL's program."""
    new = "conditioner.embedders.0.model."
    return {k.replace(OPENCLIP[Family.SD2], new): t for k, t in tensors.items()}


def as_playground(tensors):
    """The projection of SDXL's pooled prompt as the linear layer that it is."""
    found = dict(tensors)
    projection = found.pop(f"{OPENCLIP[Family.SDXL]}text_projection")
    key = f"{OPENCLIP[Family.SDXL]}text_projection.weight.weight"
    return {**found, key: projection.T.contiguous()}


def as_upsampled_elsewhere(tensors):
    """The first upsampler of some SDXL files."""
    return {
        k.replace("output_blocks.2.2.conv", "output_blocks.2.1.conv"): t for k, t in tensors.items()
    }


@pytest.mark.parametrize(
    ("family", "change"),
    [
        (Family.SD1, as_trained_early),
        (Family.SD2, as_convolutions),
        (Family.SD2, as_converted),
        (Family.SD2, as_sdxl_trains_it),
        (Family.SDXL, as_playground),
        (Family.SDXL, as_upsampled_elsewhere),
        (Family.SDXL, as_convolutions),
        (Family.SDXL, as_trained_early),
    ],
)
def test_other_spellings(family, change, networks, tmp_path):
    tensors = networks(family)
    usual = single_file(tensors, small(family), family)
    changed = change(usual)
    assert {k: t.shape for k, t in changed.items()} != {k: t.shape for k, t in usual.items()}
    same(loaded(load_weights(write_single(tmp_path, changed))), tensors)


def without(tensors, name):
    return {k: t for k, t in tensors.items() if k != name}


SECOND = "conditioner.embedders.1.model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, UNET + "out.2.bias"), "lacks 1 of .* tensors: conv_out.bias"),
        (lambda t: {**t, UNET + "surprise": torch.zeros(1)}, f"too many: {UNET}surprise"),
        (
            lambda t: without(t, SECOND + "transformer.resblocks.1.attn.in_proj_bias"),
            "lacks 3 .*: text_model.encoder.layers.1.self_attn.q_proj.bias",
        ),
        (lambda t: without(t, SECOND + "text_projection"), "lacks 1 .* text_projection.weight"),
        (
            lambda t: {**t, SECOND + "transformer.resblocks.2.ln_1.bias": torch.zeros(24)},
            "1 tensors too many: text_model.encoder.layers.2.layer_norm1.bias",
        ),
        (
            lambda t: {**t, SECOND + "transformer.resblocks.1.attn.in_proj_bias": torch.zeros(73)},
            r"q_proj.bias has shape \[73\], expected \[24\]",
        ),
        (lambda t: {**t, SECOND + "visual.proj": torch.zeros(1)}, "too many: visual.proj"),
        (
            lambda t: {**t, UNET + "output_blocks.2.1.conv.bias": torch.zeros(64)},
            f"1 tensors too many: {UNET}output_blocks.2.",
        ),
        (
            lambda t: {**t, CLIP_L[Family.SDXL] + "final_layer_norm.bias": torch.zeros(16)},
            f"1 tensors too many: {CLIP_L[Family.SDXL]}",
        ),
        (
            lambda t: {**t, SECOND + "text_projection.weight": torch.zeros(24, 24)},
            f"1 tensors too many: {SECOND}text_projection",
        ),
    ],
)
def test_a_wrong_file_is_named(change, message, networks, tmp_path):
    tensors = single_file(networks(Family.SDXL), small(Family.SDXL), Family.SDXL)
    refused(write_single(tmp_path, change(tensors)), message)


@pytest.mark.parametrize("marker", ["edm_vpred.sigma_max", "edm_mean"])
def test_models_of_continuous_noise_levels_are_refused(marker, networks, tmp_path):
    tensors = single_file(networks(Family.SDXL), small(Family.SDXL), Family.SDXL)
    refused(write_single(tmp_path, {**tensors, marker: torch.zeros(1)}), "continuous noise levels")


def test_nothing_is_read_before_all_is_checked(networks, tmp_path, monkeypatch):
    tensors = single_file(networks(Family.SDXL), small(Family.SDXL), Family.SDXL)
    file = write_single(tmp_path, without(tensors, "first_stage_model.quant_conv.bias"))
    monkeypatch.setattr("zs2.checkpoint.build._read", lambda *_: pytest.fail("was read"))
    refused(file, "lacks 1 of .* tensors: quant_conv.bias")


def test_a_tokenizer_of_another_family_beside_it(networks, tmp_path):
    """SDXL pads its two encoders differently, whatever the vocabulary's settings say."""
    tensors = single_file(networks(Family.SDXL), small(Family.SDXL), Family.SDXL)
    file = write_single(tmp_path, tensors)
    (tmp_path / "tokenizer/special_tokens_map.json").write_text('{"pad_token": "b"}')
    towers = load_weights(file).text.towers
    assert [int(t.tokenizer.encode(["a"])[0, -1]) for t in towers] == [513, 0]


def test_one_layer_of_sd_2_is_not_needed_and_no_other(networks, tmp_path):
    tensors = single_file(networks(Family.SD2), small(Family.SD2), Family.SD2)
    deeper = OPENCLIP[Family.SD2] + "transformer.resblocks.3.ln_1.bias"
    file = write_single(tmp_path, {**tensors, deeper: torch.zeros(40)})
    refused(file, "1 tensors too many: text_model.encoder.layers.3.layer_norm1.bias")
