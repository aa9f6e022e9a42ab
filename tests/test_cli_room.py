"""--max-memory chooses how a clip is made: the fastest way that fits."""

import argparse

import pytest

from zs2 import media
from zs2.cli import room
from zs2.cli.option import limit
from zs2.cli.options import build_parser
from zs2.cli.room import Room
from zs2.denoise import Whole
from zs2.estimate import model_memory
from zs2.stream import Stream


def clip(pipe, *argv, frames=16, size=(64, 64), order=None):
    args = build_parser().parse_args(["a ball", *map(str, argv)])
    return Room(pipe, args, frames, size, 0, order or Whole())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6GB", 6 * 10**9),
        ("6 gib", 6 * 2**30),
        ("1.5G", 1_500_000_000),
        ("800MB", 800 * 10**6),
        ("1000", 1000),
        ("auto", "auto"),
    ],
)
def test_a_size(text, value):
    assert limit(text) == value


@pytest.mark.parametrize("text", ["six", "6TB", "-1GB", "", "GB"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        limit(text)


def test_less_memory_is_fewer_frames_and_then_guidance_apart(random_pipe, capsys):
    whole = clip(random_pipe)
    model = model_memory(random_pipe.weights)
    assert whole.fitted(model + whole.needed).order == Whole()
    half = whole.fitted(model + whole.needed - 1)
    assert half.order == Whole(chunk=8)
    assert "--max-memory: --chunk 8, about" in capsys.readouterr().err
    one = clip(random_pipe, "--chunk", 1, order=Whole(chunk=1))
    assert one.fitted(model + one.needed).order == Whole(chunk=1)
    assert one.fitted(model + one.needed - 1).order == Whole(chunk=1, together=False)


def test_what_was_asked_for_stays(random_pipe):
    model = model_memory(random_pipe.weights)
    asked = clip(random_pipe, "--chunk", 4, order=Whole(chunk=4))
    assert {way.order.chunk for way in asked.ways()} == {4}
    apart = clip(random_pipe, "--split-guidance", order=Whole(together=False))
    assert {way.order.together for way in apart.ways()} == {False}
    streamed = clip(random_pipe, order=Stream(8))
    assert all(isinstance(way.order, Stream) for way in streamed.ways())
    assert streamed.fitted(model + 2**40).order.chunk == 16


def test_large_frames_are_decoded_in_tiles(random_pipe):
    """At 2048 pixels decoding takes most."""
    large = clip(random_pipe, frames=1, size=(2048, 2048))
    chosen = large.fitted(model_memory(random_pipe.weights) + large.needed * 3 // 4)
    assert chosen.pipe.weights.settings["tile"] == 512
    assert large.pipe.weights.settings.get("tile") is None


def test_less_than_one_frame_is_refused(run):
    status, out, err = run("a ball", "--max-memory", "1KB", "-o", "a.gif")
    assert (status, out) == (2, "")
    assert "one frame at a time takes" in err
    assert "give more, or a smaller --size" in err
    assert err.count("\n") == 1


def test_from_the_command_line(run, tmp_path, monkeypatch, random_pipe):
    whole = clip(random_pipe, frames=4, size=(16, 16))
    monkeypatch.setattr(room, "free_memory", lambda _: whole.needed - 1)
    status, _, err = run("a ball", "--frames", 4, "--max-memory", "auto", "-o", "a.gif")
    assert status == 0
    assert "--max-memory: --chunk 2" in err
    assert media.read_settings(tmp_path / "a.gif")["chunk"] == 2
    monkeypatch.setattr(room, "free_memory", lambda _: None)
    status, _, err = run("a ball", "--max-memory", "auto", "-o", "b.gif")
    assert status == 2
    assert "nobody counts the memory here" in err
