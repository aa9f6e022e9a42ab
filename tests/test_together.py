"""Everything at once: SDXL, a LoRA, a ControlNet, edges, a loop and chunks, in one command."""

import shlex
from pathlib import Path

import pytest
import torch
from loras import kohya, pairs
from safetensors.torch import save_file
from test_control_command import save_net
from test_shots_control import control_net

import zs2
from zs2 import media, sample
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.checkpoint.lora import LoRA
from zs2.cli.describe_clip import describe_clip
from zs2.noise_loop import LoopNoise
from zs2.shots.control import Control
from zs2.stream import Stream

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
PICTURES = torch.randint(0, 256, (5, 16, 16, 3), generator=torch.manual_seed(0)).byte()


@pytest.fixture(scope="module")
def parts(written_xl, tmp_path_factory) -> Path:
    """A folder with the LoRA, the net and the pictures."""
    path = tmp_path_factory.mktemp("parts")
    pipe = zs2.load(written_xl, device="cpu", dtype="fp32")
    save_file(kohya("lora_unet_", pairs(pipe.weights.unet, [LAYER])), path / "lora.safetensors")
    save_net(path / "net", control_net(pipe, 5))
    media.save(path / "maps.png", PICTURES, 5, {})
    return path


def command(written_xl, parts) -> list[str]:
    told = ["a ball", "-m", written_xl, "--device", "cpu", "--dtype", "fp32"]
    told += ["--lora", f"{parts / 'lora.safetensors'}:0.7"]
    told += ["--control", parts / "net", parts / "maps", "--control-span", 0, 0.6]
    told += ["--canny", "50,100", "--loop", "--chunk", 2, "--steps", 3, "--seed", 4, "--size", 16]
    return [str(word) for word in told]


def frames(path: Path) -> torch.Tensor:
    return media.read_frames(path).int()


def test_they_compose_and_are_made_again(written_xl, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = command(written_xl, parts)
    assert sample.main([*told, "-o", "all.png"]) == 0
    made = frames(tmp_path / "all")
    *_, line = describe_clip(tmp_path / "all")
    assert sample.main(shlex.split(line)[3:]) == 0
    # What is loaded again lies elsewhere in memory, and sums depend on that.
    assert (frames(tmp_path / "all-again") - made).abs().max() <= 1

    # From Python, in another order: the same clip but for rounding.
    lora = LoRA(f"{parts / 'lora.safetensors'}:0.7")
    pipe = zs2.load(written_xl, device="cpu", dtype="fp32", adapters=[lora])
    control = Control(
        load_control(parts / "net", pipe.weights), canny(PICTURES, 50, 100), 1.0, (0, 0.6)
    )
    clip = pipe(
        "a ball",
        frames=5,
        steps=3,
        seed=4,
        size=16,
        noise=LoopNoise(),
        features=[control],
        order=Stream(chunk=2),
    )
    assert (clip.frames.int() - made).abs().max() <= 1


@pytest.mark.parametrize("without", ["--lora", "--control", "--loop"])
def test_each_has_its_part_in_it(written_xl, parts, tmp_path, monkeypatch, without):
    monkeypatch.chdir(tmp_path)
    told = command(written_xl, parts)
    assert sample.main([*told, "-o", "all.png"]) == 0
    at = told.index(without)
    gone = {"--lora": 2, "--control": 8, "--loop": 1}[without]
    fewer = [*told[:at], *told[at + gone :]]
    assert sample.main([*fewer, "--frames", "5", "-o", "fewer.png"]) == 0
    assert not frames(tmp_path / "fewer").equal(frames(tmp_path / "all"))
