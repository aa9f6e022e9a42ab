"""Single files of every family, written from networks: the loader's tables the other way round.

OpenCLIP's names are written down here once more, so that both sides would have to be wrong alike.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from folders import SDXL_SCHEDULE, write_tokenizer
from parity import SMALL_SD15, SMALL_SD21, SMALL_SDXL
from safetensors.torch import save_file
from torch import Tensor

from zs2.checkpoint.build import expected_shapes
from zs2.checkpoint.family import PRESETS, Preset
from zs2.checkpoint.kinds import Family
from zs2.checkpoint.names import compvis_name
from zs2.checkpoint.plan import NETWORKS
from zs2.models.clip import CLIPTextConfig
from zs2.models.unet_config import UNetConfig
from zs2.weights import Weights

Networks = Mapping[str, Mapping[str, Tensor]]
"""The tensors of each network, under the Hugging Face names."""

CLIP_L = {
    Family.SD1: "cond_stage_model.transformer.",
    Family.SDXL: "conditioner.embedders.0.transformer.",
}
OPENCLIP = {
    Family.SD2: "cond_stage_model.model.",
    Family.SDXL: "conditioner.embedders.1.model.",
}
OPENCLIP_WORDS = (
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)


def shapes_of(preset: Preset) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of all networks of a family, as in a folder."""
    return {
        name: expected_shapes(make, config)
        for name, (make, _) in NETWORKS.items()
        if (config := getattr(preset, name))
    }


def single_file(networks: Networks, preset: Preset, family: Family) -> dict[str, Tensor]:
    """The tensors of a single file."""
    tensors = {}
    for network in ("unet", "vae"):
        config: Any = getattr(preset, network)
        for key, tensor in networks[network].items():
            name = compvis_name(key, config)
            conv = ".attn_1." in name and tensor.ndim == 2  # CompVis's VAE had convolutions there
            tensors[name] = tensor[:, :, None, None].contiguous() if conv else tensor
    first = networks["text_encoder"]
    if family is Family.SD2:
        tensors |= openclip(first, OPENCLIP[family], last=True)
    else:
        tensors |= {CLIP_L[family] + key: tensor for key, tensor in first.items()}
    if family is Family.SDXL:
        tensors |= openclip(networks["text_encoder_2"], OPENCLIP[family], last=False)
    return tensors


def single_shapes(preset: Preset, family: Family) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a single file."""
    networks = {
        name: {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        for name, shapes in shapes_of(preset).items()
    }
    tensors = single_file(networks, preset, family)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def openclip(tower: Mapping[str, Tensor], prefix: str, last: bool) -> dict[str, Tensor]:
    """A text encoder as OpenCLIP packs it.

    Args:
        last: with one more layer and a projection, which SD 2.x holds and does not use.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in tower.items():
        if key == "text_projection.weight":
            tensors["text_projection"] = tensor.T.contiguous()
        elif ".self_attn.q_proj." in key:
            parts = [tower[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            layer = key.split(".")[3]
            kind = key.rpartition(".")[2]
            tensors[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif ".self_attn.out_proj." in key or ".self_attn." not in key:
            for ours, theirs in OPENCLIP_WORDS:
                key = key.replace(ours, theirs)
            tensors[key] = tensor
    if last:
        layers = 1 + max(int(k.split(".")[2]) for k in tensors if ".resblocks." in k)
        begin = "transformer.resblocks.0."
        tensors |= {
            k.replace(begin, f"transformer.resblocks.{layers}."): t.clone()
            for k, t in tensors.items()
            if k.startswith(begin)
        }
        width = tensors["ln_final.weight"].shape[0]
        tensors["text_projection"] = tensors["ln_final.weight"].new_zeros(width, width)
    tensors["logit_scale"] = torch.zeros(())
    return {prefix + key: tensor for key, tensor in tensors.items()}


def small(family: Family) -> Preset:
    """Configurations of a family made so small that a file of it takes a second."""
    unet = {Family.SD1: SMALL_SD15, Family.SD2: SMALL_SD21, Family.SDXL: SMALL_SDXL}[family]
    if family is Family.SD2:  # the base model; the other is told from its file
        unet = {**unet, "upcast_attention": False}
    width = 16 if family is Family.SDXL else unet["cross_attention_dim"]
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act=PRESETS[family].text_encoder.hidden_act,
        projection_dim=width,
    )
    return replace(
        PRESETS[family],
        unet=UNetConfig(**{**unet, "sample_size": 8}),
        vae=replace(PRESETS[family].vae, block_out_channels=(32, 32), layers_per_block=1),
        text_encoder=text,
        text_encoder_2=replace(text, hidden_size=24, hidden_act="gelu", projection_dim=24)
        if family is Family.SDXL
        else None,
    )


def random_networks(preset: Preset, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Tensors for all networks of a family, no two alike."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {k: torch.randn(shape, generator=generator) / 16 for k, shape in shapes.items()}
        for name, shapes in shapes_of(preset).items()
    }


def write_configs(where: Path, preset: Preset, prediction: str = "epsilon") -> None:
    """The configurations of a Hugging Face folder, as diffusers wants them."""
    two = preset.text_encoder_2 is not None
    levels = len(preset.vae.block_out_channels)
    vae = {
        **asdict(preset.vae),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    scheduler = {**SDXL_SCHEDULE, "prediction_type": prediction, "clip_sample": False}
    parts = {
        "unet": ("diffusers", "UNet2DConditionModel", asdict(preset.unet)),
        "vae": ("diffusers", "AutoencoderKL", vae),
        "scheduler": ("diffusers", "DDIMScheduler", scheduler),
        "text_encoder": ("transformers", "CLIPTextModel", asdict(preset.text_encoder)),
        "tokenizer": ("transformers", "CLIPTokenizer", None),
    }
    if preset.text_encoder_2:
        config = asdict(preset.text_encoder_2)
        parts["text_encoder_2"] = ("transformers", "CLIPTextModelWithProjection", config)
        parts["tokenizer_2"] = ("transformers", "CLIPTokenizer", None)
    index: dict[str, object] = {name: [library, kind] for name, (library, kind, _) in parts.items()}
    kind = "StableDiffusionXLPipeline" if two else "StableDiffusionPipeline"
    where.mkdir(exist_ok=True)
    (where / "model_index.json").write_text(json.dumps({"_class_name": kind, **index}))
    for name, (_, kind, config) in parts.items():
        if config is None:
            write_tokenizer(where / name, preset.text_encoder.vocab_size)
            continue
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        text = {"model_type": "clip_text_model"} if "text" in name else {"_class_name": kind}
        (where / name).mkdir()
        (where / name / file).write_text(json.dumps({**text, **config}))


def write_folder(where: Path, networks: Networks, preset: Preset) -> None:
    """A whole Hugging Face folder."""
    write_configs(where, preset)
    for name, tensors in networks.items():
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        save_file(dict(tensors), where / name / f"{stem}.safetensors")


def write_single(folder: Path, tensors, metadata=None) -> Path:
    """A single file with a tokenizer beside it."""
    file = folder / "sd.safetensors"
    save_file(tensors, file, metadata)
    if not (folder / "tokenizer").exists():
        write_tokenizer(folder / "tokenizer")
    return file


def loaded(weights: Weights) -> dict[str, dict[str, torch.Tensor]]:
    encoders = [tower.encoder for tower in weights.text.towers]
    models = (weights.unet, weights.vae, *encoders)
    return {n: m.state_dict() for n, m in zip(NETWORKS, models, strict=False)}


def same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for network, tensors in expected.items():
        assert found[network].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert tensor.equal(found[network][key]), key
