"""What a file is, told from its header; how a clip was made, told from its metadata."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from folders import edit_json, refused
from headers import sparse
from safetensors.torch import save_file
from single_files import single_shapes

from zs2 import inspect, media
from zs2.checkpoint.family import PRESETS, Family
from zs2.checkpoint.names import PREFIX
from zs2.cli import request
from zs2.cli.options import TABLE, build_parser
from zs2.denoise import Whole
from zs2.device import DTYPES
from zs2.draws import RNG
from zs2.noise import NOISES
from zs2.samplers import SAMPLERS
from zs2.schedule import SPACINGS
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel
from zs2.weights import SMALL


def run_inspect(capsys, path):
    status = inspect.main([str(path)])
    out = capsys.readouterr()
    return status, out.out, out.err


@pytest.fixture(scope="module")
def sd15():
    """Names and shapes of an SD 1.5 single file."""
    return single_shapes(PRESETS[Family.SD1], Family.SD1)


def test_a_single_file(capsys, tmp_path, sd15):
    path = sparse(tmp_path / "sd.safetensors", {**sd15, "model_ema.decay": (1,)})
    status, out, _ = run_inspect(capsys, path)
    assert status == 0
    assert "an SD 1.x model, 1,066.2 M values, 2,132.5 MB, F16" in out
    assert out.count("complete") == 3
    assert "unet           859.5 M values" in out
    assert "vae            83.7 M values" in out
    assert "text_encoder   123.1 M values" in out
    assert "1 tensors that are not needed, as model_ema.decay" in out


def test_what_is_missing_and_left_over(capsys, tmp_path, sd15):
    shapes = dict(sd15)
    del shapes[PREFIX["unet"] + "out.2.bias"]
    shapes[PREFIX["vae"] + "surprise"] = (3,)
    _, out, _ = run_inspect(capsys, sparse(tmp_path / "sd.safetensors", shapes))
    assert "1 tensors missing, as conv_out.bias" in out
    assert "1 tensors too many, as first_stage_model.surprise" in out


def test_shapes_that_differ_are_told(capsys, tmp_path, sd15):
    name = PREFIX["unet"] + "out.2.weight"
    path = sparse(tmp_path / "sd.safetensors", {**sd15, name: (7, 320, 3, 3)})
    assert f"1 tensors of another shape, as {name}" in run_inspect(capsys, path)[1]
    name = PREFIX["unet"] + "input_blocks.0.0.weight"
    path = sparse(tmp_path / "in.safetensors", {**sd15, name: (320, 9, 3, 3)})
    assert "an inpainting model" in run_inspect(capsys, path)[1]
    assert "complete" not in run_inspect(capsys, path)[1]


def test_the_small_model(capsys):
    status, out, _ = run_inspect(capsys, SMALL)
    assert status == 0
    assert out.count("complete") == 3
    assert "prediction     epsilon" in out
    assert "missing" not in out


def test_other_kinds(capsys, tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, path)
    status, out, _ = run_inspect(capsys, path)
    assert status == 0
    assert "a LoRA, 16 values, 0.1 kB, F32" in out


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".mp4"])
def test_a_clip_gives_the_command_that_makes_it_again(capsys, tmp_path, random_pipe, suffix):
    prompt = '-it\'s "a" ball; $HOME'
    clip = random_pipe(
        prompt,
        frames=2,
        lam=[0, 0.5],
        seed=3,
        negative="a b",
        order=Whole(together=False),
        size=(24, 16),
    )
    path = clip.save(tmp_path / f"clip{suffix}", fps=5)
    status, out, _ = run_inspect(capsys, path)
    assert status == 0
    command = shlex.split(out.splitlines()[-1])
    assert command[:3] == ["python", "-m", "zs2.sample"]
    args = build_parser().parse_args(command[3:])
    assert request.prompts(args) == [prompt]
    assert (args.negative, args.seed, args.fps) == ("a b", 3, 5)
    assert args.output == path.with_name(f"clip-again{suffix}")
    assert (args.lam, args.size, args.split_guidance) == ((0, 0.5), (24, 16), True)


@pytest.mark.parametrize("prompt", ["", "--ball", "ball"])
def test_every_prompt_comes_back(capsys, tmp_path, random_pipe, prompt):
    clip = random_pipe(prompt, frames=1, seed=1, negative="blur", cfg=1)
    _, out, _ = run_inspect(capsys, clip.save(tmp_path / "a.png"))
    args = build_parser().parse_args(shlex.split(out.splitlines()[-1])[3:])
    request.check(args, frames=1)
    assert request.prompts(args) == [prompt]


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"attention_head_dim": 7}),
        ("unet", {"down_block_types": ["AttnDownBlock2D"] * 2}),
        ("unet", {"block_out_channels": [-96, 160]}),
        ("unet", {"norm_num_groups": 0}),
        ("text_encoder", {"num_attention_heads": 7}),
        ("text_encoder", {"vocab_size": -3}),
    ],
)
def test_a_network_that_cannot_be_is_said(capsys, folder, part, changes):
    edit_json(folder / part / "config.json", **changes)
    status, out, _ = run_inspect(capsys, folder)
    assert status == 0
    assert "not supported: " in out
    refused(folder, "configuration|tokens")


def test_lists_where_a_number_should_be_are_no_traceback(capsys, folder):
    edit_json(folder / "unet/config.json", cross_attention_dim=[32], in_channels=[4])
    status, out, _ = run_inspect(capsys, folder)
    assert status == 0
    assert "Stable Diffusion folder, a UNet with [4] input channels" in out


def test_nought_is_a_setting(capsys, tmp_path, random_pipe):
    clip = random_pipe("a", frames=2, lam=0.0, mu=0.0, cfg=0.0, seed=0)
    _, out, _ = run_inspect(capsys, clip.save(tmp_path / "a.gif"))
    args = build_parser().parse_args(shlex.split(out.splitlines()[-1])[3:])
    assert (args.lam, args.mu, args.cfg, args.seed) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "said",
    [
        ["--prompt-at", "1", "it's \x1b b", "--prompt-at", "2", "c"],
        ["--method", "ddim"],
        ["--method", "text2video-zero", "--schedule", "trailing"],
        ["--lam", "0:(0.01), 2:(0.1)", "--inertia", "0.9", "--cfg", "1,2,3"],
        ["--loop", "--lam", "0.2"],
        ["--init", "in.gif", "--strength", "0.5", "--mask", "in.gif"],
        ["--init", "in.gif", "--invert", "--sampler", "euler", "--rng", "cuda"],
        ["--embedding=-toy.safetensors:ball", "--embedding=b.safetensors", "--clip-skip", "1"],
        ["--prompt-weights", "comfy", "-n", "(b:1.3) [it's] BREAK"],
    ],
)
def test_what_was_said_makes_the_same_clip_again(run, tmp_path, capsys, said):
    media.save(tmp_path / "in.gif", torch.zeros(3, 16, 16, 3, dtype=torch.uint8), 8, {})
    for name in ("-toy", "b"):
        save_file({"emb_params": torch.ones(2, 32)}, f"{name}.safetensors")
    options = ["--frames", "3", "--steps", "4", "--seed", "5", "-o", "a.webp"]
    assert run("a ball", *said, *options)[0] == 0
    assert inspect.main(["a.webp"]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    # bash reads what is printed, escapes and all.
    words = ["bash", "-c", f"printf '%s\\0' {command}"]
    out = subprocess.run(words, capture_output=True, check=True).stdout
    argv = [word.decode() for word in out.split(b"\0")[:-1]]
    assert argv[:3] == ["python", "-m", "zs2.sample"]
    assert run(*argv[3:])[0] == 0
    first, again = (media.read_frames(tmp_path / f"{n}.webp") for n in ("a", "a-again"))
    assert first.equal(again)
    settings = [media.read_settings(tmp_path / f"{n}.webp") for n in ("a", "a-again")]
    assert settings[0] == settings[1]


def test_the_table_knows_what_there_is():
    words = {o.name: o.kind for o in TABLE if isinstance(o.kind, tuple)}
    assert words["sampler"] == tuple(SAMPLERS)
    assert words["schedule"] == tuple(SPACINGS)
    assert words["noise"] == tuple(NOISES)
    assert words["rng"] == get_args(RNG)
    assert words["dtype"] == ("auto", *DTYPES)


@pytest.mark.parametrize("kind", list(NOISES.values()))
def test_every_setting_is_an_option(random_pipe, kind):
    black, mask = torch.zeros(1, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 16, 16)
    every = [Init(black), Mask(black, mask), Travel({1: "b"})]
    for features in ([], every, [Invert(black)], [Text2VideoZero()], [FrameByFrame()]):
        clip = random_pipe("a", frames=2, noise=kind(), features=features)
        known = {o.name for o in TABLE if o.stored} | {"zs2", "prompt", "latents"}
        assert clip.settings.keys() <= known


def test_a_clip_of_a_program_of_ones_own_gets_no_command(capsys, tmp_path, random_pipe):
    black = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    for options in ({"features": [Init(black)]}, {"latents": torch.randn(2, 4, 8, 8)}):
        clip = random_pipe("a", frames=2, **options)
        _, out, _ = run_inspect(capsys, clip.save(tmp_path / "a.gif", overwrite=True))
        assert "no command makes it again" in out
        assert "python -m" not in out


def test_what_cannot_be_told_is_one_sentence(capsys, tmp_path):
    (tmp_path / "page.safetensors").write_text("<html>")
    (tmp_path / "empty").mkdir()
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "foreign.png")
    for name, message in {
        "absent": "does not exist",
        "page.safetensors": "web page",
        "empty": "neither a Stable Diffusion model nor a clip",
        "foreign.png": "no settings",
    }.items():
        status, out, err = run_inspect(capsys, tmp_path / name)
        assert status == 2
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


def test_frames_in_a_folder_are_a_clip(capsys, tmp_path, random_pipe):
    random_pipe("a ball", frames=2, seed=3).save(tmp_path / "clip.png")
    assert media.read_settings(tmp_path / "clip")["seed"] == 3
    assert "zs2.sample 'a ball'" in run_inspect(capsys, tmp_path / "clip")[1]


def test_nobody_needs_to_read_on():
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as nobody:
        code = f"import sys; from zs2.inspect import main; sys.exit(main([{str(SMALL)!r}]))"
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            stdout=nobody,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
