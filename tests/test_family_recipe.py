"""The recipe of what goes with the small model: what it teaches, and what it writes."""

import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

import zs2
from weights.recipe import family, scenes, train
from weights.recipe.export import write
from weights.recipe.judge import VALUES, Judge, truths
from weights.recipe.scenes import Scene
from zs2.checkpoint.control import load_control
from zs2.checkpoint.esrgan import load_esrgan
from zs2.checkpoint.lora import LoRA
from zs2.models.vae import VAE
from zs2.weights import SMALL

CPU = torch.device("cpu")


def test_an_edit_changes_the_one_attribute_that_it_names():
    scene = Scene("a", "", "orange", "ball", "at night")
    generator = torch.Generator().manual_seed(0)
    drawn = [family.edit(scene, generator) for _ in range(500)]
    for other, said in drawn:
        changed = [n for n in scenes.ATTRIBUTES if getattr(other, n) != getattr(scene, n)]
        assert len(changed) == 1, said
        assert not other.held_out
    said = {words for _, words in drawn}
    assert {"make it two", "make it big", "make it blue", "make it a star"} <= said
    assert {"make it sunset", "make it grass"} <= said
    assert not said & {
        "make it one",
        "make it ",
        "make it orange",
        "make it night",
        "make it a ball",
    }


def test_pictures_of_an_edit_differ_where_it_says_so():
    before = Scene("two", "big", "red", "ball", "at night")
    after = Scene("two", "big", "blue", "ball", "at night")
    a, b = scenes.draw([before, after], [5, 5], 64)
    same = (a - b).abs().amax(0) < 1e-6
    assert 0.3 < same.float().mean() < 0.9  # the night stays as it is


def test_a_judge_names_each_attribute_and_is_read_again(tmp_path):
    """What it has learnt is told by `judge train`; here that shapes, truths and files fit."""
    torch.manual_seed(0)
    judge, said = Judge().eval(), scenes.sample(5, seed=1)
    pictures = scenes.draw(said, range(5), 64)  # of any size
    right = judge.right(pictures, said)
    assert {name: found.shape for name, found in right.items()} == dict.fromkeys(VALUES, (5,))
    save_file({k: v.half() for k, v in judge.state_dict().items()}, tmp_path / "judge.safetensors")
    again = Judge.load(tmp_path / "judge.safetensors")
    with torch.inference_mode():
        x = torch.rand(2, 3, 128, 128)
        ours, theirs = judge(x), again(x)
    for name, values in VALUES.items():
        assert ours[name].shape == (2, len(values))
        # As rounded to fp16.
        torch.testing.assert_close(theirs[name], ours[name], rtol=0.02, atol=0.02)
    assert truths([Scene("two", "", "red", "fish", "at night")])["count"].tolist() == [1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The shipped model with a VAE of an eighth: its numbers mean nothing."""
    path = tmp_path_factory.mktemp("family") / "model"
    shutil.copytree(SMALL, path)
    torch.manual_seed(0)
    described = {"_class_name": "AutoencoderKL", **asdict(train.VAE_CONFIG)}
    vae = VAE(train.VAE_CONFIG).state_dict()
    write(path / "vae", "diffusion_pytorch_model.safetensors", vae, described)
    return path


@pytest.fixture
def made(model, tmp_path, monkeypatch):
    """Two steps of a training on few scenes; the folder that it wrote to."""

    def sample(n, seed, held_out=False):
        return few(min(n, 64), seed, held_out)

    few = scenes.sample
    monkeypatch.setattr(scenes, "sample", sample)
    monkeypatch.setattr(family, "PAIRS", 64)
    monkeypatch.setattr(scenes, "COLOURS", dict(scenes.COLOURS))
    monkeypatch.setattr(family, "STEPS", dict.fromkeys(family.STEPS, 2))

    def run(name):
        weights = zs2.load(model, device="cpu", dtype="fp32").weights
        out = tmp_path / "out"
        out.mkdir()
        (tmp_path / "work").mkdir()
        family.TRAIN[name](tmp_path / "work", weights, out)
        return out

    return run


@pytest.mark.slow
def test_edges_are_a_controlnet_that_fits(made, model):
    path = made("edges") / "edges"
    net = load_control(path, zs2.load(model, device="cpu", dtype="fp32").weights)
    assert net.controlnet_down_blocks[0].weight.abs().max() > 0


@pytest.mark.slow
def test_the_editor_is_a_model_that_edits(made):
    pipe = zs2.load(made("editor") / "editor", device="cpu", dtype="fp32")
    assert pipe.weights.unet.config.in_channels == 8


@pytest.mark.slow
def test_the_lora_is_read_in_both_forms(made, model):
    out = made("lora") / "lora"
    kinds = []
    for path in (out, out / "teal.safetensors"):
        pipe = zs2.load(model, device="cpu", dtype="fp32", adapters=[LoRA(path)])
        kinds.append(pipe.weights.unet.state_dict())
    assert all(a.equal(b) for a, b in zip(kinds[0].values(), kinds[1].values(), strict=True))
    plain = zs2.load(model, device="cpu", dtype="fp32").weights.unet.state_dict()
    assert any(not plain[k].equal(kinds[0][k]) for k in plain)


@pytest.mark.slow
def test_the_upscaler_enlarges_by_4(made):
    path = made("upscaler") / "upscaler.safetensors"
    assert path.stat().st_size < 1_000_000
    net = load_esrgan(path, CPU, torch.float32)
    assert net(torch.rand(1, 3, 8, 9)).shape == (1, 3, 32, 36)
