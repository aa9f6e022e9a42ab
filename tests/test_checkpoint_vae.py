"""A VAE of its own file or folder: every form gives the same network, and misfits are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import scramble
from diffusers import AutoencoderKL, AutoencoderTiny
from folders import VAE_KEYS, edit_json
from safetensors.torch import load_file, save_file

from zs2.checkpoint.names import compvis_name
from zs2.checkpoint.vae import OtherVAE
from zs2.errors import InputError, NumericalError
from zs2.models.taesd import TAESD
from zs2.models.unet import UNet
from zs2.models.vae import VAE, VAEConfig
from zs2.pipeline import Pipeline
from zs2.shots.init import Init

TINY = {
    "encoder_block_out_channels": (8, 8),
    "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 2),
    "num_decoder_blocks": (2, 1),
}
# Where the tensors of TAESD's own files lie: the layers of its halves, in the author's numbers.
ENCODER = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
DECODER = [1, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19]


@pytest.fixture
def kl(tmp_path) -> Path:
    torch.manual_seed(5)
    AutoencoderKL(**VAE_KEYS).save_pretrained(tmp_path / "kl")
    return tmp_path / "kl"


@pytest.fixture
def large(random_pipe) -> Pipeline:
    """A pipeline whose latents span 8 pixels."""
    vae = scramble(VAE(VAEConfig(block_out_channels=(32,) * 4, layers_per_block=1)), 7)
    weights = replace(random_pipe.weights, vae=vae)
    return Pipeline(weights, random_pipe.device, random_pipe.dtype)


@pytest.fixture
def taesd(tmp_path) -> tuple[Path, AutoencoderTiny]:
    """TAESD as its author's two files."""
    torch.manual_seed(6)
    theirs = AutoencoderTiny()
    halves = {"encoder": {}, "decoder": {}}
    for key, tensor in theirs.state_dict().items():
        half, _, number, rest = key.split(".", 3)
        halves[half][f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
    for half, numbers in (("encoder", ENCODER), ("decoder", DECODER)):
        assert sorted({int(key.split(".")[0]) for key in halves[half]}) == numbers
        save_file(halves[half], tmp_path / f"taesd_{half}.safetensors")
    return tmp_path / "taesd_decoder.safetensors", theirs


def refused(path: Path, pipe: Pipeline, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        OtherVAE(path)(pipe.weights)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def written(kl: Path, form: str) -> Path:
    """The VAE of a diffusers folder in another form."""
    tensors = load_file(kl / "diffusion_pytorch_model.safetensors")
    single = kl.parent / "vae.safetensors"
    compvis = {
        compvis_name(k, VAEConfig(block_out_channels=(32, 32), layers_per_block=1)): v
        for k, v in tensors.items()
    }
    if form == "model folder":
        (kl.parent / "model").mkdir()
        return kl.rename(kl.parent / "model/vae").parent
    if form == "diffusers file":
        save_file(tensors, single)
    elif form == "prefixed":
        save_file({**compvis, "first_stage_model.loss.x": torch.zeros(1)}, single)
    elif form == "bare":
        bare = {k.removeprefix("first_stage_model."): v for k, v in compvis.items()}
        bare["decoder.mid.attn_1.q.weight"] = bare["decoder.mid.attn_1.q.weight"][:, :, None, None]
        save_file({**bare, "loss.logvar": torch.zeros(1)}, single)
    else:
        return kl
    return single


@pytest.mark.parametrize("form", ["folder", "model folder", "diffusers file", "prefixed", "bare"])
def test_each_form_is_the_same_network(kl, random_pipe, form):
    expected = load_file(kl / "diffusion_pytorch_model.safetensors")
    before = replace(random_pipe.weights, settings={"tokenizer": "words"})
    path = written(kl, form)
    weights = OtherVAE(path)(before)
    found = weights.vae.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[key].equal(tensor) for key, tensor in expected.items())
    assert weights.settings == {"tokenizer": "words", "vae": str(path)}
    assert str(weights.receipts[-1]) == f"{path}: a VAE, applied: {len(expected)} tensors"
    assert weights.unet is before.unet
    assert before.vae is not weights.vae


def test_a_tiny_folder_decodes_as_diffusers_does(tmp_path, random_pipe):
    torch.manual_seed(6)
    theirs = AutoencoderTiny(**TINY)
    theirs.save_pretrained(tmp_path / "tiny")
    weights = OtherVAE(tmp_path / "tiny")(random_pipe.weights)
    pipe = Pipeline(weights, random_pipe.device, random_pipe.dtype)
    z = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pixels = theirs.decode(z).sample
    frames = ((pixels.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1)
    # Rounded to whole values, and 1e-5 may round the other way.
    assert (pipe.decode(z).float() - frames).abs().max() <= 0.501
    given = frames.byte()
    with torch.inference_mode():
        latents = theirs.encode(given.permute(0, 3, 1, 2) / 127.5 - 1).latents
    assert (pipe.picture(given) - latents).abs().max() <= 1e-5
    clip = pipe("a ball", frames=2, seed=1, features=[Init(given[:1])])
    assert clip.settings["vae"] == str(tmp_path / "tiny")


@pytest.mark.parametrize("form", ["two files", "diffusers file", "one file"])
def test_the_files_of_taesd(taesd, large, form):
    """The author's two, diffusers' one, and both halves in one by the author's numbers."""
    path, theirs = taesd
    if form != "two files":
        one = dict(theirs.state_dict())
        if form == "one file":
            halves = {
                h: load_file(path.with_name(f"taesd_{h}.safetensors"))
                for h in ("encoder", "decoder")
            }
            one = {f"{half}.{k}": v for half, tensors in halves.items() for k, v in tensors.items()}
        path = path.with_name("taesd.safetensors")
        save_file(one, path)
    vae = OtherVAE(path)(large.weights).vae
    assert isinstance(vae, TAESD)
    found = vae.state_dict()
    assert found.keys() == theirs.state_dict().keys()
    assert all(found[key].equal(tensor) for key, tensor in theirs.state_dict().items())


def test_a_decoder_alone_decodes_and_refuses_frames_to_start_from(taesd, large):
    path, _ = taesd
    path.with_name("taesd_encoder.safetensors").unlink()
    pipe = Pipeline(OtherVAE(path)(large.weights), large.device, large.dtype)
    assert pipe("a ball", frames=2, size=16, seed=1).frames.shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="only decodes"):
        pipe("a ball", frames=2, size=16, features=[Init(torch.zeros(1, 16, 16, 3).byte())])


def test_a_broken_encoder_beside_the_decoder_is_not_taken_for_none(taesd, large):
    path, _ = taesd
    save_file({"x": torch.zeros(1)}, path.with_name("taesd_encoder.safetensors"))
    refused(path, large, "taesd_encoder.safetensors is no TAESD encoder")


def test_a_folder_of_something_else_is_named(large, tmp_path):
    folder = tmp_path / "text_encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    key = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    tensors = {key: torch.zeros(768, 768)}
    tensors["text_model.embeddings.token_embedding.weight"] = torch.zeros(49408, 768)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, large, "not a VAE|not use")


def test_vaes_that_do_not_fit_are_refused(kl, random_pipe, tmp_path, taesd):
    edit_json(kl / "config.json", scaling_factor=0.13025)
    refused(kl, random_pipe, "by 0.13025, and the model's VAE by 0.18215.*another family")
    edit_json(kl / "config.json", scaling_factor=0.18215, latent_channels=16)
    refused(kl, random_pipe, "has 16 channels in a latent, and the model has 4")
    refused(taesd[0], random_pipe, "has 8 pixels along a latent, and the model has 2")
    (kl / "config.json").unlink()
    refused(kl, random_pipe, "no config.json")
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(2, 2)}, file)
    refused(file, random_pipe, "is a LoRA, not a VAE: give it with --lora")


XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 72,
}


@pytest.mark.parametrize(
    ("family", "upcast", "asked", "made"),
    [
        (XL, True, torch.float16, torch.float32),
        (XL, True, torch.bfloat16, torch.bfloat16),
        (XL, False, torch.float16, torch.float16),
        ({}, True, torch.float16, torch.float16),
    ],
)
def test_a_vae_that_overflows_in_fp16_is_float32_on_a_cpu(
    kl, random_pipe, family, upcast, asked, made
):
    """SDXL's. Other families' files say that they overflow without need."""
    edit_json(kl / "config.json", force_upcast=upcast)
    unet = UNet(replace(random_pipe.weights.unet.config, **family)).to(asked)
    weights = OtherVAE(kl)(replace(random_pipe.weights, unet=unet))
    assert weights.vae.dtype == made
    pipe = Pipeline(weights, random_pipe.device, asked)
    frames = pipe.decode(torch.zeros(1, 4, 4, 4))
    assert pipe.picture(frames).shape == (1, 4, 4, 4)


def test_an_overflow_is_told_with_the_vaes_precision(random_pipe):
    vae = scramble(VAE(random_pipe.weights.vae.config), 3).half()
    pipe = Pipeline(replace(random_pipe.weights, vae=vae), random_pipe.device, torch.float32)
    with pytest.raises(NumericalError, match=r"decoding frame 1: .*--dtype fp32"):
        pipe.decode(torch.full((1, 4, 4, 4), 1e8))
