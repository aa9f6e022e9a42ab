"""The recipe goes on from a finished model, and writes one."""

import sys

import pytest
from safetensors.torch import load_file

from weights.recipe import export, warm
from zs2.weights import SMALL


def call(monkeypatch, main, *words):
    monkeypatch.setattr(sys, "argv", ["recipe", *map(str, words)])
    main()


def test_what_was_not_trained_on_stays_as_it_was(tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out"
    call(monkeypatch, warm.main, "--work", work, "--model", SMALL)
    call(monkeypatch, export.main, "--work", work, "--out", out)
    paths = sorted(path.relative_to(SMALL) for path in SMALL.rglob("*") if path.is_file())
    assert paths == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    for path in paths:
        if path.suffix == ".safetensors":
            old, new = load_file(SMALL / path), load_file(out / path)
            assert old.keys() == new.keys()
            assert all(old[key].equal(new[key]) for key in old)
        else:
            assert (out / path).read_text("utf-8") == (SMALL / path).read_text("utf-8")


def test_another_training_is_not_gone_on_with(tmp_path, monkeypatch, capsys):
    (tmp_path / "latents.pt").touch()
    with pytest.raises(SystemExit):
        call(monkeypatch, warm.main, "--work", tmp_path, "--model", SMALL)
    assert "is not empty" in capsys.readouterr().err
