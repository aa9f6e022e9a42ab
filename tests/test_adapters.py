"""Options that change a checkpoint: from the command line to the clip, and back."""

import shlex

import pytest
import torch
from loras import kohya, pairs
from safetensors.torch import save_file

from zs2 import inspect, media
from zs2.cli import make
from zs2.pipeline import Pipeline
from zs2.read_media import read_frames

LAYERS = [f"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_{x}" for x in "qkv"]


@pytest.fixture
def lora(run, random_pipe, monkeypatch, tmp_path):
    """A LoRA's file, where the command loads a random model and what is to be added to it."""

    def load(*_, adapters=(), **__):
        weights = random_pipe.weights
        for adapter in adapters:
            weights = adapter(weights)
        return Pipeline(weights, torch.device("cpu"), torch.float32)

    monkeypatch.setattr(make, "load", load)
    save_file(
        kohya("lora_unet_", pairs(random_pipe.weights.unet, LAYERS)), tmp_path / "a b.safetensors"
    )
    return "a b.safetensors"


def test_a_lora_from_the_command_line_and_back(run, lora, capsys, tmp_path):
    same = ("a ball", "--seed", 3, "--frames", 2, "--steps", 2)
    status, _, err = run(*same, "--lora", f"{lora}:0.5", "--lora", lora, "-o", "a.gif")
    assert status == 0
    assert err.splitlines() == [
        f"zs2: {lora}:{weight}: a LoRA, applied: 3 LoRA in the UNet" for weight in (0.5, 1.0)
    ]
    settings = media.read_settings(tmp_path / "a.gif")
    assert settings["lora"] == [f"{lora}:0.5", f"{lora}:1.0"]
    inspect.main(["a.gif"])
    command = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "zs2.sample"]
    assert [w for w in words if "lora" in w] == [f"--lora={lora}:0.5", f"--lora={lora}:1.0"]
    assert run(*words[3:])[0] == 0
    first, again = (read_frames(tmp_path / name) for name in ("a.gif", "a-again.gif"))
    assert first.equal(again)
    run(*same, "--lora", f"{lora}:0", "-o", "zero.gif")
    run(*same, "-o", "plain.gif")
    zero, plain = (read_frames(tmp_path / name) for name in ("zero.gif", "plain.gif"))
    assert zero.equal(plain)
    assert not first.equal(plain)


@pytest.mark.parametrize(
    "argument", ["absent.safetensors", "a b.safetensors:200", "a b.safetensors:x"]
)
def test_wrong_loras_are_refused_before_the_model_is_loaded(run, lora, monkeypatch, argument):
    monkeypatch.setattr(make, "load", None)
    status, out, err = run("a ball", "--lora", argument)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert argument.split(":")[0] in err
