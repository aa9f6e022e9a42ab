"""The harness: what is killed goes on to the same results, shards merge, and nothing is lost."""

import csv
import json

import pytest
import torch

from benchmarks.evaluate import __main__ as harness
from benchmarks.evaluate.folder import Folder, Row
from benchmarks.evaluate.methods import PLANS, method, planned
from benchmarks.evaluate.report import markdown, summary
from benchmarks.evaluate.statistics import at_change, difference, estimate, interval, verdict
from benchmarks.evaluate.tried import TRIED
from zs2.errors import InputError
from zs2.noise import DependencyNoise

QUICK = ["--count", "2", "--frames", "3", "--steps", "2", "--methods", "zs2", "ddim"]
TIMES = "seconds"  # the one figure that no two runs share


def figures(folder):
    """Rows without the clock's."""
    with (folder / "rows.csv").open() as file:
        return [row for row in csv.reader(file) if row[4] != TIMES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert harness.main(["--out", str(folder), *QUICK]) == 0
    return folder


def test_rows_are_tidy(whole):
    head, *rows = figures(whole)
    assert head == ["clip", "method", "prompt", "seed", "metric", "value"]
    assert {row[1] for row in rows} == {"zs2", "ddim"}
    assert len({row[0] for row in rows}) == 4
    assert {"motion", "clip_score", "noise_correlation"} <= {row[4] for row in rows}
    assert all(float(row[5]) is not None for row in rows)


def test_a_run_that_was_killed_goes_on(whole, tmp_path, monkeypatch):
    made = []

    def dies(*args):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args[3].name)
        return original(*args)

    original = harness.make
    with monkeypatch.context() as patched:
        patched.setattr(harness, "make", dies)
        assert harness.main(["--out", str(tmp_path), *QUICK]) == 130
    assert len(list((tmp_path / "clips").glob("*.json"))) == 2
    (tmp_path / "clips" / "unfinished.json.7.part").write_text("{")
    assert harness.main(["--out", str(tmp_path), *QUICK]) == 0
    assert figures(tmp_path) == figures(whole)


def test_shards_merge(whole, tmp_path):
    for shard in ("2/2", "1/2"):
        assert harness.main(["--out", str(tmp_path / shard[0]), *QUICK, "--shard", shard]) == 0
    words = ["--out", str(tmp_path / "1"), *QUICK, "--report", "--merge", str(tmp_path / "2")]
    assert harness.main(words) == 0
    assert figures(tmp_path / "1") == figures(whole)


def test_the_page_needs_no_network(whole):
    page = (whole / "report.html").read_text()
    assert page.count('src="data:image/webp;base64,') == 4
    assert not any(
        word in page.replace("http://www.w3.org/2000/svg", "") for word in ("http", "<script")
    )
    assert "| zs2 | 2 |" in (whole / "report.md").read_text()


def test_intervals_and_words():
    low = {(str(i), 1): 1.0 + 0.01 * i for i in range(20)}
    high = {key: value + 0.5 + 0.001 * i for i, (key, value) in enumerate(low.items())}
    found = difference(high, low)
    assert found.mean == pytest.approx(0.5095)
    assert 0.5 < found.low < found.mean < found.high < 0.52
    assert verdict("residual", found) == "worse"
    assert verdict("ms_ssim", found) == "better"
    assert verdict("motion", found) == "more"
    assert verdict("residual", difference(low, low)) == "no difference shown"
    assert difference(low, {("other", 1): 1.0}) is None
    # Of 400 normal values the interval is 1.96 standard errors to each side.
    values = [((i * 7919) % 400 + 0.5) / 400 for i in range(400)]
    wide = estimate(values)
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * (1 / 12) ** 0.5 / 20, rel=0.1)


def test_a_difference_is_of_the_same_prompts(tmp_path):
    folder = Folder(tmp_path)
    folder.settle({"model": "a"})
    for i in range(3):
        folder.finish("zs2", f"prompt {i}", 1, {"residual": 10.0 * i})
        if i:
            folder.finish("ddim", f"prompt {i}", 1, {"residual": 10.0 * i + 1})
    text = markdown([*folder.rows()], ["zs2", "ddim"], {})
    assert "| ddim | 2 | 16.000 (11.000 .. 21.000) | 1.000 (1.000 .. 1.000) | worse |" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zs3", "zs3 is no method"),
        ("zs2:lam=x", "method zs2:lam=x"),
        ("zs2:speed=3", "it has no speed"),
        ("zs2:noise=pink", "noise is one of"),
        ("zs2:noise=mixed,lam=1", "it has no lam"),
        ("ddim:lam=1", "it has no lam"),
        ("text2video-zero:motion=x", "method text2video-zero:motion=x"),
    ],
)
def test_methods_that_are_none(name, said):
    with pytest.raises(InputError, match=said):
        method(name)


def test_every_plan_is_of_methods():
    for name, names in PLANS.items():
        assert [how.name for how in planned([name])] == list(dict.fromkeys(names))
    assert [how.name for how in planned(["ddim", "table1"])][:2] == ["ddim", "text2video-zero"]


def test_families():
    assert method("zs2:lam=0.01").family == "zs2"
    assert method("zs2:lam=0.01,mu=0.5").family == "zs2:mu=0.5"
    assert method("paper").asked["noise"].inertia == 0
    assert method("paper:inertia=0.5").asked["noise"].inertia == 0.5


def test_wrong_words_are_one_sentence(whole, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("# none\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "settings.json").write_text("{")
    for words, said in [
        (["--out", str(whole), *QUICK, "--frames", "4"], "holds results of another frames"),
        (["--out", str(tmp_path / "x"), "--prompts", str(tmp_path / "empty.txt")], "no prompt"),
        (["--out", str(tmp_path / "x"), "--prompts", str(tmp_path / "absent")], "cannot be read"),
        (["--out", str(tmp_path / "x"), "--model", str(tmp_path / "no")], "no"),
        (["--out", str(tmp_path / "x"), "--report"], "holds no results"),
        (["--out", str(tmp_path / "damaged"), *QUICK], "is damaged"),
        (["--out", str(whole), *QUICK, "--json", str(tmp_path)], "the summary of one plan: table1"),
    ]:
        assert harness.main(words) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert said in err


def test_clips_of_other_weights_are_not_taken_for_a_model_s_own(whole, monkeypatch, capsys):
    monkeypatch.setattr(harness, "digest", lambda model: "others")
    assert harness.main(["--out", str(whole), *QUICK]) == 2
    assert "holds results of another weights" in capsys.readouterr().err


def test_a_digest_is_of_all_weights():
    layer = torch.nn.Linear(2, 2)
    before = harness.digest(layer)
    assert harness.digest(layer) == before
    with torch.no_grad():
        layer.bias[1] += 1e-3
    assert harness.digest(layer) != before


def test_a_damaged_file_is_named(tmp_path, capsys):
    folder = Folder(tmp_path)
    folder.settle({})
    folder.finish("zs2", "a", 1, {"motion": 1.0})
    path = next((tmp_path / "clips").glob("*.json"))
    path.write_text(json.dumps({"method": "zs2"}))
    assert harness.main(["--out", str(tmp_path), "--report"]) == 2
    assert f"{path} is damaged: delete it" in capsys.readouterr().err


def test_a_figure_at_equal_change_is_read_off_a_line():
    """A figure that is twice the change, of methods that change by 10 and 20 in the mean."""
    keys = [("a", 1), ("b", 1), ("c", 1)]
    means = {"much": 20, "little": 10}
    change = {
        n: {key: m * s for key, s in zip(keys, (0.9, 1, 1.1), strict=True)}
        for n, m in means.items()
    }
    values = {name: {key: 2 * v for key, v in of.items()} for name, of in change.items()}
    found = at_change(change, values, keys, 15)
    assert torch.allclose(found, torch.tensor(30.0, dtype=torch.float64))
    assert interval(found) == pytest.approx((30, 30, 30))
    assert float(at_change(change, values, keys, 10)[0]) == pytest.approx(20)
    assert at_change(change, values, keys, 9) is None
    assert at_change(change, values, keys, 21) is None


def test_what_is_kept_of_a_plan():
    names = ["zs2:lam=0.001", "zs2:lam=0.1", "paper:lam=0.1", "paper:lam=1", "ddim"]
    figures = {  # of two prompts: net change, residual
        "zs2:lam=0.001": ((8, 1), (12, 3)),
        "zs2:lam=0.1": ((28, 5), (32, 7)),
        "paper:lam=0.1": ((8, 4), (12, 4)),
        "paper:lam=1": ((38, 8), (42, 8)),
        "ddim": ((50, 9), (50, 9)),
    }
    rows = [
        Row("", name, prompt, 1, metric, value)
        for name, both in figures.items()
        for prompt, found in zip("ab", both, strict=True)
        for metric, value in zip(("net_change", "residual"), found, strict=True)
    ]
    rows += [Row("", row.method, row.prompt, 1, "motion", 1) for row in rows[::2]]
    told = summary(rows, names)
    assert (told["clips"], told["prompts"]) == (2, 2)
    assert told["means"]["ddim"]["residual"] == [9, 9, 9]
    assert told["differences"]["ddim"]["residual"][0] == 7
    at = told["at change"]
    assert set(at) == {"10", "15", "20", "30"}  # nobody changes by 5
    assert at["20"]["zs2"]["residual"][0] == 4
    mean, _, _, apart, low, high = at["20"]["paper"]["residual"]
    assert (mean, apart) == pytest.approx((5.333, 1.333), abs=1e-3)
    assert low < apart < high
    assert "ddim" not in at["10"]  # one method is no line


@pytest.mark.parametrize("name", TRIED)
def test_what_was_tried_makes_other_clips_from_the_same_still(random_pipe, name):
    """Shares in its own way; frame 1 has none before it, so only what it sees twice can round."""
    told = {"frames": 3, "seed": 1, "steps": 2, "size": (32, 32)}  # maps above COARSE and below
    plain = random_pipe("a red ball", **told, noise=DependencyNoise(0.1)).frames
    frames = random_pipe("a red ball", **told, **method(f"{name}:lam=0.1").asked).frames
    assert (frames[0].int() - plain[0].int()).abs().max() <= 2
    assert not torch.equal(frames[1:], plain[1:])
