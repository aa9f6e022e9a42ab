"""SDXL from its folder to the latents, against diffusers' pipeline."""

import shutil
from pathlib import Path

import pytest
import torch
from folders import edit_json, refused
from parity import TOLERANCE, error
from safetensors.torch import load_file, save_file

import zs2
from zs2.attention import FrameAttention
from zs2.checkpoint.load import load_weights
from zs2.samplers import ddim, euler


@pytest.fixture
def folder_xl(written_xl, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written_xl, tmp_path / "sdxl"))


@pytest.fixture(scope="module")
def theirs(written_xl):
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    def tokenizer(name: str, pad: str) -> CLIPTokenizer:
        where = written_xl / name
        return CLIPTokenizer(
            str(where / "vocab.json"), str(where / "merges.txt"), pad_token=pad, model_max_length=77
        )

    pipe = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(written_xl / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(written_xl / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(written_xl / "text_encoder_2"),
        tokenizer=tokenizer("tokenizer", "<|endoftext|>"),
        tokenizer_2=tokenizer("tokenizer_2", "!"),
        unet=UNet2DConditionModel.from_pretrained(written_xl / "unet"),
        scheduler=EulerDiscreteScheduler.from_pretrained(written_xl / "scheduler"),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


PROMPT = "a small ball"


@pytest.mark.parametrize("negative", [None, "", "rain"])
@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_latents_are_those_of_diffusers(written_xl, theirs, name, negative):
    from diffusers import DDIMScheduler

    sampler = {"euler": euler, "ddim": ddim}[name]
    if name == "ddim":
        theirs.scheduler = DDIMScheduler.from_config(
            theirs.scheduler.config, clip_sample=False, set_alpha_to_one=False
        )
    pipe = zs2.load(written_xl, device="cpu", dtype="fp32")
    noise = torch.randn(1, *pipe.latent_shape((24, 16)), generator=torch.Generator().manual_seed(5))
    ours = pipe(
        PROMPT,
        negative=negative,
        frames=1,
        size=(24, 16),
        steps=4,
        cfg=5.0,
        latents=noise,
        attention=FrameAttention(0),
        sampler=sampler,
        spacing="leading",
    )
    expected = theirs(
        PROMPT,
        negative_prompt=negative,
        width=24,
        height=16,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=noise.clone(),
        output_type="latent",
    ).images
    assert error(ours.latents, expected) <= TOLERANCE


def test_what_is_read_of_a_folder(written_xl):
    weights = load_weights(written_xl)
    assert [type(t.encoder).__name__ for t in weights.text.towers] == ["CLIPText"] * 2
    assert weights.text.waves == 8
    assert weights.vae.config.scaling_factor == 0.13025
    assert weights.defaults.size == 16
    first, second = (tower.tokenizer.encode(["a"])[0] for tower in weights.text.towers)
    assert first[:3].equal(second[:3])
    assert set(first[3:].tolist()) == {513}
    assert set(second[3:].tolist()) == {0}


def test_one_vocabulary_serves_both_encoders(written_xl, folder_xl):
    shutil.rmtree(folder_xl / "tokenizer_2")
    refused(folder_xl, "has no tokenizer_2 folder: add it, or pass --tokenizer DIR")
    told = load_weights(folder_xl, tokenizer=folder_xl / "tokenizer").text
    own = load_weights(written_xl).text
    for ours, expected in zip(told.towers, own.towers, strict=True):
        assert ours.tokenizer.encode(["a ball"]).equal(expected.tokenizer.encode(["a ball"]))


@pytest.mark.parametrize("zeros", [True, False])
def test_no_negative_is_what_the_folder_says(folder_xl, zeros):
    (folder_xl / "model_index.json").write_text("{}")
    edit_json(folder_xl / "model_index.json", force_zeros_for_empty_prompt=zeros)
    text = load_weights(folder_xl).text
    assert text.nothing(1, (16, 16)).prompt.any() != zeros


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"cross_attention_dim": 48}, "text_encoder and .*text_encoder_2 give 40 .* 48"),
        ("unet", {"projection_class_embeddings_input_dim": 80}, "_2 gives 72 channels .* takes 80"),
        ("unet", {"addition_time_embed_dim": 16}, "_2 gives 120 channels .* takes 72"),
        ("text_encoder_2", {"projection_dim": 16}, "_2 gives 64 channels .* takes 72"),
        ("unet", {"addition_embed_type": "image"}, "addition_embed_type image with 72"),
        ("text_encoder_2", {"vocab_size": 400}, "tokenizer_2 has 514 tokens, and .*_2 knows 400"),
    ],
)
def test_parts_that_do_not_fit(folder_xl, part, changes, message):
    edit_json(folder_xl / part / "config.json", **changes)
    refused(folder_xl, message)


def test_a_second_encoder_that_is_not_there(folder_xl):
    shutil.rmtree(folder_xl / "text_encoder_2")
    refused(folder_xl, "has no text_encoder_2/config.json")


def test_a_refiner_s_folder(folder_xl):
    shutil.rmtree(folder_xl / "text_encoder")
    file = folder_xl / "unet/diffusion_pytorch_model.safetensors"
    deeper = "down_blocks.1.attentions.0.transformer_blocks.2.norm1.weight"
    save_file({**load_file(file), deeper: torch.zeros(1)}, file)
    refused(folder_xl, "SDXL refiner, which zs2 does not use: give the base model")


def test_continuous_noise_levels_are_refused(folder_xl):
    edit_json(folder_xl / "scheduler/scheduler_config.json", _class_name="EDMEulerScheduler")
    refused(folder_xl, "continuous noise levels")
