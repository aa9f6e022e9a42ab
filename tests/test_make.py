"""Several clips at once: seeds, contact sheets, previews, what is there already, unknown words."""

import copy
from dataclasses import replace

import pytest

from zs2 import media
from zs2.cli import make, words
from zs2.cli.sheet import LABEL, labelled
from zs2.pipeline import Pipeline


def test_count_makes_seeds_that_follow_each_other(run, tmp_path, random_pipe):
    status, out, _ = run("a ball", "--frames", 1, "--count", 3, "--seed", 7, "--sheet", "s.png")
    assert status == 0
    assert out.splitlines()[-1] == "s.png"
    for seed in (7, 8, 9):
        made = media.read_frames(tmp_path / f"a-ball-{seed}.png")
        assert made.equal(random_pipe("a ball", frames=1, seed=seed).frames)
    assert media.read_settings(tmp_path / "s.png")["sheet"] == ["seed 7", "seed 8", "seed 9"]
    # 16 pixels are shown as 96, and a line of text under each.
    assert media.read_frames(tmp_path / "s.png").shape == (1, 2 * (96 + LABEL), 2 * 96, 3)


def test_a_label_is_written_under_the_picture(random_pipe):
    still = random_pipe("a ball", frames=1, seed=1).frames[0]
    cell, other = labelled(still, "seed 1"), labelled(still, "seed 2")
    assert cell[:96].equal(still.repeat_interleave(6, 0).repeat_interleave(6, 1))
    assert (cell[96:] < 128).any()
    assert not cell[96:].equal(other[96:])


def test_every_prompt_is_made_with_every_seed(run, tmp_path):
    (tmp_path / "p.txt").write_text("# two things\na ball\n\na cube\u2028b\n", "utf-8")
    said = ("--prompts-file", "p.txt", "--count", 2, "--seed", 3, "--frames", 1, "-o", "x.png")
    assert run(*said)[0] == 0
    settings = [media.read_settings(tmp_path / f"x-{i:04d}.png") for i in (1, 2, 3, 4)]
    assert [(s["prompt"], s["seed"]) for s in settings] == [
        ("a ball", 3),
        ("a ball", 4),
        ("a cube\u2028b", 3),
        ("a cube\u2028b", 4),
    ]


def test_a_clip_knows_its_rate(run, tmp_path):
    assert run("a ball", "--frames", 2, "--fps", 12, "--steps", 1, "-o", "x.gif")[0] == 0
    assert media.read_settings(tmp_path / "x.gif")["fps"] == 12


def test_what_is_there_is_skipped_when_asked(run, tmp_path):
    said = ("a ball", "--frames", 2, "--count", 2, "--seed", 1, "--steps", 1, "-o", "x.png")
    assert run(*said)[0] == 0
    (tmp_path / "x-0002" / "0002.png").unlink()
    (tmp_path / "x-0002" / "0001.png").unlink()
    (tmp_path / "x-0002").rmdir()
    before = (tmp_path / "x-0001/0001.png").stat().st_mtime_ns
    status, out, _ = run(*said, "--skip-existing")
    assert (status, out.count("\n")) == (0, 1)
    assert (tmp_path / "x-0002/0002.png").is_file()
    assert (tmp_path / "x-0001/0001.png").stat().st_mtime_ns == before
    assert run(*said, "--skip-existing")[1] == ""


def test_finished_clips_are_kept_when_a_batch_is_interrupted(run, tmp_path, monkeypatch):
    take, calls = Pipeline.run, []

    def second_stops(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return take(*args)

    monkeypatch.setattr(Pipeline, "run", second_stops)
    status, _, err = run("a ball", "--frames", 2, "--count", 3, "-o", "x.gif")
    assert status == 130
    assert "clips that were finished are kept" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-0001.gif"]


def test_a_preview_shows_the_clip_so_far(run, tmp_path, monkeypatch):
    seen = []
    record = media.record
    monkeypatch.setattr(
        media, "record", lambda path, *a, **k: seen.append(path.name) or record(path, *a, **k)
    )
    assert run("a ball", "--frames", 3, "--steps", 7, "-o", "a.gif", "--preview", "now.png")[0] == 0
    assert seen == ["now.png", "now.png", "a.gif"]  # after 5 and 7 steps
    assert media.read_frames(tmp_path / "now.png").shape == (1, 16, 48, 3)


def test_a_preview_may_have_a_vae_of_its_own(run, random_pipe, tmp_path, monkeypatch):
    """A black one, which the clip has nothing of."""

    class Black:
        def __init__(self, path):
            assert path == "taesd.safetensors"

        def __call__(self, weights):
            vae = copy.deepcopy(weights.vae)
            vae.decoder.conv_out.weight.zero_()
            vae.decoder.conv_out.bias.fill_(-1)
            return replace(weights, vae=vae)

    monkeypatch.setattr(make, "OtherVAE", Black)
    told = ("a ball", "--frames", 2, "--steps", 2, "--seed", 1, "-o", "a.png")
    assert run(*told, "--preview", "now.png", "--preview-vae", "taesd.safetensors")[0] == 0
    expected = random_pipe("a ball", frames=2, steps=2, seed=1).frames
    made = media.read_frames(tmp_path / "a").int()
    assert (made - expected.int()).abs().max() <= 1  # sums depend on where tensors lie in memory
    assert media.read_frames(tmp_path / "now.png").max() == 0


@pytest.mark.parametrize(
    ("prompt", "said"), [("a Ball, 2 balls", ""), ("a bear", "bear"), ("(a:1.3) BREAK [ball]", "")]
)
def test_a_small_model_says_which_words_it_does_not_know(capsys, random_pipe, prompt, said):
    defaults = replace(random_pipe.weights.defaults, words=("a", "ball", "balls"))
    words.warn_of_unknown(prompt, replace(random_pipe.weights, defaults=defaults))
    err = capsys.readouterr().err
    assert bool(err) == bool(said)
    assert said in err
    words.warn_of_unknown(prompt, random_pipe.weights)  # knows all words
    assert not capsys.readouterr().err
