"""Writes the trained small model as a Hugging Face folder in fp16.

python -m weights.recipe.export --work ~/zs2-recipe --out weights/small
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from weights.recipe import scenes
from weights.recipe.train import (
    PROJECTION,
    UNET_CONFIG,
    VAE_CONFIG,
    VISION_CONFIG,
    text_config,
)
from zs2.models.clip import CLIP
from zs2.models.unet import UNet
from zs2.models.vae import VAE

# By what judges see of stills 8 steps would do (benchmarks.defaults), but a picture that --strength
# sets in motion has only a part of them.
SAMPLE = {"steps": 20, "cfg": 4.0}


def averaged(work: Path, stage: str, model: nn.Module) -> dict[str, Tensor]:
    """The running average that a stage ended with, checked against its model."""
    saved = torch.load(work / f"{stage}.pt", map_location="cpu", weights_only=True)["averaged"]
    model.load_state_dict(saved)
    return saved


def write(folder: Path, name: str, tensors: dict[str, Tensor], config: dict[str, object]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    halves = {key: value.half().contiguous() for key, value in tensors.items()}
    save_file(halves, folder / name, metadata={"format": "pt"})
    write_json(folder / "config.json", config)


def write_json(path: Path, values: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the trained small model as a folder.")
    parser.add_argument("--work", type=Path, required=True, help="folder of weights.recipe.train")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    work, out = args.work, args.out

    shutil.copytree(work / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    vocabulary = len(json.loads((out / "tokenizer/vocab.json").read_text("utf-8")))
    text = {
        **asdict(text_config(vocabulary)),
        "model_type": "clip_text_model",
        "bos_token_id": vocabulary - 2,
        "pad_token_id": vocabulary - 1,
        "projection_dim": PROJECTION,
    }
    vision = {
        **asdict(VISION_CONFIG),
        "model_type": "clip_vision_model",
        "projection_dim": PROJECTION,
    }
    clip = averaged(work, "vision", CLIP(text_config(vocabulary), VISION_CONFIG, PROJECTION))
    write(
        out / "clip",
        "model.safetensors",
        clip,
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": PROJECTION,
            "text_config": text,
            "vision_config": vision,
        },
    )
    tower = {key: value for key, value in clip.items() if key.startswith("text_model.")}
    write(
        out / "text_encoder",
        "model.safetensors",
        tower,
        {"architectures": ["CLIPTextModel"], **text},
    )
    write(
        out / "unet",
        "diffusion_pytorch_model.safetensors",
        averaged(work, "unet", UNet(UNET_CONFIG)),
        {"_class_name": "UNet2DConditionModel", **asdict(UNET_CONFIG)},
    )
    levels = len(VAE_CONFIG.block_out_channels)
    vae = torch.load(work / "vae-normalised.pt", weights_only=True)
    VAE(VAE_CONFIG).load_state_dict(vae)
    write(
        out / "vae",
        "diffusion_pytorch_model.safetensors",
        vae,
        {
            "_class_name": "AutoencoderKL",
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            **asdict(VAE_CONFIG),
        },
    )
    write_json(
        out / "scheduler/scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "set_alpha_to_one": False,
            "clip_sample": False,
        },
    )
    write_json(
        out / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    write_json(out / "zs2.json", {**SAMPLE, "words": scenes.words()})


if __name__ == "__main__":
    main()
