"""A start from a finished small model, in place of random weights.

    python -m weights.recipe.warm --work ~/zs2-recipe --model weights/small

Writes what `weights.recipe.train` goes on from, to an empty folder. Tokenizer, text tower and VAE
are taken as they are. The UNet begins a new round, so that `--stage unet --steps unet=2000` is 2000
steps more, and so does the vision tower.
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
    "vision": ("clip/model.safetensors", 0),
    "unet": ("unet/diffusion_pytorch_model.safetensors", 0),
}
"""Each stage's file in the model's folder, and the step that it counts as having reached."""


def floats(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in float32."""
    return {key: tensor.float() for key, tensor in load_file(path).items()}


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
    if any(args.work.iterdir()):
        parser.error(f"{args.work} is not empty: what is in it belongs to another training")
    shutil.copytree(args.model / "tokenizer", args.work / "tokenizer", dirs_exist_ok=True)
    for stage, (name, step) in PARTS.items():
        begin(args.work, stage, floats(args.model / name), step)
    vae = floats(args.model / "vae/diffusion_pytorch_model.safetensors")
    torch.save(vae, args.work / "vae-normalised.pt")


if __name__ == "__main__":
    main()
