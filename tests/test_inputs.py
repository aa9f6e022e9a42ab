"""Pictures and videos on the command line: read, fitted with a message, or refused."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from zs2 import media
from zs2.cli import inputs, make, request
from zs2.cli.options import build_parser
from zs2.denoise import Whole
from zs2.shots.edit import Edit
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel


def args(*argv):
    return build_parser().parse_args(["a ball", *map(str, argv)])


def frames(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def test_a_video_says_how_many_frames_and_how_fast(run, tmp_path):
    media.save(tmp_path / "in.gif", frames(5, 16, 16), 5, {})
    status, _, err = run("a ball", "--init", "in.gif", "-o", "out.gif", "--steps", 2)
    assert (status, err) == (0, "")
    made, fps = media.read_clip(tmp_path / "out.gif")
    assert (made.shape, fps) == ((5, 16, 16, 3), 5)
    settings = media.read_settings(tmp_path / "out.gif")
    assert (settings["init"], settings["frames"]) == ("in.gif", 5)


@pytest.mark.parametrize(
    ("size", "said"),
    [("128x128", False), ("160x96", True), ("192x192", True), ("64x64", True)],
)
def test_the_small_model_warns_of_sizes_that_are_not_its_own(capsys, size, said):
    defaults = SimpleNamespace(words=("ball",), size=128)
    pipe = SimpleNamespace(weights=SimpleNamespace(defaults=defaults), multiple=16)
    inputs.clip_size(args("--size", size), None, pipe)
    assert ("was trained at 128x128" in capsys.readouterr().err) == said
    pipe.weights.defaults = SimpleNamespace(words=(), size=128)
    inputs.clip_size(args("--size", size), None, pipe)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "count", "said"),
    [(3, 5, "in.gif has 3 frames: its last one is held to 5"), (5, 2, "its first 2 are taken")],
)
def test_another_number_of_frames_is_said(run, tmp_path, given, count, said):
    media.save(tmp_path / "in.gif", frames(given, 16, 16), 8, {})
    status, _, err = run("a", "--init", "in.gif", "--frames", count, "-o", "out.gif", "--steps", 2)
    assert status == 0
    assert said in err
    assert len(media.read_frames(tmp_path / "out.gif")) == count


def test_a_picture_is_held_and_its_shape_is_kept(run, tmp_path):
    Image.new("RGB", (64, 16), "red").save(tmp_path / "wide.png")
    status, _, err = run("a ball", "--init", "wide.png", "-o", "out.gif", "--steps", 2)
    assert status == 0
    assert "wide.png is 64x16: scaled and cropped to 32x8" in err
    assert media.read_frames(tmp_path / "out.gif").shape == (8, 8, 32, 3)


def test_the_middle_is_kept_when_a_side_is_cut():
    picture = torch.zeros(1, 8, 24, 3, dtype=torch.uint8)
    picture[:, :, 8:16] = 200
    assert inputs.covering(picture, 8, 8).float().mean() > 190
    assert inputs.covering(picture, 16, 16).shape == (1, 16, 16, 3)
    assert inputs.covering(picture, 24, 8).equal(picture)


def test_a_mask_says_what_may_change(run, random_pipe, tmp_path):
    media.save(tmp_path / "in.webp", frames(3, 16, 16), 8, {})
    half = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    half[:, :, 8:] = 255
    media.save(tmp_path / "mask.png", half, 8, {})
    found = inputs.mask(inputs.read(tmp_path / "mask.png"), 3, (16, 16))
    assert found.shape == (1, 16, 16)
    assert (found[..., :8].max(), found[..., 8:].min()) == (0, 1)
    options = ("a", "--init", "in.webp", "--strength", 1, "--steps", 3, "--seed", 1, "-o")
    media.save(tmp_path / "black.png", torch.zeros_like(half), 8, {})
    media.save(tmp_path / "white.png", torch.full_like(half, 255), 8, {})
    assert run(*options, "all.webp")[0] == 0
    assert run(*options, "white.webp", "--mask", "white.png")[0] == 0
    assert run(*options, "black.webp", "--mask", "black.png")[0] == 0
    read = {n: media.read_frames(tmp_path / f"{n}.webp").int() for n in ("in", "all", "white")}
    assert (read["white"] - read["all"]).abs().max() <= 1  # a rounding apart
    kept = random_pipe.decode(random_pipe.picture(read["in"].byte()))
    assert media.read_frames(tmp_path / "black.webp").equal(kept)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--init", "absent.gif"], "absent.gif does not exist"),
        (["--init", "in.gif", "--edit", "in.gif"], "leave one out"),
        (["--mask", "in.gif"], "--mask has no use without --init"),
        (["--invert"], "--invert has no use without --init"),
        (["--mask-strength", "0.1"], "--mask-strength has no use without --mask"),
        (
            ["--init", "in.gif", "--mask", "in.gif", "--mask-strength", "0.6"],
            "--mask-strength must lie in 0..1 below --strength, which is 0.6",
        ),
        (["--strength", "0.5"], "--strength has no use without --init"),
        (["--image-cfg", "2"], "--image-cfg has no use without --edit"),
        (["--init", "in.gif", "--strength", "2"], "strength must lie in 0..1"),
        (["--init", "in.gif", "--strength", "0.1"], "leaves none of 4 steps"),
        (["--edit", "in.gif"], "only Instruct-Pix2Pix models"),
        (["--prompt-at", "x", "b"], "--prompt-at takes a frame"),
        (["--prompt-at", "1", "b", "--prompt-at", "1", "c"], "--prompt-at takes a frame"),
        (["--prompt-at", "8", "b"], "--prompt-at 8 lies behind the last of 8 frames"),
        (["--seed", str(2**63 - 1), "--count", "2"], "--seed must lie in"),
        (["--loop", "--inertia", "0.5"], "--inertia has no use with --loop"),
        (["--method", "ddim", "--lam", "0.1"], "--lam has no use with --method ddim"),
        (["--method", "ddim", "--mu", "0"], "--mu has no use with --method ddim"),
        (["--method", "text2video-zero", "--sampler", "euler-a"], "samples with ddim"),
        (["--loop", "--noise", "independent"], "--loop has no use with --noise independent"),
        (["--loop", "--method", "ddim"], "--loop has no use with --method ddim"),
        (["--loop", "--lam", "0:(0.1), 3:(0.2)"], "a loop has one lam"),
        (["--cfg", "1,1,1,1,1,1,1,1", "-n", "blur"], "--negative has no use"),
        (["--sheet", "in.gif"], "in.gif exists already"),
        (["--sheet", "s.png", "--preview", "s.png"], "names of their own"),
        (["--skip-existing", "--overwrite"], "say the opposite"),
        (["--compile", "--graph"], "leave one of the two out"),
        (["--count", "0"], "--count must be at least 1"),
        (["--sheet", "sheet.pdf"], "sheet.pdf has no known suffix"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, tmp_path, argv, named):
    media.save(tmp_path / "in.gif", frames(8, 16, 16), 8, {})
    status, out, err = run("a ball", "-o", "out.gif", *argv)
    assert status == 2
    assert out == ""
    assert err.startswith("zs2: ")
    assert err.count("\n") == 1
    assert named in err
    assert not (tmp_path / "out.gif").exists()


def test_what_is_given_becomes_features_in_their_order():
    picture, mask = frames(1, 16, 16), torch.ones(1, 16, 16)

    def made(*argv):
        return [type(f) for f in request.features(args(*argv), picture, mask)]

    assert made("--init", "a.png", "--mask", "m.png") == [Init, Mask]
    assert made("--init", "a.png", "--invert", "--prompt-at", "1", "b") == [Invert, Mask, Travel]
    assert made("--init", "a.png", "--method", "ddim") == [FrameByFrame, Init, Mask]
    assert made("--init", "a.png", "--method", "text2video-zero") == [Init, Mask, Text2VideoZero]
    assert made("--edit", "a.png") == [Edit]
    strength = request.features(args("--init", "a.png", "--strength", "0.3"), picture, None)
    assert strength[0].strength == 0.3
    (walk,) = request.features(args("--init", "a.png", "--invert"), picture, None, order=Whole(2))
    assert walk.order == Whole(2)
    assert request.features(args("--edit", "a.png", "--image-cfg", "2"), picture, None)[0] == Edit(
        picture, 2.0
    )


@pytest.mark.parametrize("argv", [["--mask", "in.gif"], ["--init", "in.gif", "--mask", "no.png"]])
def test_a_mask_is_looked_at_before_a_model_is_loaded(run, tmp_path, monkeypatch, argv):
    media.save(tmp_path / "in.gif", frames(2, 16, 16), 8, {})
    monkeypatch.setattr(make, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert run("a", "-o", "a.gif", *argv)[0] == 2
