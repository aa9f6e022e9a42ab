"""`zs2 evaluate`: any clip is measured; what cannot be is one sentence."""

import json
from pathlib import Path

import pytest
import torch

from zs2 import evaluate, media
from zs2.metrics import differences
from zs2.metrics.figures import MEANINGS
from zs2.weights import SMALL

DATA = next(filter(Path.is_dir, (p / "shared/data" for p in Path(__file__).parents)), None)
# Mean absolute differences of the authors' own clips, measured when they were collected.
LADDERS = {
    "mu098-lambda000": 4.47,
    "mu098-lambda010": 9.67,
    "mu098-lambda025": 16.15,
    "lambda010-mu000": 28.59,
    "lambda010-mu100": 10.66,
}


def written(path, settings, frames=3):
    made = torch.randint(256, (frames, 64, 64, 3), generator=torch.Generator().manual_seed(1))
    media.save(path, made.byte(), 8, settings)
    return made.byte()


@pytest.mark.skipif(DATA is None, reason="needs the shared data")
@pytest.mark.parametrize("name", LADDERS)
def test_the_authors_ladders(name):
    frames = media.read_frames(DATA / f"clips/ladder-{name}.gif")
    assert differences.motion_mae(frames) == pytest.approx(LADDERS[name], abs=0.05)


def test_a_clip_is_measured(tmp_path, capsys):
    frames = written(tmp_path / "a.webp", {"prompt": "two big blue stars at night"})
    assert evaluate.main([str(tmp_path / "a.webp"), "--clip", str(SMALL / "clip")]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == [str(tmp_path / "a.webp")]
    assert [words[0] for words in lines[1:]] == [name for name in MEANINGS if name != "lpips"]
    told = dict(words[:2] for words in lines[1:])
    assert float(told["motion"]) == pytest.approx(differences.motion(frames), abs=1e-3)
    assert "by clip (ViT of 4 layers of 192, patches of 16 of 128 pixels)" in out.splitlines()[-1]


def test_json_tells_the_same_of_several(tmp_path, capsys):
    paths = [tmp_path / "a.webp", tmp_path / "b.webp"]
    for path in paths:
        written(path, {})
    words = ["--clip", str(SMALL / "clip"), "--prompt", "a ball", "--json"]
    assert evaluate.main([*map(str, paths), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["clips"]) == [*map(str, paths)]
    assert told["clip_backbone"] == str(SMALL / "clip")
    for figures in told["clips"].values():
        assert {*figures} == {*MEANINGS} - {"lpips"}


def test_without_a_prompt_there_is_no_score(tmp_path, capsys):
    written(tmp_path / "a.webp", {})
    assert evaluate.main([str(tmp_path / "a.webp"), "--clip", str(SMALL / "clip")]) == 0
    out, err = capsys.readouterr()
    assert "consistency_adjacent" in out
    assert "clip_score" not in out
    assert "give --prompt TEXT" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.mp4"], "absent.mp4 does not exist"),
        (["text.mp4"], "text.mp4"),
        (["still.png"], "still.png has 1 frame: a clip has several"),
        (["line.webp"], "line.webp is a line of pixels"),
        (["a.webp", "--clip", "nowhere"], "nowhere"),
        (["a.webp", "--clip", str(SMALL / "unet")], "describes no CLIP"),
        (["a.webp", "--prompt", "a ball"], "--prompt has no use without --clip"),
        (["a.webp", "--clip", str(SMALL / "clip"), "--prompt", " "], "--prompt is empty"),
        (["sizes"], "sizes"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    written(Path("a.webp"), {})
    written(Path("still.png"), {}, frames=1)
    media.save(Path("line.webp"), torch.arange(27).view(3, 1, 3, 3).byte(), 8, {})
    Path("text.mp4").write_text("no video")
    Path("sizes").mkdir()
    for i, side in enumerate((16, 32)):
        media.save(Path(f"sizes/{i:04d}.png"), torch.zeros(1, side, 16, 3).byte(), 8, {})
    assert evaluate.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("zs2: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_file_that_cannot_be_measured_loses_no_other(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    written(tmp_path / "a.webp", {})
    words = [str(tmp_path / "text.mp4"), str(tmp_path / "a.webp"), "--json"]
    assert evaluate.main(words) == 2
    out, err = capsys.readouterr()
    assert list(json.loads(out)["clips"]) == [words[1]]
    assert words[0] in err


@pytest.mark.parametrize("stored", ["", ["a", "b"], None])
def test_a_stored_prompt_that_is_none_is_not_scored(tmp_path, capsys, stored):
    written(tmp_path / "a.webp", {"prompt": stored})
    assert evaluate.main([str(tmp_path / "a.webp"), "--clip", str(SMALL / "clip")]) == 0
    out, err = capsys.readouterr()
    assert "clip_score" not in out
    assert "has no one prompt" in err


def test_a_stored_prompt_is_scored_as_it_reads(tmp_path, capsys):
    """Weights are no words, and a clip that travels has several prompts."""
    told = {"prompt": "a (red:1.3) ball BREAK on [yellow] sand", "prompt-weights": "a1111"}
    written(tmp_path / "a.webp", told)
    written(tmp_path / "b.webp", {**told, "prompt-weights": "plain"})
    assert evaluate.stored_prompt(tmp_path / "a.webp") == "a red ball on yellow sand"
    assert evaluate.stored_prompt(tmp_path / "b.webp") == told["prompt"]
    written(tmp_path / "c.webp", {**told, "prompt-at": "3 a blue ball"})
    assert evaluate.stored_prompt(tmp_path / "c.webp") is None
