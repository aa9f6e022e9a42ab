"""What several tests start from: a pipeline with random weights, and a checkpoint's folder."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many tests at once as there are cores

import interpreter  # noqa: F401  (first: see there)
import pytest
import torch
from folders import SDXL_SCHEDULE, TEXT, TEXT_G, TEXT_L, UNET, VAE_KEYS, write_tokenizer
from parity import SMALL_SDXL
from single_files import random_networks, small
from torch import Tensor, nn

from zs2 import sample
from zs2.checkpoint import family as presets
from zs2.checkpoint.kinds import Family
from zs2.cli import make
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Token
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.pipeline import Pipeline
from zs2.schedule import Schedule
from zs2.weights import Defaults, Weights


class Letters:
    """A tokenizer of sorts: one token a letter."""

    length = 16

    def tokens(self, text: str) -> list[Token]:
        return [Token(ord(letter) % 60, i) for i, letter in enumerate(text)]

    def row(self, tokens: list[Token]) -> list[int]:
        return [62, *(t.id for t in tokens), *[63] * (self.length - 1 - len(tokens))]

    def encode(self, texts: list[str]) -> Tensor:
        return torch.tensor([self.row(self.tokens(text)[: self.length - 2]) for text in texts])


def scramble(model: nn.Module, seed: int) -> nn.Module:
    """Random values for every parameter, also those that begin as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(noise / fan**0.5 if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def random_pipe() -> Pipeline:
    unet = UNetConfig(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    text = CLIPTextConfig(
        vocab_size=64,
        max_position_embeddings=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    weights = Weights(
        text=Text((Tower(Letters(), scramble(CLIPText(text), 1)),)),  # type: ignore[arg-type]
        unet=scramble(UNet(unet), 2),  # type: ignore[arg-type]
        vae=scramble(VAE(VAEConfig(block_out_channels=(32, 32), layers_per_block=1)), 3),  # type: ignore[arg-type]
        schedule=Schedule(),
        name="random",
        defaults=Defaults(size=16, steps=4, cfg=3.0),
    )
    return Pipeline(weights, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """A small Stable Diffusion folder, as diffusers and transformers write it."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig as TheirTextConfig
    from transformers import CLIPTextModel

    path = tmp_path_factory.mktemp("model") / "sd"
    path.mkdir()
    torch.manual_seed(0)
    UNet2DConditionModel(**UNET).save_pretrained(path / "unet")
    AutoencoderKL(**VAE_KEYS).save_pretrained(path / "vae")
    CLIPTextModel(TheirTextConfig(**TEXT)).save_pretrained(path / "text_encoder")
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(path / "scheduler")
    write_tokenizer(path / "tokenizer")
    return path


@pytest.fixture(scope="session")
def written_xl(tmp_path_factory) -> Path:
    """A small SDXL folder, as diffusers and transformers write it."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig as TheirTextConfig
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    path = tmp_path_factory.mktemp("model") / "sdxl"
    path.mkdir()
    unet = UNet2DConditionModel(**{**SMALL_SDXL, "sample_size": 8})
    scramble(unet, 1).save_pretrained(path / "unet")
    vae = AutoencoderKL(**VAE_KEYS, scaling_factor=0.13025)
    scramble(vae, 2).save_pretrained(path / "vae")
    first = CLIPTextModel(TheirTextConfig(**TEXT_L))
    scramble(first, 3).save_pretrained(path / "text_encoder")
    second = CLIPTextModelWithProjection(TheirTextConfig(**TEXT_G))
    scramble(second, 4).save_pretrained(path / "text_encoder_2")
    EulerDiscreteScheduler(**SDXL_SCHEDULE).save_pretrained(path / "scheduler")
    write_tokenizer(path / "tokenizer")
    write_tokenizer(path / "tokenizer_2")
    (path / "tokenizer_2/special_tokens_map.json").write_text('{"pad_token": "!"}')
    return path


@pytest.fixture
def networks(monkeypatch):
    """The tensors of a small model, whose file is read as one of the family."""

    def made(family: Family):
        monkeypatch.setitem(presets.PRESETS, family, small(family))
        return random_networks(small(family))

    return made


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "sd"))


@pytest.fixture
def run(random_pipe, monkeypatch, tmp_path, capsys):
    """Run the command in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def load(*_, adapters=(), **__) -> Pipeline:
        weights = random_pipe.weights
        for adapter in adapters:
            weights = adapter(weights)
        changed = Pipeline(weights, random_pipe.device, random_pipe.dtype)
        return changed if adapters else random_pipe

    monkeypatch.setattr(make, "load", load)

    def run(*argv):
        try:
            status = sample.main([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
        out = capsys.readouterr()
        return status, out.out, out.err

    return run
