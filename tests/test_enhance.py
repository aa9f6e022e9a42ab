"""`zs2 enhance`: a second pass of the clip's own model, or an upscaler for any clip."""

import shlex

import pytest
import torch
from safetensors.torch import save_file
from test_esrgan import COMPACT, random

from zs2 import enhance, media, sample
from zs2.cli.describe_clip import describe_clip
from zs2.models.esrgan import CompactNet, upscale
from zs2.shots.init import Init

FRAMES = torch.randint(256, (3, 12, 16, 3), generator=torch.Generator().manual_seed(1)).byte()
QUICK = ("a ball", "--frames", 3, "--steps", 4, "--seed", 3, "--lam", 0.02)


@pytest.fixture
def net(tmp_path):
    made = random(CompactNet(COMPACT))
    save_file(made.state_dict(), tmp_path / "net.safetensors")
    return made


def test_any_clip_is_enlarged_frame_by_frame(net, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    media.save(tmp_path / "a.webp", FRAMES, 5, {"prompt": "a ball", "frames": 3})
    assert enhance.main(["a.webp", "--esrgan", "net.safetensors", "--scale", "3"]) == 0
    assert "3 frames of 48x36, a-x3.webp" in capsys.readouterr().out
    made, fps = media.read_clip(tmp_path / "a-x3.webp")
    pictures = FRAMES.permute(0, 3, 1, 2) / 255
    expected = torch.stack([upscale(net, x) for x in pictures]).permute(0, 2, 3, 1) * 255
    assert (made.float() - expected).abs().max() <= 0.51  # rounded to whole numbers
    assert fps == pytest.approx(5)
    settings = media.read_settings(tmp_path / "a-x3.webp")
    assert (settings["prompt"], settings["scale"], settings["of"]) == ("a ball", 3, "a.webp")
    *_, line = describe_clip(tmp_path / "a-x3.webp")
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "zs2.enhance"]
    assert enhance.main(words[3:]) == 0
    assert media.read_frames(tmp_path / "a-x3-again.webp").equal(made)


def test_any_scale_by_a_last_resize(net, tmp_path):
    media.save(tmp_path / "a.png", FRAMES[:1], 8, {})
    told = [str(tmp_path / "a.png"), "--esrgan", str(tmp_path / "net.safetensors")]
    assert enhance.main([*told, "-o", str(tmp_path / "b.png")]) == 0
    assert media.read_frames(tmp_path / "b.png").shape == (1, 24, 32, 3)


def test_a_second_pass_starts_from_the_clip_at_its_new_size(run, tmp_path, random_pipe):
    assert run(*QUICK, "-o", "a.png")[0] == 0
    clip = media.read_frames(tmp_path / "a")
    assert enhance.main(["a", "-o", "b.png", "--strength", "0.5"]) == 0
    made = media.read_frames(tmp_path / "b")
    assert made.shape == (3, 32, 32, 3)
    from zs2.resize import covering

    expected = random_pipe(
        "a ball",
        frames=3,
        steps=4,
        seed=3,
        lam=0.02,
        size=32,
        features=[Init(covering(clip, 32, 32), 0.5)],
    )
    assert (made.int() - expected.frames.int()).abs().max() <= 1
    # and it can be made again
    *_, line = describe_clip(tmp_path / "b")
    assert sample.main(shlex.split(line)[3:]) == 0
    assert (media.read_frames(tmp_path / "b-again").int() - made.int()).abs().max() <= 1


def test_a_prompt_may_say_anything(run, tmp_path):
    """A control character and an apostrophe, which a shell's quotes write in their own way."""
    assert run("it's a\nball", *QUICK[1:], "-o", "a.webp")[0] == 0
    assert enhance.main(["a.webp"]) == 0
    assert media.read_settings(tmp_path / "a-x2.webp")["prompt"] == "it's a\nball"


def test_a_second_pass_of_frames_between_and_of_a_camera(run, tmp_path):
    given = ("--fps-mult", 2, "--camera", "x=0:(2.0), 2:(4.0) zoom=1.5")
    assert run(*QUICK, *given, "-o", "a.v2.png")[0] == 0
    assert enhance.main(["a.v2"]) == 0
    made = media.read_frames(tmp_path / "a.v2-x2")
    settings = media.read_settings(tmp_path / "a.v2-x2")
    assert made.shape == (5, 32, 32, 3)
    assert settings["frames"] == 5
    assert settings["camera"] == "x=0:(4.0), 2:(8.0) zoom=1.5"


def test_values_of_each_frame_are_of_the_frames_that_are_asked_for(run, tmp_path):
    assert run(*QUICK, "--cfg", "2,3,2", "--fps-mult", 2, "-o", "a.webp")[0] == 0
    assert len(media.read_frames(tmp_path / "a.webp")) == 5


def test_a_second_pass_of_what_was_masked(run, tmp_path):
    media.save(tmp_path / "in.png", FRAMES[:1, :, :12], 8, {})
    masked = ("--init", "in.png", "--mask", "in.png", "--mask-strength", 0.3)
    assert run(*QUICK, *masked, "-o", "a.webp")[0] == 0
    assert enhance.main(["a.webp"]) == 0


def test_too_little_memory_is_one_sentence(net, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zs2.models.esrgan.upscale", full)
    media.save(tmp_path / "a.gif", FRAMES, 5, {})
    assert enhance.main(["a.gif", "--esrgan", "net.safetensors"]) == 1
    assert "out of memory: free some" in capsys.readouterr().err
    assert not (tmp_path / "a-x2.gif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.gif", "--scale", "0"], "--scale must lie in 2..8, got 0"),
        (["a.gif", "--scale", "9"], "--scale must lie in 2..8, got 9"),
        (["a.gif"], "does not say how it was made: give --esrgan FILE"),
        (["none.gif"], "none.gif does not exist"),
        (["none.gif", "--esrgan", "net.safetensors"], "none.gif does not exist"),
        (
            ["a.gif", "--esrgan", "none.safetensors"],
            "none.safetensors cannot be read",
        ),
        (["a.gif", "--esrgan", "lora.safetensors"], "is a LoRA, not an ESRGAN upscaler"),
        (["a.gif", "--esrgan", "net.safetensors", "--strength", "1"], "the second pass's"),
        (["a.gif", "--esrgan", "net.safetensors", "-o", "a.gif"], "a.gif exists already"),
        (["a.gif", "--esrgan", "net.safetensors", "-o", "b.xyz"], "no known suffix"),
        (["own.gif"], "cannot be made again: its noise"),
        (["edited.gif"], "has no second pass"),
        (["large.gif"], "large.gif was enlarged: give a.gif, which it was made of"),
        (["large.gif", "--fps-mult", "2"], "large.gif was enlarged: give a.gif"),
        (["a.gif", "--device", "cpu"], "--device is the upscaler's"),
    ],
)
def test_wrong_words_are_one_sentence(net, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    media.save(tmp_path / "a.gif", FRAMES, 8, {})
    told = {"prompt": "a", "size": "16x16"}
    media.save(tmp_path / "own.gif", FRAMES, 8, {**told, "noise": "own"})
    media.save(tmp_path / "edited.gif", FRAMES, 8, {**told, "edit": "x.gif"})
    media.save(tmp_path / "large.gif", FRAMES, 8, {**told, "of": "a.gif", "esrgan": "n"})
    save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(2, 2)}, "lora.safetensors")
    before = {path.name for path in tmp_path.iterdir()}
    assert enhance.main(words) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert out.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_frames_between_leave_the_others_as_they_were(run, tmp_path, suffix):
    assert run(*QUICK, "-o", f"a{suffix}", "--fps", "6")[0] == 0
    name = "a" if suffix == ".png" else "a.webp"
    # A pixel as another machine may have rounded it.
    clip, settings = media.read_frames(tmp_path / name), media.read_settings(tmp_path / name)
    clip[1, 0, 0] ^= 1
    media.save(tmp_path / f"a{suffix}", clip, 6, settings, overwrite=True)
    assert enhance.main([name, "--fps-mult", "2"]) == 0
    made = media.read_frames(tmp_path / name.replace("a", "a-f2", 1))
    assert len(made) == 5
    assert made[::2].equal(clip)
    settings = media.read_settings(tmp_path / name.replace("a", "a-f2", 1))
    assert (settings["fps-mult"], settings["fps"], settings["frames"]) == (2, 12, 3)
    # Twice two is four: the second time, the frames between have frames between.
    assert enhance.main([name.replace("a", "a-f2", 1), "--fps-mult", "2", "-o", "b.webp"]) == 0
    four = media.read_frames(tmp_path / "b.webp")
    assert (four[::2].int() - made.int()).abs().max() <= 1
    assert run(*QUICK, "--fps-mult", "4", "-o", "c.webp")[0] == 0
    assert (media.read_frames(tmp_path / "c.webp").int() - four.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a.webp", "--fps-mult", "1"], "--fps-mult must lie in 2..8, got 1"),
        (["a.webp", "--fps-mult", "2", "--scale", "2"], "makes a clip smoother, and no more"),
        (["a.webp", "--fps-mult", "2", "--strength", "1"], "makes a clip smoother, and no more"),
        (["a.webp", "--fps-mult", "2", "--esrgan", "x"], "makes a clip smoother, and no more"),
        (["b.webp", "--fps-mult", "2"], "only clips of zs2's get frames between"),
    ],
)
def test_no_frames_between(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    media.save(tmp_path / "a.webp", FRAMES, 5, {"prompt": "a ball", "size": "8x8"})
    media.save(tmp_path / "b.webp", FRAMES, 5, {})
    assert enhance.main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
