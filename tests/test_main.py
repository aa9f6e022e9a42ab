"""One command for all: zs2 COMMAND, and python -m zs2 COMMAND."""

import pytest

import zs2
from zs2.__main__ import COMMANDS, main


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_every_command(capsys, argv):
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"zs2 {zs2.__version__}\n"
    with pytest.raises(SystemExit) as stop:
        main(["sample", "--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"zs2 {zs2.__version__}\n"


def test_commands_are_handed_their_words(capsys):
    assert main(["inspect"]) == 0
    assert "words          a an at ball" in capsys.readouterr().out


def test_another_word_is_one_sentence(capsys):
    assert main(["smaple", "a ball"]) == 2
    assert (
        capsys.readouterr().err
        == "zs2: smaple is no command: use sample, extend, enhance, evaluate, inspect\n"
    )
