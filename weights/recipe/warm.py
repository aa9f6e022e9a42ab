"""A start from a finished small model, in place of random weights.

    python -m weights.recipe.warm --work ~/zs2-recipe --model weights/small

Writes what `weights.recipe.train` goes on from. Tokenizer, CLIP and VAE are taken as they are; the
UNet begins a new round, so that `--stage unet --steps unet=2000` is 2000 steps more. `--stage
vision` does the same for the tower that scores.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from weights.recipe.train import STEPS

PARTS = {
    "clip": ("clip/model.safetensors", STEPS["clip"]),
    "vae": ("vae/diffusion_pytorch_model.safetensors", STEPS["vae"]),
    "unet": ("unet/diffusion_pytorch_model.safetensors", 0),
}
"""Each stage's file in the model's folder, and the step that it counts as having reached."""


def begin(work: Path, stage: str, state: Mapping[str, Tensor], step: int) -> None:
    """Write what `fit` goes on from."""
    saved = {"model": dict(state), "averaged": dict(state), "optimizers": [], "step": step}
    torch.save(saved, work / f"{stage}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(args.model / "tokenizer", args.work / "tokenizer", dirs_exist_ok=True)
    for stage, (name, step) in PARTS.items():
        begin(
            args.work, stage, {k: v.float() for k, v in load_file(args.model / name).items()}, step
        )


if __name__ == "__main__":
    main()
