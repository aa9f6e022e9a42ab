"""A stream's states: in another place, in a folder, and gone on from wherever it ended."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_shots_control import control_net

from zs2 import extend, media
from zs2.errors import InputError
from zs2.memory import STATE, Memory
from zs2.pipeline import Pipeline
from zs2.samplers import SAMPLERS
from zs2.shots.control import Control
from zs2.stream import Stream

TOLD = {"prompt": "a ball", "lam": [0.1, 0.2]}


def shot(pipe, frames=5, **more):
    return pipe.shot("a ball", frames=frames, steps=3, seed=3, **more)


def made(shot, order):
    return torch.cat([m.x for m in order(shot) if m.finished], dim=1)


def kept_in(folder, **told):
    return Stream(2, memory=Memory(folder=folder, told=told or TOLD))


def ended(shot, order, chunks):
    """Run until so many chunks are finished."""
    done = 0
    for moment in order(shot):
        done += moment.finished
        if done == chunks:
            return


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "unipc"])
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_it_goes_on_to_the_same_clip(random_pipe, tmp_path, sampler, chunks):
    one = shot(random_pipe, sampler=SAMPLERS[sampler])
    ended(one, kept_in(tmp_path), chunks)
    assert made(one, kept_in(tmp_path)).equal(made(one, Stream(2)))


def test_with_nets_that_have_states_of_their_own(random_pipe, tmp_path):
    maps = torch.randint(256, (5, 16, 16, 3), generator=torch.manual_seed(0)).byte()
    control = Control(control_net(random_pipe, 5), maps, 1.0, (0, 0.5))
    one = shot(random_pipe, features=[control, control])
    ended(one, kept_in(tmp_path), 1)
    again = shot(random_pipe, features=[control, control])  # its copies of the net are new ones
    assert made(again, kept_in(tmp_path)).equal(made(one, Stream(2)))


def test_more_frames_are_those_of_a_longer_clip(random_pipe, tmp_path):
    made(shot(random_pipe, 4), kept_in(tmp_path))
    longer = made(shot(random_pipe, 9), kept_in(tmp_path))
    assert longer.equal(made(shot(random_pipe, 9), Stream(2)))
    assert made(shot(random_pipe, 3), kept_in(tmp_path)).equal(longer[:, :3])


def test_only_the_frames_that_are_not_there_are_computed(random_pipe, tmp_path, monkeypatch):
    ended(shot(random_pipe), kept_in(tmp_path), 2)
    calls = []
    unet = type(random_pipe.weights.unet)
    forward = unet.forward
    monkeypatch.setattr(unet, "forward", lambda *a: calls.append(a[1].shape) or forward(*a))
    made(shot(random_pipe), kept_in(tmp_path))
    assert len(calls) == 3  # steps of the last chunk


def test_on_the_host_it_is_the_same_and_in_half_it_is_close(random_pipe):
    one = shot(random_pipe)
    exact = made(one, Stream(2))
    assert made(one, Stream(2, memory=Memory(host=True))).equal(exact)
    half = made(one, Stream(2, memory=Memory(half=True)))
    assert not half.equal(exact)
    # float16 rounds a state by 2^-12 of it.
    assert (half - exact).norm() / exact.norm() < 2**-9
    clip = random_pipe("a ball", frames=3, order=Stream(2, memory=Memory(half=True)))
    assert clip.settings["half-state"] is True


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({**TOLD, "prompt": "b"}, "its prompt is 'a ball', not 'b'"),
        ({**TOLD, "lam": (0.1, 0.3)}, "its lam is"),
        ({**TOLD, "mu": 0.5}, "its mu is None, not 0.5"),
    ],
)
def test_the_state_of_another_clip_is_refused(random_pipe, tmp_path, told, words):
    made(shot(random_pipe), kept_in(tmp_path))
    with pytest.raises(InputError, match=f"keeps the state of another clip: {words}"):
        made(shot(random_pipe), kept_in(tmp_path, **told))
    made(shot(random_pipe), kept_in(tmp_path, prompt="a ball", lam=(0.1, 0.2)))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def other(path):
    save_file({"x": torch.zeros(1)}, path)


def of_another_model(path):
    tensors = {f"0.0.{10_000 + i}": x for i, x in enumerate(load_file(path).values())}
    save_file(tensors, path, {"zs2": '{"prompt": "a ball", "lam": [0.1, 0.2], "finished": 5}'})


@pytest.mark.parametrize("name", [STATE, "00000002.safetensors"])
@pytest.mark.parametrize("harm", [cut, other, lambda path: path.write_text("")])
def test_damaged_files_are_named(random_pipe, tmp_path, name, harm):
    made(shot(random_pipe), kept_in(tmp_path))
    harm(tmp_path / name)
    with pytest.raises(InputError, match=name):
        made(shot(random_pipe), kept_in(tmp_path))


def test_a_state_of_other_layers_is_refused(random_pipe, tmp_path):
    made(shot(random_pipe), kept_in(tmp_path))
    of_another_model(tmp_path / STATE)
    with pytest.raises(InputError, match="is of another model"):
        made(shot(random_pipe), kept_in(tmp_path))


def test_a_missing_chunk_is_named(random_pipe, tmp_path):
    made(shot(random_pipe), kept_in(tmp_path))
    (tmp_path / "00000002.safetensors").unlink()
    with pytest.raises(InputError, match=r"00000002\.safetensors"):
        made(shot(random_pipe), kept_in(tmp_path))


STREAM = ("a ball", "--frames", 5, "--steps", 2, "--stream", "--chunk", 2, "--keep-state", "kept")


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".png"])
def test_the_same_command_goes_on(run, tmp_path, monkeypatch, suffix):
    """Ended while the second chunk is decoded, and then gone on with: byte for byte the clip."""
    decode, calls = Pipeline.decode, []

    def killed(self, latents):
        calls.append(latents)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return decode(self, latents)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "decode", killed)
        assert run(*STREAM, "-o", f"a{suffix}")[0] == 130
    assert (tmp_path / f"a{suffix}".removesuffix(".png")).exists()
    status, _, err = run(*STREAM, "--resume", "-o", f"a{suffix}")
    assert (status, err) == (0, "")
    seed = media.read_settings(tmp_path / f"a{suffix}".removesuffix(".png"))["seed"]
    shutil.rmtree(tmp_path / "kept")
    assert run(*STREAM, "--seed", seed, "-o", f"b{suffix}")[0] == 0
    if suffix == ".png":
        names = sorted(p.name for p in (tmp_path / "a").iterdir())
        assert len(names) == 5
        pairs = [(tmp_path / "a" / name, tmp_path / "b" / name) for name in names]
    else:
        pairs = [(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")]
    assert all(one.read_bytes() == two.read_bytes() for one, two in pairs)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "kept keeps a state already: go on from it with --resume"),
        (("--resume", "--seed", 9), "another clip: its seed is"),
        (("--resume", "--lam", 0.5), "another clip: its lam is"),
        (("--resume", "--count", 2), "keeps one clip"),
    ],
)
def test_what_does_not_go_on(run, tmp_path, more, words):
    assert run(*STREAM, "--seed", 1, "-o", "a.gif")[0] == 0
    status, out, err = run(*STREAM, *more, "-o", "b.gif")
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "b.gif").exists()


def test_another_clip_is_not_replaced_by_resuming(run, tmp_path):
    assert run(*STREAM, "--seed", 1, "-o", "a.gif")[0] == 0
    media.save(tmp_path / "b.gif", torch.zeros(2, 8, 8, 3).byte(), 8, {"prompt": "mine"})
    status, _, err = run(*STREAM, "--resume", "-o", "b.gif")
    assert status == 2
    assert "b.gif exists already" in err


@pytest.mark.parametrize("option", ["--keep-state", "--host-state", "--half-state"])
def test_states_are_a_streams(run, option):
    words = (option, "kept") if option == "--keep-state" else (option,)
    status, _, err = run("a ball", *words, "-o", "a.gif")
    assert status == 2
    assert f"{option} has no use without --stream" in err


def alike(tmp_path, name, other):
    """But for rounding: after an end within a chunk the next ones are others, and so are sums."""
    one, two = (media.read_frames(tmp_path / path).int() for path in (name, other))
    return one.shape == two.shape and (one - two).abs().max() <= 1


@pytest.mark.parametrize("kept", [True, False])
def test_an_extended_clip_is_the_longer_one(run, tmp_path, kept, capsys):
    told = STREAM if kept else STREAM[:-2]
    assert run(*told, "--seed", 1, "-o", "a.webp")[0] == 0
    assert extend.main(["a.webp", "--frames", "8"]) == 0
    said = capsys.readouterr().err
    assert ("computed again" in said) is not kept
    assert run(*STREAM[:-2], "--frames", 8, "--seed", 1, "-o", "b.webp")[0] == 0
    assert alike(tmp_path, "a-8.webp", "b.webp")
    # and once more, from what the longer one left
    assert extend.main(["a-8.webp", "--frames", "9", "-o", "c.webp"]) == 0
    assert len(media.read_frames(tmp_path / "c.webp")) == 9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "does not say how it was made"),
        ({"prompt": "a", "frames": 2, "init": "own"}, "cannot be made again: its init"),
        ({"prompt": "a", "frames": 8}, "has 8 frames: --frames takes more than that, not 5"),
        ({"prompt": "a", "frames": 2, "noise": "loop"}, "is a loop"),
        (None, "does not exist"),
    ],
)
def test_clips_that_cannot_be_extended(tmp_path, capsys, settings, words):
    path = tmp_path / "a.gif"
    if settings is not None:
        media.save(path, torch.zeros(2, 8, 8, 3).byte(), 8, settings)
    assert extend.main([str(path), "--frames", "5"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_made(run):
    status, _, err = run("a ball", "--stream", "--keep-state", "no/such", "-o", "a.gif")
    assert status == 2
    assert "--keep-state no/such cannot be made" in err


def test_chunks_may_change_on_the_way(random_pipe, tmp_path):
    """Only the sums' order does, then."""
    one = shot(random_pipe)
    ended(one, kept_in(tmp_path), 1)
    on = made(one, replace(kept_in(tmp_path), chunk=3))
    torch.testing.assert_close(on, made(one, Stream(2)), rtol=1e-4, atol=1e-4)
