"""A clip is written while it is made, and is whole also where making it ends early."""

import os
import signal
import threading

import pytest
import torch

from zs2 import media
from zs2.cli.output import Watched
from zs2.cli.room import Room
from zs2.metrics.differences import motion
from zs2.stream import Stream

FRAMES = torch.randint(256, (7, 16, 16, 3), generator=torch.Generator().manual_seed(1)).byte()
FORMATS = [".mp4", ".gif", ".webp", ".png"]
ENDS = [KeyboardInterrupt(), ValueError("broken")]


def parts(*sizes, end=None):
    """FRAMES in parts of these sizes, and then perhaps an error."""
    yield from FRAMES[: sum(sizes)].split(sizes)
    if end is not None:
        raise end


def frames_of(tmp_path, name):
    return media.read_frames(tmp_path / name.removesuffix(".png"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_make_the_same_clip_as_the_whole(tmp_path, suffix):
    settings = {"prompt": "a ball"}
    media.save(tmp_path / f"whole{suffix}", FRAMES, 7, settings)
    written = media.record(tmp_path / f"parts{suffix}", parts(4, 2, 1), 7, 7, settings)
    assert media.read_settings(written) == settings
    made, whole = (frames_of(tmp_path, f"{name}{suffix}") for name in ("parts", "whole"))
    if suffix == ".gif":  # its palette is the first part's
        assert made.shape == whole.shape
        assert (made.float() - whole.float()).abs().mean() < 12
    else:
        assert made.equal(whole)
    assert media.read_clip(written)[1] == pytest.approx(8 if suffix == ".png" else 7, rel=0.01)


def test_a_gif_has_the_palette_of_its_first_part(tmp_path):
    """Of black frames, here: what follows has no other colour."""
    dark = [torch.zeros_like(FRAMES[:2]), FRAMES[:2]]
    media.record(tmp_path / "x.gif", dark, 4, 8, {})
    assert frames_of(tmp_path, "x.gif").max() == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_what_was_finished_is_a_whole_clip(tmp_path, suffix, end):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(type(end)):
        media.record(path, parts(3, 2, end=end), 7, 8, {"prompt": "a"})
    made = frames_of(tmp_path, path.name)
    assert made.shape == (5, 16, 16, 3)
    if suffix in (".png", ".webp"):
        assert made.equal(FRAMES[:5])
    assert [p.name for p in tmp_path.iterdir()] == [path.name.removesuffix(".png")]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_of_nothing_finished_nothing_is_left(tmp_path, suffix, end):
    with pytest.raises(type(end)):
        media.record(tmp_path / f"x{suffix}", parts(end=end), 7, 8, {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", FORMATS)
def test_ctrl_c_waits_until_a_part_is_written(tmp_path, suffix, monkeypatch):
    """A signal while the second part is being written: it is in the file, and no third one."""
    seen = []

    def struck():
        for i, part in enumerate(FRAMES.split(2)):
            seen.append(i)
            if i == 1:
                monkeypatch.setattr(
                    torch.Tensor, "cpu", lambda x: os.kill(os.getpid(), signal.SIGINT) or x
                )
            yield part

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        media.record(tmp_path / f"x{suffix}", struck(), 7, 8, {})
    assert signal.getsignal(signal.SIGINT) is before
    assert seen == [0, 1]
    assert len(frames_of(tmp_path, f"x{suffix}")) == 4


def test_a_thread_that_hears_no_signals_can_write(tmp_path):
    writing = threading.Thread(target=media.save, args=(tmp_path / "x.gif", FRAMES, 8, {}))
    writing.start()
    writing.join()
    assert len(media.read_frames(tmp_path / "x.gif")) == 7


def test_frames_of_a_folder_lie_there_as_they_are_made(tmp_path):
    there = []

    def made():
        for part in FRAMES.split(3):
            there.append(sorted(p.name for p in (tmp_path / "x").glob("*")))
            yield part

    media.record(tmp_path / "x.png", made(), 7, 8, {})
    assert [len(names) for names in there] == [0, 3, 6]
    assert there[-1][-1] == "0006.png"


def test_a_new_clip_takes_an_old_ones_place_with_its_first_part(tmp_path):
    media.save(tmp_path / "x.png", FRAMES, 8, {})
    with pytest.raises(KeyboardInterrupt):
        media.record(tmp_path / "x.png", parts(2, end=KeyboardInterrupt()), 7, 8, {}, True)
    assert frames_of(tmp_path, "x.png").equal(FRAMES[:2])


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 3, 1)])
def test_motion_is_that_of_the_whole_clip(sizes):
    watched = Watched(parts(*sizes))
    assert torch.cat([*watched]).equal(FRAMES)
    assert watched.motion == pytest.approx(motion(FRAMES))
    assert watched.first.equal(FRAMES[0])


QUICK = ("a ball", "--frames", 5, "--steps", 2, "--seed", 1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_stream_is_the_same_clip(run, tmp_path, suffix):
    status, out, err = run(*QUICK, "--stream", "--chunk", 2, "-o", f"a{suffix}")
    assert (status, err) == (0, "")
    assert "motion" in out
    assert run(*QUICK, "--chunk", 2, "-o", f"b{suffix}")[0] == 0
    made, whole = (frames_of(tmp_path, f"{name}{suffix}").int() for name in ("a", "b"))
    assert made.shape == whole.shape
    if suffix != ".gif":  # whose palette is the first part's
        assert (made - whole).abs().max() <= (8 if suffix == ".mp4" else 1)  # which is rounded on
    settings = media.read_settings(tmp_path / f"a{suffix}".removesuffix(".png"))
    assert (settings["stream"], settings["chunk"]) == (True, 2)


def test_a_stream_takes_eight_frames_at_a_time(run, monkeypatch):
    seen = []
    monkeypatch.setattr(Room, "announce", lambda room: seen.append(room.order))
    assert run(*QUICK, "--stream", "-o", "a.gif")[0] == 0
    assert seen == [Stream(8)]


def test_a_stream_that_is_interrupted_leaves_its_frames(run, tmp_path, monkeypatch, random_pipe):
    decode, calls = type(random_pipe).decode, []

    def interrupted(self, latents):
        calls.append(len(latents))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(self, latents)

    monkeypatch.setattr(type(random_pipe), "decode", interrupted)
    assert run(*QUICK, "--stream", "--chunk", 2, "-o", "a.mp4")[0] == 130
    assert calls == [2, 2, 1]
    assert len(media.read_frames(tmp_path / "a.mp4")) == 4


def test_a_graph_has_no_use_with_a_stream(run):
    status, _, err = run(*QUICK, "--stream", "--graph", "-o", "a.gif")
    assert status == 2
    assert "--graph has no use with --stream" in err
