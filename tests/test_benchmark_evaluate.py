"""The harness: what is killed goes on to the same results, shards merge, and nothing is lost."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch

import zs2
from benchmarks.evaluate import __main__ as harness
from benchmarks.evaluate.folder import Folder, Row
from benchmarks.evaluate.methods import PLANS, method, planned, result_name
from benchmarks.evaluate.report import by_frame, families, markdown, summary
from benchmarks.evaluate.statistics import (
    FEW,
    at_change,
    difference,
    estimate,
    interval,
    means,
    students_t,
    verdict,
)
from benchmarks.evaluate.tried import TRIED
from zs2.checkpoint.load import load_clip
from zs2.errors import InputError
from zs2.metrics.lpips import ALEXNET, LPIPS
from zs2.noise import DependencyNoise
from zs2.weights import SMALL

QUICK = ["--count", "2", "--frames", "3", "--steps", "2", "--methods", "zs2", "ddim"]


def figures(folder):
    with (folder / "rows.csv").open() as file:
        return [*csv.reader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert harness.main(["--out", str(folder), *QUICK]) == 0
    return folder


def test_rows_are_tidy(whole):
    head, *rows = figures(whole)
    assert head == ["clip", "method", "prompt", "seed", "metric", "frame", "value"]
    assert {row[1] for row in rows} == {"zs2", "ddim"}
    assert len({row[0] for row in rows}) == 4
    assert {"motion", "clip_score", "drift"} <= {row[4] for row in rows}
    assert {row[5] for row in rows if row[4] == "drift"} == {"1", "2", "3"}
    assert {row[5] for row in rows if row[4] != "drift"} == {""}
    assert all(float(row[6]) is not None for row in rows)


KILLED = """
import os, signal, sys
from benchmarks.evaluate import __main__ as harness, folder

left, real = int(sys.argv[1]), os.replace
def replace(a, b):  # what makes a file whole: settings, clips, figures, reports
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(a, b)
os.replace = replace
sys.exit(harness.main(sys.argv[2:]))
"""


def test_a_run_that_was_killed_goes_on(whole, tmp_path):
    """Wherever a file was about to be finished: each run is killed a little later than the last."""
    words = ["--out", str(tmp_path), *QUICK]
    for files in (0, 2, 5):
        run = [sys.executable, "-c", KILLED, str(files), *words]
        assert subprocess.run(run, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert 0 < len(list((tmp_path / "clips").glob("*.json"))) < 4
    assert harness.main(words) == 0
    assert figures(tmp_path) == figures(whole)
    for name in ("report.md", "report.html"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


ENDED = """
import signal, sys
from benchmarks.evaluate import __main__ as harness

signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))  # SIGALRM, which ends the process
sys.exit(harness.main(sys.argv[2:]))
"""


def test_a_run_that_ended_at_a_random_moment_goes_on(whole, tmp_path):
    words = ["--out", str(tmp_path), *QUICK]
    moment = random.uniform(0.01, 4)
    print(f"ended after {moment} s")
    run = [sys.executable, "-c", ENDED, str(moment), *words]
    assert subprocess.run(run, capture_output=True, check=False).returncode in (-signal.SIGALRM, 0)
    assert harness.main(words) == 0
    assert figures(tmp_path) == figures(whole)


def test_nothing_is_made_twice(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    next((tmp_path / "clips").glob("*.json")).unlink()
    made = []
    original = harness.make
    monkeypatch.setattr(harness, "make", lambda *args: (made.append(args[3]), original(*args)))
    assert harness.main(["--out", str(tmp_path), *QUICK]) == 0
    assert len(made) == 1
    assert figures(tmp_path) == figures(whole)


def test_a_method_that_means_something_else_now_is_made_again(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "clips").glob("*.json"):
        told = json.loads(path.read_text())
        if told["method"] == "zs2":
            assert "inertia=0.95" in told["settings"]
            told |= {"settings": "another inertia", "figures": {"motion": 99.0}}
            path.write_text(json.dumps(told))
    words = ["--out", str(tmp_path), *QUICK]
    assert harness.main([*words, "--report"]) == 0  # of ddim alone
    assert {row[1] for row in figures(tmp_path)[1:]} == {"ddim"}
    assert harness.main(words) == 0
    assert figures(tmp_path) == figures(whole)


def test_a_report_is_of_what_is_asked(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    one = ["--out", str(tmp_path), *QUICK, "--count", "1", "--report"]
    assert harness.main(one) == 0
    assert len({row[2] for row in figures(tmp_path)[1:]}) == 1
    assert harness.main([*one[:-1], "--report", "--methods", "zs2", "paper"]) == 0
    assert "no clips of these prompts by paper" in capsys.readouterr().err
    before = (tmp_path / "report.md").read_text()
    assert harness.main([*one, "--methods", "paper"]) == 2
    assert (tmp_path / "report.md").read_text() == before


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
    low = of(1.0 + 0.01 * i for i in range(20))
    high = {key: value + 0.5 + 0.001 * i for i, (key, value) in enumerate(low.items())}
    found = difference(high, low)
    assert found.mean == pytest.approx(0.5095)
    assert 0.5 < found.low < found.mean < found.high < 0.52
    assert found.prompts == 20
    assert verdict("residual", found) == "worse"
    assert verdict("ms_ssim", found) == "better"
    assert verdict("motion", found) == "more"
    assert verdict("residual", difference(low, low)) == "no difference shown"
    assert difference(low, {("other", 1): 1.0}) is None
    # Of 400 values the interval is 1.96 standard errors to each side.
    wide = estimate(of(((i * 7919) % 400 + 0.5) / 400 for i in range(400)))
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * (1 / 12) ** 0.5 / 20, rel=0.1)


def of(values):
    """Figures of a prompt each."""
    return {(str(i), 1): value for i, value in enumerate(values)}


def test_few_prompts_get_no_word():
    high = of([1.0] * (FEW - 1))
    assert verdict("residual", estimate(high)) == "too few prompts"
    assert verdict("residual", estimate(of([1.0] * FEW))) == "worse"


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """Of ten normal values: the percentiles of a bootstrap as they are would do so in 90 %."""
    x = torch.randn(1000, 10, generator=torch.Generator().manual_seed(5)).double()
    found = [estimate(of(values)) for values in x.tolist()]
    share = sum(e.low <= 0 <= e.high for e in found) / len(found)
    # Three standard errors of 1000 times; students_t's series is off by less.
    assert share == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 1000) ** 0.5)
    assert students_t(9) == pytest.approx(2.262, abs=0.01)
    assert students_t(39) == pytest.approx(2.0227, abs=1e-3)


def test_the_seeds_of_a_prompt_are_no_prompts_more():
    one = of(range(12))
    five = {(prompt, seed): value for (prompt, _), value in one.items() for seed in range(5)}
    assert estimate(five) == estimate(one)


def test_a_difference_is_of_the_same_prompts(tmp_path):
    folder = Folder(tmp_path)
    folder.settle({"model": "a"})
    for i in range(11):
        folder.finish("zs2", "", f"prompt {i}", 1, {"residual": 10.0 * i})
        if i:
            folder.finish("ddim", "", f"prompt {i}", 1, {"residual": 10.0 * i + 1})
    methods = {"zs2": "", "ddim": ""}
    prompts = [f"prompt {i}" for i in range(11)]
    text = markdown([*folder.rows(methods, prompts)], [*methods], {})
    assert "| zs2 | 10 | 55.000 (" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| ddim"))
    assert "| ddim | 10 | 56.000 (" in line
    assert "| 1.000 (1.000 .. 1.000) | worse |" in line


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
        ("text2video-zero:mu=x", "method text2video-zero:mu=x"),
        ("text2video-zero:mu=3", "method text2video-zero:mu=3"),
    ],
)
def test_methods_that_are_none(name, said):
    with pytest.raises(InputError, match=said):
        method(name)


def test_every_plan_is_of_methods():
    for name, names in PLANS.items():
        assert [how.name for how in planned([name])] == list(dict.fromkeys(names))
    assert [how.name for how in planned(["ddim", "table1"])][:2] == ["ddim", "zs2"]


def test_families():
    assert method("zs2:lam=0.01").family == "zs2"
    assert method("zs2:lam=0.01,mu=0.5").family == "zs2:mu=0.5"
    assert method("paper").asked["noise"].inertia == 0
    assert method("paper:inertia=0.5").asked["noise"].inertia == 0.5


def test_a_family_is_in_order_of_how_much_it_moves():
    names = ["zs2:lam=0.03", "zs2", "text2video-zero", "zs2:lam=0.003", "text2video-zero:motion=3"]
    assert families(names) == {
        "zs2": ["zs2:lam=0.003", "zs2", "zs2:lam=0.03"],
        "text2video-zero": ["text2video-zero:motion=3", "text2video-zero"],
    }


def test_curves_over_frames_are_of_what_all_have():
    rows = [
        Row("clip", name, prompt, 1, "drift", frame, value)
        for name, prompt, value in [("a", "x", 1.0), ("a", "y", 100.0), ("b", "x", 3.0)]
        for frame in (1, 2)
    ]
    assert by_frame(rows, ["a", "b"]) == {"drift": {"a": [1, 1], "b": [3, 3]}}


def test_a_plan_in_part_is_no_summary_of_it(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "of", dirs_exist_ok=True)
    words = ["--out", str(tmp_path / "of"), *QUICK, "--report", "--methods", "table1"]
    assert harness.main([*words, "--json", str(tmp_path / "results")]) == 2
    assert "needs every clip of table1" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    (tmp_path / "file").write_text("")
    assert harness.main([*words, "--json", str(tmp_path / "file")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_what_cannot_be_merged_is_told_before_anything_is_made(tmp_path, capsys):
    words = ["--out", str(tmp_path / "out"), *QUICK, "--merge", str(tmp_path / "nowhere")]
    assert harness.main(words) == 2
    assert "nowhere holds no results" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.webp"))


def test_a_report_that_cannot_be_written_is_one_sentence(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "rows.csv").unlink()
    (tmp_path / "rows.csv").mkdir()
    assert harness.main(["--out", str(tmp_path), *QUICK, "--report"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("zs2: not written")
    assert err.count("\n") == 1


def test_prompts_of_an_editor_that_marks_its_files(tmp_path):
    (tmp_path / "prompts.txt").write_text("# mine\na red ball\n", "utf-8-sig")
    assert harness.lines(tmp_path / "prompts.txt", None) == ["a red ball"]


def test_each_model_has_results_of_its_own():
    assert result_name("table1", "the small model") == "evaluate table1"
    assert result_name("table1", "models/sd15") == "evaluate table1 of sd15"


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
        (["--out", str(whole), *QUICK, "--count", "101"], "holds 100 prompts, and 101 were asked"),
        (["--out", str(tmp_path / "y"), *QUICK, "--frames", "1"], "--frames is at least 2"),
        (["--out", str(tmp_path / "y"), *QUICK, "--steps", "0"], "steps"),
        (["--out", str(tmp_path / "y"), *QUICK, "--size", "7"], "multiples of 8"),
        (["--out", str(tmp_path / "y"), *QUICK, "--seed", "-1"], "seed"),
        (["--out", str(tmp_path / "empty.txt"), *QUICK], "cannot hold results"),
    ]:
        assert harness.main(words) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert said in err
    assert not (tmp_path / "y").exists()
    for words in (["--count", "0"], ["--shown", "-1"], ["--shard", "3/2"]):
        with pytest.raises(SystemExit) as ended:
            harness.main(["--out", str(tmp_path / "y"), *words])
        assert ended.value.code == 2


def test_clips_of_other_weights_are_not_taken_for_a_model_s_own(whole, monkeypatch, capsys):
    monkeypatch.setattr(harness, "digest", lambda *models: "others")
    assert harness.main(["--out", str(whole), *QUICK]) == 2
    assert "holds results of another clip" in capsys.readouterr().err


def test_a_digest_is_of_all_weights():
    layers = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = harness.digest(*layers)
    assert harness.digest(*layers) == before
    for layer in layers:
        with torch.no_grad():
            layer.bias[1] += 1e-3
        assert harness.digest(*layers) != before
        before = harness.digest(*layers)


@pytest.mark.parametrize("part", ["unet", "vae", "text", "clip", "lpips"])
def test_settings_tell_every_model_apart(part):
    pipe, judges = zs2.load(), harness.Judges(load_clip(SMALL / "clip"), LPIPS(ALEXNET))
    asked = {"frames": 2, "size": None, "steps": 1, "seed": 1}
    before = harness.settings_of(pipe, judges, asked)
    changed = {
        "unet": pipe.weights.unet,
        "vae": pipe.weights.vae,
        "text": pipe.weights.text.towers[0].encoder,
        "clip": judges.clip[0],
        "lpips": judges.lpips,
    }[part]
    with torch.no_grad():
        next(changed.parameters()).add_(1e-2)
    after = harness.settings_of(pipe, judges, asked)
    key = part if part in ("clip", "lpips") else "weights"
    assert {k for k in after if after[k] != before[k]} == {key}


def test_a_size_that_lpips_cannot_see():
    asked = {"frames": 2, "size": 32, "steps": 1, "seed": 1}
    with pytest.raises(InputError, match="LPIPS needs 64 pixels"):
        harness.settings_of(zs2.load(), harness.Judges(lpips=LPIPS(ALEXNET)), asked)


def test_the_same_model_may_lie_elsewhere(tmp_path):
    Folder(tmp_path).settle({"model": "here", "weights": "a"})
    Folder(tmp_path).settle({"model": "there", "weights": "a"})
    with pytest.raises(InputError, match="another weights"):
        Folder(tmp_path).settle({"model": "here", "weights": "b"})


def test_a_damaged_file_is_named(tmp_path, capsys):
    folder = Folder(tmp_path)
    folder.settle({})
    folder.finish("zs2", "", "a", 1, {"motion": 1.0})
    path = next((tmp_path / "clips").glob("*.json"))
    path.write_text(json.dumps({"method": "zs2"}))
    assert harness.main(["--out", str(tmp_path), "--report"]) == 2
    assert f"{path} is damaged: delete it" in capsys.readouterr().err


def test_a_figure_at_equal_change_is_read_off_a_line():
    """A figure that is twice the change, of methods that change by 10, 20 and 5 in the mean.

    The last has turned back, and is on no line that leads to more.
    """
    shares = of((0.9, 1, 1.1))
    change = [
        means({key: mean * share for key, share in shares.items()})[0] for mean in (10, 20, 5)
    ]
    values = [2 * x for x in change]
    found = at_change(change, values, 15)
    assert torch.allclose(found, torch.tensor(30.0, dtype=torch.float64))
    assert interval(found, 3)[:3] == pytest.approx((30, 30, 30))
    assert float(at_change(change, values, 12)[0]) == pytest.approx(24)
    assert at_change(change, values, 8) is None
    assert at_change(change, values, 21) is None


def test_a_change_that_few_draws_reach_has_no_figure():
    change = [means(of([0.0] * 10))[0], means(of([0.0] * 9 + [100.0]))[0]]
    assert float(change[1][0]) == 10
    assert at_change(change, change, 9) is None  # a third of the draws have not the last prompt


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
        Row("", name, prompt, 1, metric, None, value)
        for name, both in figures.items()
        for prompt, found in zip("ab", both, strict=True)
        for metric, value in zip(("net_change", "residual"), found, strict=True)
    ]
    rows += [Row("", row.method, row.prompt, 1, "motion", None, 1) for row in rows[::2]]
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


def test_every_list_of_prompts_says_whose_it_is():
    lists = sorted(harness.PROMPTS.parent.glob("*.txt"))
    assert harness.PROMPTS in lists
    for path in lists:
        assert path.read_text().startswith("# ")
        found = harness.lines(path, None)
        assert len(found) == len({*found}) >= 60
    assert len(harness.lines(harness.PROMPTS, None)) >= 100  # as many as the paper's Table 1
