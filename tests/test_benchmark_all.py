"""The run of all benchmarks: it goes on where it was left, and keeps to its time."""

import json
import subprocess
import sys

import pytest

from benchmarks import all as everything
from benchmarks.environment import device_name, slug


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Run it with benchmarks that take a minute each of a clock of their own; which ones ran."""
    clock, ran = [0.0], []
    monkeypatch.setattr(everything.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(everything, "environment", lambda _: {"commit": "abc"})

    def measure(command, check, timeout):
        name = command[2].removeprefix("benchmarks.")
        clock[0] += min(60, timeout)
        if timeout < 60:
            raise subprocess.TimeoutExpired(command, timeout)
        ran.append(name)
        path = tmp_path / f"{slug(device_name())}.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**results, name: {"commit": "abc"}}))
        return subprocess.CompletedProcess(command, 1 if name == broken else 0)

    broken = None

    def run(*words, fails=None):
        nonlocal broken
        broken = fails
        ran.clear()
        monkeypatch.setattr(sys, "argv", ["all", "--json", str(tmp_path), *words])
        everything.main()
        return list(ran)

    monkeypatch.setattr(everything.subprocess, "run", measure)
    return run


def test_it_goes_on_with_what_was_left_out(ran, capsys):
    assert ran("--minutes", "2.5") == ["sample", "momentum"]
    assert "left out, for time: noise, growth;" in capsys.readouterr().out
    assert ran() == ["noise", "growth"]
    assert "sample: measured already" in capsys.readouterr().out
    assert ran() == []


def test_another_commit_is_measured_anew(ran, monkeypatch):
    ran()
    monkeypatch.setattr(everything, "environment", lambda _: {"commit": "def"})
    assert len(ran()) == len(everything.SPEED)


def test_changed_files_are_no_commit(ran, monkeypatch):
    monkeypatch.setattr(everything, "environment", lambda _: {"commit": "abc-dirty"})
    ran()
    assert len(ran()) == len(everything.SPEED)


def test_a_failure_is_named_and_the_others_are_made(ran):
    with pytest.raises(SystemExit, match="failed: momentum"):
        ran(fails="momentum")
