"""A picture as a prompt, and another VAE: from the command to the one that makes it again."""

import shlex

import pytest
import torch
from pictures import write_adapter, write_encoder
from safetensors.torch import save_file

from zs2 import inspect, media, sample
from zs2.checkpoint.ip_adapter import load_ip_adapter
from zs2.shots.image_prompt import ImagePrompt


@pytest.fixture
def given(tmp_path, random_pipe) -> list[str]:
    """The options of a small adapter, whose encoder lies elsewhere, and a picture."""
    path = write_adapter(tmp_path / "ip.safetensors", "plus", random_pipe.weights.unet)
    encoder = write_encoder(tmp_path / "elsewhere")
    frames = torch.randint(256, (1, 40, 48, 3), generator=torch.Generator().manual_seed(1)).byte()
    media.save(tmp_path / "look.png", frames, 1, {})
    picture = str(tmp_path / "look.png")
    return ["--ip-adapter", str(path), "--image", picture, "--image-encoder", str(encoder)]


def again(path, capsys) -> list[str]:
    """The words of the command that `inspect` prints, without the program's name."""
    assert inspect.main([str(path)]) == 0
    return shlex.split(capsys.readouterr().out.splitlines()[-1])[3:]


def test_the_picture_is_seen_and_told(run, given, random_pipe, tmp_path, capsys):
    status, _, err = run(
        "a ball", "--frames", 2, "--seed", 1, *given, "--image-weight", 0.6, "-o", "x.png"
    )
    assert status == 0, err
    adapter, encoder = load_ip_adapter(given[1], random_pipe.weights.unet, given[5])
    (picture,) = media.read_frames(tmp_path / "look.png")
    feature = ImagePrompt(adapter, encoder, picture, 0.6)
    made = media.read_frames(tmp_path / "x")
    assert made.equal(random_pipe("a ball", frames=2, seed=1, features=[feature]).frames)
    assert not made.equal(random_pipe("a ball", frames=2, seed=1).frames)
    settings = media.read_settings(tmp_path / "x")
    assert [settings[key[2:]] for key in given[::2]] == given[1::2]
    assert settings["image-weight"] == 0.6
    assert run(*again(tmp_path / "x", capsys))[0] == 0
    assert media.read_frames(tmp_path / "x-again").equal(made)


def test_the_usual_weight_is_told_too(run, given, tmp_path):
    assert run("a ball", "--frames", 1, "--seed", 1, *given, "-o", "x.png")[0] == 0
    assert media.read_settings(tmp_path / "x.png")["image-weight"] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image", "x.png"], "--image has no use without --ip-adapter"),
        (["--ip-adapter", "x"], "--ip-adapter has no use without --image"),
        (["--image-weight", "0"], "--image-weight has no use without --ip-adapter"),
        (["--image-encoder", "x"], "--image-encoder has no use without --ip-adapter"),
    ],
)
def test_what_has_no_use_alone(run, options, message):
    status, _, err = run("a ball", *options)
    assert (status, message in err) == (2, True)


def test_impossible_values_are_refused_before_the_model_is_loaded(
    run, given, tmp_path, monkeypatch
):
    monkeypatch.setattr("zs2.cli.make.load", lambda *_, **__: pytest.fail("a model was loaded"))
    for weight in ("-1", "11", "nan"):
        status, _, err = run("a ball", *given, f"--image-weight={weight}")
        assert (status, "image_weight must lie in 0..10" in err) == (2, True)
    status, _, err = run("a ball", *given[:2], "--image", tmp_path / "none.png")
    assert (status, "none.png does not exist" in err) == (2, True)
    save_file({"x.lora_down.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    status, _, err = run("a ball", *given[2:], "--ip-adapter", tmp_path / "lora.safetensors")
    assert (status, "is a LoRA, not an IP-Adapter" in err) == (2, True)
    status, _, err = run("a ball", "--vae", tmp_path / "lora.safetensors")
    assert (status, "is a LoRA, not a VAE" in err) == (2, True)


def test_another_vae(written, tmp_path, monkeypatch, capsys):
    """TAESD's real size does not fit the small model, so its folder is made to."""
    from diffusers import AutoencoderTiny

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    AutoencoderTiny(**widths, **blocks).save_pretrained(tmp_path / "tiny")
    said = ["a ball", "-m", str(written), "--frames", "1", "--steps", "2", "--seed", "1"]
    assert sample.main([*said, "-o", "usual.png"]) == 0
    assert sample.main([*said, "--vae", "tiny", "-o", "x.png"]) == 0
    capsys.readouterr()
    made = media.read_frames(tmp_path / "x.png")
    assert not made.equal(media.read_frames(tmp_path / "usual.png"))
    words = again(tmp_path / "x.png", capsys)
    assert "--vae=tiny" in words
    assert sample.main(words) == 0
    assert media.read_frames(tmp_path / "x-again.png").equal(made)
