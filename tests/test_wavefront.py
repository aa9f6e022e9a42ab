"""Several processes make the clip of one; one that dies leaves what was finished."""

import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest
import torch

from zs2 import media
from zs2.cli import ranks

QUICK = ("two big blue stars at night", "--steps", "2", "--seed", "1", "--dtype", "fp32")


def begun(count, folder, *words):
    """Processes of zs2 as torchrun begins them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = []
    for rank in range(count):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        env |= {name: str(value) for name, value in told.items()}
        command = [sys.executable, "-m", "zs2.sample", *words]
        start = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        made.append(start(command, env=env, cwd=folder))
    return made


def ended(processes):
    """Status, stdout and stderr of each."""
    said = [process.communicate(timeout=120) for process in processes]
    return [(p.returncode, *told) for p, told in zip(processes, said, strict=True)]


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_it_is_the_clip_of_one_process(tmp_path, run_small, count):
    words = (*QUICK, "--frames", "7", "--chunk", "2", "-o", "x.webp")
    ends = ended(begun(count, tmp_path, *words))
    assert [status for status, _, _ in ends] == [0] * count
    assert [out.count("x.webp") for _, out, _ in ends] == [1] + [0] * (count - 1)
    assert (tmp_path / "x.webp").read_bytes() == run_small


@pytest.fixture(scope="module")
def run_small(tmp_path_factory):
    """The file that one process writes of it."""
    folder = tmp_path_factory.mktemp("one")
    words = (*QUICK, "--frames", "7", "--chunk", "2", "--stream", "-o", "x.webp")
    subprocess.run([sys.executable, "-m", "zs2.sample", *words], cwd=folder, check=True)
    return (folder / "x.webp").read_bytes()


def test_several_clips_are_dealt_out(tmp_path):
    ends = ended(begun(2, tmp_path, *QUICK[:-4], "--count", "3", "--frames", "1"))
    assert [status for status, _, _ in ends] == [0, 0]
    assert [out.count(".png") for _, out, _ in ends] == [2, 1]
    seeds = {int(re.search(r"(\d+)\.png", path.name)[1]) for path in tmp_path.iterdir()}
    assert len(seeds) == 3
    assert max(seeds) - min(seeds) == 2


def test_a_process_that_dies_leaves_what_was_finished(tmp_path):
    words = (
        "a red ball at night",
        "--steps",
        "8",
        "--frames",
        "400",
        "--chunk",
        "2",
        "-o",
        "x.png",
    )
    first, second, third = begun(3, tmp_path, *words)
    finished = tmp_path / "x" / "0001.png"
    while not finished.exists() and first.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            second.wait(0.05)
    second.kill()
    status, out, err = ended([first])[0]
    third_ended = ended([third])[0]
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "another of the processes has ended: the frames that were finished are kept" in err
    assert third_ended[::2] == (1, "")
    frames = media.read_frames(tmp_path / "x")
    assert len(frames) % 2 == 0
    assert 2 <= len(frames) < 400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--graph"], "--graph is of one process"),
        (["--stream", "--keep-state", "x"], "--keep-state is of one process"),
        (["--stream", "--host-state"], "--host-state is of one process"),
        (["--sheet", "x.png"], "--sheet needs all its clips"),
    ],
)
def test_what_is_of_one_process(run, monkeypatch, words, said):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks, "group", lambda: torch.inference_mode(False))
    status, _, err = run("a ball", "-o", "y.gif", *words)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err


def test_only_the_first_process_says_what_all_would(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("a ball", "--cfg", "x") == (2, "", "")


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ranks.InputError, match="3 processes on a machine with 2 GPUs"):
        ranks.device(None)
    assert ranks.device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.device("auto") == "cuda:1"


def test_processes_that_do_not_find_each_other(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    status, _, err = run("a ball", "-o", "y.gif")
    assert (status, err.count("\n")) == (2, 1)
    assert "start by torchrun" in err
