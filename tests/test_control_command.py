"""--control on the command line: read, counted, refused, stored and made again."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_shots_control import control_net

from zs2 import media
from zs2.canny import canny
from zs2.cli import control, inputs
from zs2.cli.describe_clip import describe_clip
from zs2.cli.options import build_parser
from zs2.shots.control import Control

DATA = next(filter(Path.is_dir, (p / "shared/data" for p in Path(__file__).parents)), None)
PICTURES = torch.randint(0, 256, (3, 16, 16, 3), generator=torch.manual_seed(0)).byte()


def save_net(folder: Path, net) -> Path:
    """A ControlNet's folder, as diffusers writes it."""
    folder.mkdir()
    unet = ("out_channels", "sample_size", "up_block_types")
    values = {k: v for k, v in asdict(net.config).items() if k not in unet}
    (folder / "config.json").write_text(json.dumps(values))
    save_file(net.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture
def net(random_pipe, tmp_path):
    net = control_net(random_pipe, 5)
    save_net(tmp_path / "net", net)
    media.save(tmp_path / "maps.gif", PICTURES, 5, {})
    return net


def alike(frames: torch.Tensor, others: torch.Tensor) -> bool:
    """The same but for rounding: a net that was read lies in memory in another order."""
    return bool((frames.int() - others.int()).abs().max() <= 1)


QUICK = ("--steps", 2, "--seed", 3)


def test_a_video_of_maps_says_how_many_frames_and_how_fast(run, net, tmp_path, random_pipe):
    status, _, err = run("a ball", "--control", "net", "maps.gif", "-o", "out.gif", *QUICK)
    assert (status, err) == (0, "")
    made, fps = media.read_clip(tmp_path / "out.gif")
    assert (len(made), fps) == (3, pytest.approx(5))
    maps = media.read_frames(tmp_path / "maps.gif")
    run("a ball", "--control", "net", "maps.gif", "-o", "out.png", *QUICK)
    expected = random_pipe("a ball", frames=3, steps=2, seed=3, features=[Control(net, maps)])
    assert alike(media.read_frames(tmp_path / "out"), expected.frames)
    plain = random_pipe("a ball", frames=3, steps=2, seed=3)
    assert not alike(plain.frames, expected.frames)


def test_a_clip_is_made_again_from_what_it_stores(run, net, tmp_path, random_pipe):
    media.save(tmp_path / "one.png", PICTURES[:1], 8, {})
    told = ["--control", "net", "maps.gif", "--control", "net", "one.png"]
    told += ["--control-weight", "0:(0.2), 2:(1)", "--control-weight", "0.5"]
    told += ["--control-span", 0.5, 1, "--canny", "no", "--canny", "50,120.5"]
    status, _, err = run("a ball", *told, "-o", "out.png", *QUICK)
    assert (status, err) == (0, "")
    settings = media.read_settings(tmp_path / "out")
    assert settings["control"] == [["net", "maps.gif"], ["net", "one.png"]]
    *_, line = describe_clip(tmp_path / "out")
    words = shlex.split(line)[3:]
    assert "--canny=50,120.5" in words
    assert run(*words)[0] == 0
    again = media.read_frames(tmp_path / "out-again")
    assert alike(again, media.read_frames(tmp_path / "out"))
    maps = media.read_frames(tmp_path / "maps.gif")
    edges = canny(PICTURES[:1], 50, 120.5)
    features = [
        Control(net, maps, (0.2, 0.6, 1.0), (0.5, 1.0)),
        Control(net, edges, 0.5, (0.5, 1.0)),
    ]
    expected = random_pipe("a ball", frames=3, steps=2, seed=3, features=features)
    assert alike(again, expected.frames)


def args(*argv):
    return build_parser().parse_args(["a ball", *map(str, argv)])


def test_once_for_all_or_once_for_each(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two = ["--control", "net", "maps.gif"] * 2
    usual, same = control.asked(args(*two))
    assert (usual.weight, usual.span, usual.edges) == (1.0, (0.0, 1.0), None)
    assert same.weight == 1.0
    all_of_them = control.asked(args(*two, "--control-weight", 0.5, "--canny", "100,200"))
    assert [one.weight for one in all_of_them] == [0.5, 0.5]
    assert [one.edges for one in all_of_them] == [(100, 200)] * 2
    spans = ["--control-span", 0, 0.5, "--control-span", 0.5, 1]
    each = control.asked(args(*two, *spans, "--control-weight", 1, "--control-weight", "1,2,3"))
    assert [one.span for one in each] == [(0.0, 0.5), (0.5, 1.0)]
    assert [one.weight for one in each] == [1.0, (1.0, 2.0, 3.0)]


def test_a_video_leads_and_init_before_it(run, net, tmp_path):
    """The count and rate are the first video's, however many pictures are held before it."""
    media.save(tmp_path / "one.png", PICTURES[:1], 8, {})
    pictures = ["--control", "net", "one.png"]
    videos = ["--control", "net", "maps.gif"]
    run("a ball", *pictures, *videos, "-o", "a.gif", *QUICK)
    assert media.read_clip(tmp_path / "a.gif")[0].shape[0] == 3
    run("a ball", *pictures, "-o", "b.gif", *QUICK)
    assert media.read_clip(tmp_path / "b.gif")[0].shape[0] == 8
    media.save(tmp_path / "in.gif", PICTURES[:2], 2, {})
    _, _, err = run("a ball", "--init", "in.gif", *videos, "-o", "c.gif", *QUICK)
    assert "maps.gif has 3 frames: its first 2 are taken" in err
    assert media.read_clip(tmp_path / "c.gif")[1] == 2


def test_a_net_that_is_asked_for_twice_is_loaded_once(net, tmp_path, monkeypatch, random_pipe):
    monkeypatch.chdir(tmp_path)
    asked = control.asked(args(*["--control", "net", "maps.gif"] * 2))
    nets = control.load(asked, random_pipe)
    assert [*nets] == ["net"]
    one, two = control.features(asked, nets, 3, (16, 16))
    assert one.net is two.net


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["--control-span", 0, 1] * 3, "3 spans for 2 controls: give --control-span once for all"),
        (["--control-weight", 1] * 3, "3 weights for 2 controls"),
        (["--canny", "1,2"] * 3, "3 pairs of thresholds for 2 controls: give --canny once"),
        (["--control-weight", 11], r"the weight of a control must lie in 0..10, got 11"),
        (["--control-weight", "much"], "'much' is neither a number"),
        (["--control-weight", "1,2"], "has 2 values for 3 frames"),
        (["--control-span", 0.5, 0.2], "the first below the second, not 0.5 0.2"),
        (["--canny", "200,100"], "the lower one first, got 200.0,100.0"),
        (["--canny", "100"], "--canny takes two numbers as 100,200, not '100'"),
    ],
)
def test_wrong_values_are_refused_before_a_model_is_loaded(run, net, monkeypatch, told, words):
    monkeypatch.setattr("zs2.cli.make.load", lambda *_, **__: pytest.fail("loaded"))
    status, out, err = run("a", *["--control", "net", "maps.gif"] * 2, *told, *QUICK)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["--control", "net", "none.gif"], "none.gif does not exist"),
        (["--control", "net", "empty"], "empty holds no frames"),
        (["--control", "none", "maps.gif"], "none does not exist"),
        (["--control", "lora.safetensors", "maps.gif"], "not a ControlNet or T2I-Adapter"),
        (["--control-weight", "1"], "--control-weight has no use without --control"),
        (["--control-span", "0", "1"], "--control-span has no use without --control"),
        (["--canny", "1,2"], "--canny has no use without --control"),
    ],
)
def test_wrong_files_are_refused_before_a_model_is_loaded(
    run, net, tmp_path, monkeypatch, told, words
):
    monkeypatch.setattr("zs2.cli.make.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "empty").mkdir()
    lora = {"lora_unet_conv_in.lora_down.weight": torch.ones(1, 4, 3, 3)}
    save_file(lora, tmp_path / "lora.safetensors")
    status, out, err = run("a", *told, *QUICK)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_net_for_another_model_is_refused(run, net, tmp_path, random_pipe):
    save_net(tmp_path / "eight", control_net(random_pipe, 5, cross_attention_dim=16))
    status, _, err = run("a", "--control", "eight", "maps.gif", *QUICK)
    assert status == 2
    assert "is for another kind of model" in err


@pytest.mark.skipif(DATA is None, reason="the real clips are not here")
@pytest.mark.parametrize("name", ["depth", "edges", "pose"])
def test_the_real_clips(run, net, tmp_path, name):
    path = DATA / f"clips/control-{name}.gif"
    given, fps = media.read_clip(path)
    canny_too = ["--canny", "100,200"] if name == "depth" else []
    told = ["--control", "net", path, *canny_too, "--steps", 1, "--chunk", 4]
    status, _, err = run("a ball", *told, "-o", "out.mp4")
    assert status == 0
    made, rate = media.read_clip(tmp_path / "out.mp4")
    assert (len(made), rate) == (len(given), pytest.approx(fps))
    height, width = given.shape[1:3]
    assert made.shape[2] / made.shape[1] == pytest.approx(width / height, rel=0.13)  # 16 pixels
    size = f"{made.shape[2]}x{made.shape[1]}"
    assert f"is {width}x{height}: scaled and cropped to {size}" in err


def test_edges_are_found_at_the_clips_size(net, tmp_path, monkeypatch, random_pipe):
    monkeypatch.chdir(tmp_path)
    media.save(
        tmp_path / "large.png", PICTURES[:1].repeat_interleave(4, 1).repeat_interleave(4, 2), 8, {}
    )
    asked = control.asked(args("--control", "net", "large.png", "--canny", "100,200"))
    [made] = control.features(asked, control.load(asked, random_pipe), 3, (16, 16))
    assert made.frames.equal(canny(inputs.fitted(asked[0].source, 3, (16, 16)), 100, 200))
    assert {*made.frames.unique().tolist()} == {0, 255}
