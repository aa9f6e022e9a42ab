"""The command line, from wrong words to written files; sampling itself is on random weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from zs2 import media, sample
from zs2.attention import FrameAttention
from zs2.cli import make, room, terminal
from zs2.denoise import Whole
from zs2.noise import DependencyNoise, LoopNoise, MixedNoise
from zs2.samplers import ddim, unipc
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel
from zs2.stream import Stream
from zs2.timeline import Keyframes

ROOT = Path(__file__).parents[1]


def test_a_clip_and_its_summary(run, tmp_path):
    status, out, _ = run("a ball", "--frames", 3, "--seed", 5, "-o", "ball.gif", "--lam", "0.2")
    assert status == 0
    assert out.count("\n") == 1
    for part in (
        "seed 5",
        "momentum active in 7 layers",
        "correlation",
        "motion",
        "flicker",
        "peak",
    ):
        assert part in out
    assert out.strip().endswith("ball.gif")
    assert media.read_frames(tmp_path / "ball.gif").shape == (3, 16, 16, 3)
    settings = media.read_settings(tmp_path / "ball.gif")
    assert (settings["prompt"], settings["seed"], settings["lam"]) == ("a ball", 5, 0.2)


def test_the_seed_that_was_drawn_makes_the_clip_again(run, tmp_path):
    run("a ball", "--frames", 2, "-o", "one.webp")
    seed = media.read_settings(tmp_path / "one.webp")["seed"]
    run("a ball", "--frames", 2, "-o", "two.webp", "--seed", seed)
    assert media.read_frames(tmp_path / "one.webp").equal(media.read_frames(tmp_path / "two.webp"))


def test_without_output_the_name_is_prompt_and_seed(run, tmp_path):
    assert run("A ball, on/the: grass!", "--frames", 1, "--seed", 5)[0] == 0
    assert (tmp_path / "a-ball-on-the-grass-5.png").is_file()


def test_frames_to_a_folder_of_png(run, tmp_path):
    assert run("a ball", "--frames", 3, "--seed", 5, "-o", "ball.png")[0] == 0
    assert sorted(p.name for p in (tmp_path / "ball").iterdir()) == [
        "0001.png",
        "0002.png",
        "0003.png",
    ]


def test_one_clip_for_each_line_of_a_prompts_file(run, tmp_path):
    # As a Windows editor saves it: a mark of the byte order comes first.
    (tmp_path / "prompts.txt").write_text("\ufeffa ball\n\n  two cubes \n", "utf-8")
    status, out, _ = run("--prompts-file", "prompts.txt", "-o", "x.gif", "--frames", 2, "--seed", 1)
    assert status == 0
    assert out.count("\n") == 2
    assert media.read_settings(tmp_path / "x-0001.gif")["prompt"] == "a ball"
    assert media.read_settings(tmp_path / "x-0002.gif")["prompt"] == "two cubes"


def test_prompts_that_repeat_do_not_collide(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a ball\na ball\n")
    assert run("--prompts-file", "prompts.txt", "--frames", 1, "--seed", 1)[0] == 0
    assert (tmp_path / "0002-a-ball-1.png").is_file()


def test_a_file_is_kept_unless_told(run, tmp_path):
    (tmp_path / "ball.gif").write_text("precious")
    status, _, err = run("a ball", "-o", "ball.gif")
    assert status == 2
    assert "--overwrite" in err
    assert (tmp_path / "ball.gif").read_text() == "precious"
    assert run("a ball", "-o", "ball.gif", "--overwrite", "--frames", 2)[0] == 0
    assert media.read_frames(tmp_path / "ball.gif").shape[0] == 2


def test_a_size_is_rounded_with_a_message(run, tmp_path):
    status, _, err = run("a ball", "--size", "17x24", "--frames", 1, "-o", "a.png")
    assert status == 0
    assert "17x24 rounded to 18x24" in err
    assert media.read_frames(tmp_path / "a.png").shape == (1, 24, 18, 3)


def test_values_for_each_frame(run, tmp_path):
    status, _, _ = run("a", "--frames", 3, "--lam", "0,0.1,inf", "--mu", "1,0,.5", "-o", "a.webp")
    assert status == 0
    assert media.read_settings(tmp_path / "a.webp")["mu"] == [1, 0, 0.5]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "PROMPT"),
        (["a", "--prompts-file", "x"], "PROMPT"),
        (["--prompts-file", "absent.txt"], "absent.txt"),
        (["a", "--frames", "0"], "--frames"),
        (["a", "--frames", "many"], "--frames"),
        (["a", "--lam", "-1"], "lam"),
        (["a", "--lam", "nan"], "lam"),
        (["a", "--lam", "0,1"], "2 values for 8 frames"),
        (["a", "--lam", "much"], "--lam"),
        (["a", "--mu", "1.1"], "mu"),
        (["a", "--mu", "0.1,0.2"], "2 values for 8 frames"),
        (["a", "--alpha", "0.5"], "alpha"),
        (["a", "--noise", "mixed", "--alpha", "2"], "alpha"),
        (["a", "--candidates", "0"], "candidates"),
        (["a", "--chunk", "0"], "chunk must be a whole number, at least 1"),
        (["a", "--steps", "0"], "--steps"),
        (["a", "--steps", "1001"], "steps must be a whole number, in 1..1000"),
        (["a", "--cfg", "nan"], "cfg must lie in"),
        (["a", "--fps", "0"], "fps"),
        (["a", "--frames", "1", "--fps", "0", "-o", "a.webp"], "fps of webp"),
        (["-p", "a", "b"], "either"),
        (["a", "--fps", "nan"], "fps"),
        (["a", "--fps", "0.001", "-o", "a.gif"], "fps"),
        (["a", "--fps", "51", "-o", "a.gif"], "fps of gif"),
        (["a", "--noise", "independent", "--lam", "0.5"], "--lam has no use"),
        (["a", "--noise", "mixed", "--candidates", "3"], "--candidates has no use"),
        (["a", "--lam", "0:(0.1), 0:(0.2)"], "two values"),
        (["a", "--cfg", "1e300"], "cfg must lie in"),
        (["a", "--cfg", "1", "-n", "blue"], "--negative has no use"),
        (["a", "red", "ball"], "quotes"),
        (["a", "--seed", "-1"], "--seed"),
        (["a", "--size", "0"], "--size"),
        (["a", "--size", "big"], "--size"),
        (["a", "--size", "99999999999"], "--size"),
        (["a", "-o", "a.avi"], ".avi"),
        (["a", "-o", "absent/a.gif"], "absent"),
        (["a", "--noise", "pink"], "--noise"),
        (["a", "--graph", "--device", "cpu"], "--graph needs a CUDA device, and this is cpu"),
        (["a", "--frobnicate"], "--frobnicate"),
    ],
)
def test_impossible_values_are_one_sentence(run, tmp_path, argv, named):
    status, out, err = run(*argv)
    assert status == 2
    assert out == ""
    assert err.startswith("zs2: ")
    assert err.count("\n") == 1
    assert named in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "named"),
    [("cuda:99", "cuda:99"), ("tpu", "tpu"), ("cpu:1", "cpu:1"), ("cpu:", "cpu:")],
)
def test_an_absent_device_is_one_sentence(device, named, capsys):
    assert sample.main(["a ball", "--device", device, "-o", "never.gif"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert named in err


@pytest.mark.parametrize(
    ("stop", "status"), [(KeyboardInterrupt(), 130), (OSError("disk full"), 1)]
)
def test_an_interrupted_run_leaves_nothing(run, tmp_path, monkeypatch, stop, status):
    def broken(*_):
        raise stop

    monkeypatch.setitem(media.WRITERS, ".gif", broken)
    code, _, err = run("a ball", "--frames", 2, "-o", "ball.gif")
    assert code == status
    assert err.strip().count("\n") == 0
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_one_sentence(run, tmp_path, random_pipe, monkeypatch):
    monkeypatch.setattr(random_pipe, "encode", lambda *_: torch.empty(1 << 50))
    status, out, err = run("a ball", "-o", "a.gif")
    assert status == 1
    assert not out
    assert err == (
        "zs2: out of memory: try a smaller --size, fewer frames at a time (--chunk 2), "
        "or --split-guidance\n"
    )
    assert not list(tmp_path.iterdir())


def test_every_option_arrives(run, random_pipe, monkeypatch, tmp_path):
    loaded, asked = {}, {}

    class Recorder:
        device, weights, multiple = random_pipe.device, random_pipe.weights, random_pipe.multiple
        dtype, latent_shape = random_pipe.dtype, random_pipe.latent_shape

        decode = staticmethod(random_pipe.decode)

        def shot(self, prompt, **options):
            asked.update(options, prompt=prompt)
            return random_pipe.shot(prompt, **options)

        def run(self, shot, order, progress):
            asked["order"] = order
            return random_pipe.run(shot, Whole())

    monkeypatch.setattr(
        make, "load", lambda model, **o: loaded.update(o, model=model) or Recorder()
    )
    monkeypatch.setattr(make, "pick_device", lambda _: torch.device("cuda"))
    status, _, err = run(
        *("a ball", "-m", "here", "--prediction", "v", "--tokenizer", "words", "--graph"),
        *("--dtype", "bf16", "--device", "cpu", "-n", "blur", "--size", "24x16", "--steps", 3),
        *("--cfg", 2.5, "--seed", 4, "--frames", 2, "--lam", 0.5, "--mu", "0,0.5"),
        *("--candidates", 3, "--chunk", 1, "--split-guidance"),
        *("-o", "a.gif", "--fps", 5),
    )
    assert (status, err) == (0, "")
    assert loaded == {
        "model": "here",
        "prediction": "v",
        "tokenizer": "words",
        "adapters": [],
        "compile": False,
        "dtype": "bf16",
        "device": "cpu",
    }
    expected = {
        "prompt": "a ball",
        "negative": "blur",
        "size": (24, 16),
        "steps": 3,
        "cfg": 2.5,
        "seed": 4,
        "frames": 2,
        "noise": DependencyNoise(0.5, candidates=3),
        "attention": FrameAttention((0, 0.5)),
        "order": Whole(chunk=1, together=False, graph=True),
        "sampler": ddim,
        "spacing": None,
        "rng": "zs2",
        "features": [],
    }
    assert asked == expected
    run("-p", "b", "--noise", "mixed", "--alpha", 0.5, "-o", "b.gif")
    assert (asked["prompt"], asked["noise"]) == ("b", MixedNoise(0.5))
    assert (asked["attention"], asked["order"]) == (None, Whole())
    run(
        *("c", "--sampler", "unipc", "--schedule", "karras", "--rng", "cuda", "--lambda", "0.2"),
        *("--inertia", "0:(0.5), 7:(1)", "--select", "paper", "--search", "iterative"),
        *("--prompt-at", 3, "d", "--steps", 4, "-o", "c.gif"),
    )
    assert (asked["sampler"], asked["spacing"], asked["rng"]) == (unipc, "karras", "cuda")
    inertia = Keyframes(((0, 0.5), (7, 1.0)))
    assert asked["noise"] == DependencyNoise(0.2, 10, "paper", "iterative", inertia)
    assert asked["features"] == [Travel({3: "d"})]
    run("d", "--loop", "--lam", 0.3, "--compile", "--stream", "--chunk", 3, "-o", "d.gif")
    assert (loaded["compile"], asked["order"]) == (True, Stream(3))
    assert (asked["noise"], asked["attention"]) == (LoopNoise(0.3), None)
    assert media.read_settings(tmp_path / "d.gif")["mu"] == 1  # what goes with a loop
    run("d", "--method", "ddim", "--frames", 2, "-o", "e.gif")
    assert asked["features"] == [FrameByFrame()]
    run("d", "--method", "text2video-zero", "--frames", 2, "-o", "f.gif")
    assert asked["features"] == [Text2VideoZero()]
    assert media.read_settings(tmp_path / "a.gif")["fps"] == 5


def test_no_clip_is_lost_when_its_name_is_taken_meanwhile(run, tmp_path, random_pipe, monkeypatch):
    encode = random_pipe.encode

    def meanwhile(*given):
        (tmp_path / "a.gif").write_text("mine")
        return encode(*given)

    monkeypatch.setattr(random_pipe, "encode", meanwhile)
    status, out, err = run("a ball", "--frames", 2, "-o", "a.gif")
    assert status == 0
    assert "a.gif exists already" in err
    assert (tmp_path / "a.gif").read_text() == "mine"
    assert media.read_frames(tmp_path / out.split()[-1]).shape == (2, 16, 16, 3)


def test_a_long_prompt_makes_a_name_that_fits(run, tmp_path):
    assert run("\U00020000" * 80, "--frames", 1)[0] == 0
    assert len(next(tmp_path.iterdir()).name.encode()) < 255


def test_more_memory_than_there_is_is_said_before_sampling(run, monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda _: 3 << 20)
    status, _, err = run("a ball", "--frames", 8, "-o", "a.gif")
    assert status == 0
    assert err == (
        "zs2: a clip takes about 4.5 MiB beside the model, 3 MiB are free: try a smaller "
        "--size, fewer frames at a time (--chunk 2), or --split-guidance\n"
    )
    _, _, err = run("a ball", "--frames", 8, "-o", "b.gif", "--chunk", 1, "--split-guidance")
    assert not err


def test_memory_that_can_never_do_is_refused(run, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "free_memory", lambda _: 1 << 20)
    status, _, err = run("a ball", "--frames", 8, "-o", "a.gif")
    assert (status, err.count("\n")) == (2, 1)
    assert "1 MiB are free" in err
    assert not list(tmp_path.iterdir())


def test_a_prompt_of_two_dashes(run, tmp_path):
    assert run("--prompt=--", "--frames", 1, "-o", "a.png")[0] == 0
    assert media.read_settings(tmp_path / "a.png")["prompt"] == "--"


def test_a_machine_that_cannot_compile_is_one_sentence(run, tmp_path, random_pipe, monkeypatch):
    def fail(*_):
        raise TorchDynamoException("InvalidCxxCompiler: none was found\n\nSet TORCH_LOGS for more")

    monkeypatch.setattr(random_pipe, "encode", fail)
    status, _, err = run("a ball", "-o", "a.gif", "--compile")
    assert status == 1
    assert err == (
        "zs2: torch.compile cannot work here: leave --compile out "
        "(InvalidCxxCompiler: none was found)\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_the_terminal_cannot_print(tmp_path):
    code = "from zs2.sample import main; print(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "猫", "--frames", "1", "--steps", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert len(list(tmp_path.glob("猫-*.png"))) == 1


def test_the_bar_is_silent_where_there_is_no_terminal(run):
    assert run("a ball", "--frames", 1, "-o", "a.png")[2] == ""


def test_the_bar_counts_to_the_end(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    terminal.progress_bar(1, 2)
    terminal.progress_bar(2, 2)
    err = capsys.readouterr().err
    assert "1/2" in err
    assert "2/2" in err


def test_help_shows_every_group(run):
    status, out, _ = run("--help")
    assert status == 0
    for group in ("model:", "picture:", "motion:", "output:", "speed and memory:", "examples:"):
        assert group in out
    assert "--prompt-at FRAME TEXT" in out
    assert max(len(line) for line in out.splitlines()) <= 100
