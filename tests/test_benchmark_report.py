"""The tables of README and docs are those of the results, and that is really looked at."""

import runpy
import sys

import pytest

from benchmarks.report import __main__ as report
from benchmarks.report.evaluation import evaluate


def test_they_are_up_to_date():
    for path, text in report.files().items():
        assert path.read_text("utf-8") == text, path


def test_the_command_says_so_when_they_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["report", "--check"])
    runpy.run_module("benchmarks.report", run_name="__main__")
    monkeypatch.setattr(report, "files", lambda: {tmp_path / "results.md": "more"})
    with pytest.raises(SystemExit, match=r"results.md is out of date"):
        report.main()


def test_the_command_does_something(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("benchmarks.report", run_name="__main__")
    assert "change nothing" in capsys.readouterr().out


def test_a_plan_says_what_differs_from_its_first():
    means = {"zs2": {"residual": [2, 1, 3]}, "paper": {"residual": [5, 4, 6]}}
    result = {
        "plan": "table1",
        "model": "M",
        "prompts": 10,
        "frames": 8,
        "steps": 8,
        "means": means,
        "differences": {"paper": {"residual": [3, 2, 4]}},
        "at change": {},
    }
    assert "| `paper` | 5.00 ± 1.00 ↑ |\n| `zs2` | 2.00 ± 1.00 |" in evaluate(result)
    result["differences"]["paper"]["residual"] = [3, -1, 7]
    assert "| `paper` | 5.00 ± 1.00 |" in evaluate(result)
    result["differences"]["paper"]["residual"] = [-3, -4, -2]
    assert "| `paper` | 5.00 ± 1.00 ↓ |" in evaluate(result)
