"""What the commands print: sentences that a terminal only shows, and words that a shell reads."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zs2.cli import start, terminal
from zs2.cli.terminal import Parser, answer, printable, progress_bar, say, shell_quote

HOSTILE = "\x1b]0;title\x07 a\nb\r\x9b31m \u2028 \u202eevil \x7f"


def run(code: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, its streams set up by a shell."""
    return subprocess.run(
        f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {redirect}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_no_control_character_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{HOSTILE} cannot be read")
    answer(HOSTILE)
    with pytest.raises(SystemExit):
        Parser(prog="x").parse_args(["--\x1b[31m"])
    out, err = capsys.readouterr()
    assert out == r"\x1b]0;title\x07 a\nb\r\x9b31m \u2028 \u202eevil \x7f" + "\n"
    assert [c for c in out + err if not c.isprintable() and c != "\n"] == []
    assert err.count("\n") == 2


def test_what_people_write_stays_as_it_is() -> None:
    text = "na\u00efve \u732b \U0001f408\u200d\u2b1b \u0639\u0631\u0628\u064a \u3000 'quoted' \\n"
    assert printable(text) == text


def test_long_messages_are_cut_in_their_middle(capsys: pytest.CaptureFixture[str]) -> None:
    say("begin" + "x" * 10**7 + "end")
    err = capsys.readouterr().err
    assert err.startswith("zs2: beginxxx")
    assert err.endswith("xxxend\n")
    assert len(err) < 2100


@pytest.mark.parametrize(
    "text", ["a ball", "it's", HOSTILE, "a\\\n'b'", "$HOME `x` \t!", "\udcff\x1b", "", "\x01f"]
)
def test_a_shell_reads_a_quoted_word(text: str) -> None:
    quoted = shell_quote(text)
    assert printable(quoted) == quoted
    for shell in ("bash", "zsh"):
        if shutil.which(shell):
            done = subprocess.run(
                [shell, "-c", f"printf %s {quoted}"], capture_output=True, check=True
            )
            assert os.fsdecode(done.stdout) == text
    if printable(text) == text:
        assert quoted == shlex.quote(text)


SPEAK = """
from zs2.cli.terminal import answer, print_anything, progress_bar, say
print_anything()
say("a sentence"); progress_bar(1, 2); answer("first"); answer("second")
"""


def test_without_a_stderr_nothing_is_said() -> None:
    done = run(SPEAK, "2>&-")
    assert (done.returncode, done.stdout) == (0, "first\nsecond\n")
    done = run(SPEAK, ">&-")
    assert (done.returncode, done.stderr) == (0, "zs2: a sentence\n")


def test_a_full_disk_under_stdout_is_told_once() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    done = run(SPEAK, ">/dev/full")
    assert done.stderr == (
        "zs2: a sentence\nzs2: stdout cannot be written: No space left on device\n"
    )
    assert done.returncode == 0
    assert run(SPEAK, "2>/dev/full").stdout == "first\nsecond\n"


def test_nobody_needs_to_read_on() -> None:
    done = run(SPEAK + "for _ in range(9999): answer('more')", "| head -n 1")
    assert (done.stdout, done.stderr) == ("first\n", "zs2: a sentence\n")


def test_a_bar_only_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress_bar(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal, "_stderr_is_a_terminal", lambda: True)
    progress_bar(1, 2)
    say("x")
    assert capsys.readouterr().err.endswith("1/2\r\x1b[Kzs2: x\n")


QUIET = """
import os, signal
from zs2.cli.terminal import quiet_interrupt
{}
with quiet_interrupt():
    {}
{}
"""
KILL = "os.kill(os.getpid(), signal.SIGINT)"


def test_ctrl_c_during_the_imports_leaves_no_traceback() -> None:
    done = run(QUIET.format("", KILL, ""))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    after = f"try: {KILL}\nexcept KeyboardInterrupt: print('interrupted')"
    assert run(QUIET.format("", "pass", after)).stdout == "interrupted\n"
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert run(QUIET.format(ignored, KILL, KILL)).returncode == 0


@pytest.mark.parametrize(
    ("told", "policy"),
    [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "9"}, None)],
)
def test_threads_wait_without_working_unless_told_otherwise(
    told: dict[str, str], policy: str | None
) -> None:
    forgotten = "".join(f"os.environ.pop({name!r}, None)\n" for name in start.WAITING)
    code = f"import os\n{forgotten}os.environ.update({told!r})\nfrom zs2.cli.start import start\n"
    done = run(f"{code}start()\nprint(os.environ.get('OMP_WAIT_POLICY'))")
    assert done.stdout == f"{policy}\n"


def test_the_first_lines_of_a_command_import_no_torch() -> None:
    done = run("import sys, zs2.sample; print('torch' in sys.modules)")
    assert done.stdout == "False\n"
