"""Writes the trained small model as a Hugging Face folder in fp16.

python -m weights.recipe.export --work ~/zs2-recipe --out weights/tiny
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from zs2.models.clip import CLIP
from zs2.models.unet import UNet
from zs2.models.vae import VAE

SAMPLE = {"steps": 50, "cfg": 4.0}  # what looks best with this model


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
    parser.add_argument("--recipe", default="recipe", help="recipe, or recipe128")
    args = parser.parse_args()
    work, out = args.work, args.out
    recipe = import_module(f"weights.{args.recipe}.train")
    unet_config, vae_config, vision_config = (
        recipe.UNET_CONFIG,
        recipe.VAE_CONFIG,
        recipe.VISION_CONFIG,
    )

    shutil.copytree(work / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    vocabulary = len(json.loads((out / "tokenizer/vocab.json").read_text("utf-8")))
    text = {
        **asdict(recipe.text_config(vocabulary)),
        "model_type": "clip_text_model",
        "bos_token_id": vocabulary - 2,
        "pad_token_id": vocabulary - 1,
        "projection_dim": recipe.PROJECTION,
    }
    vision = {
        **asdict(vision_config),
        "model_type": "clip_vision_model",
        "projection_dim": recipe.PROJECTION,
    }
    clip = averaged(
        work, "vision", CLIP(recipe.text_config(vocabulary), vision_config, recipe.PROJECTION)
    )
    write(
        out / "clip",
        "model.safetensors",
        clip,
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": recipe.PROJECTION,
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
        averaged(work, "unet", UNet(unet_config)),
        {"_class_name": "UNet2DConditionModel", **asdict(unet_config)},
    )
    levels = len(vae_config.block_out_channels)
    final = work / "vae-final.pt"  # with recipe128's last stage
    vae = torch.load(final if final.exists() else work / "vae-normalised.pt", weights_only=True)
    VAE(vae_config).load_state_dict(vae)
    write(
        out / "vae",
        "diffusion_pytorch_model.safetensors",
        vae,
        {
            "_class_name": "AutoencoderKL",
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            **asdict(vae_config),
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
    write_json(out / "zs2.json", {**SAMPLE, "words": recipe.scenes.words()})


if __name__ == "__main__":
    main()
