"""A long clip in the memory of a short one, with SD 1.5's real shapes."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from zs2.ddim import DDIM
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet, UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.pipeline import Pipeline
from zs2.weights import Sampling, Weights

class Words:
    def encode(self, texts):
        return torch.zeros(len(texts), 77, dtype=torch.long)

def network(model, config):
    with torch.device("meta"):
        made = model(config)
    made = made.to(torch.bfloat16).to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.normal_(std=0.02)
    return made

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

weights = Weights(
    Words(), network(CLIPText, CLIPTextConfig()), network(UNet, UNetConfig()),
    network(VAE, VAEConfig()), DDIM(), "SD 1.x", "random", Sampling(256),
)
pipe = Pipeline(weights, torch.device("cpu"), torch.bfloat16)
loaded = peak()
pipe("x", frames=int(sys.argv[1]), size=(256, 256), steps=2, seed=1, chunk=8)
print(peak() - loaded)
"""


@pytest.mark.slow
def test_64_frames_take_no_more_memory_than_8():
    def above_the_model(frames: int) -> int:
        out = subprocess.run(
            [sys.executable, "-c", CODE, str(frames)], capture_output=True, text=True, check=True
        )
        return int(out.stdout)

    assert above_the_model(64) <= 1.15 * above_the_model(8)
