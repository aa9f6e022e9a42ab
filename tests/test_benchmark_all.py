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

    class Process:
        pid = 17

        def __init__(self, command, start_new_session):
            assert start_new_session  # so that its children end with it
            self.command, self.name = command, command[2].removeprefix("benchmarks.")

        def wait(self, timeout=None):
            if timeout is None:
                assert killed.pop() == self.pid
                return -9
            clock[0] += min(60, timeout)
            if timeout < 60:
                raise subprocess.TimeoutExpired(self.command, timeout)
            ran.append(self.name)
            path = tmp_path / f"{slug(device_name())}.json"
            results = json.loads(path.read_text()) if path.exists() else {}
            found = {"commit": "abc", "left out": ["bf16"] if self.name == half else []}
            path.write_text(json.dumps({**results, self.name: found}))
            return 1 if self.name == broken else 0

    broken = half = None
    killed = []

    def run(*words, fails=None, halves=None):
        nonlocal broken, half
        broken, half = fails, halves
        ran.clear()
        monkeypatch.setattr(sys, "argv", ["all", "--json", str(tmp_path), *words])
        everything.main()
        return list(ran)

    monkeypatch.setattr(everything.subprocess, "Popen", Process)
    monkeypatch.setattr(everything.os, "killpg", lambda pid, _: killed.append(pid))
    return run


def test_it_goes_on_with_what_was_left_out(ran, capsys):
    assert ran("--minutes", "2.5") == ["momentum", "layers"]
    assert "left out, for time: noise, growth, sample;" in capsys.readouterr().out
    assert ran() == ["noise", "growth", "sample"]
    assert "momentum: measured already" in capsys.readouterr().out
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


def test_a_part_of_a_result_is_not_the_whole(ran):
    ran(halves="sample")
    assert ran() == ["sample"]
    assert ran() == []
