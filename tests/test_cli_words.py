"""Prompts on the command line: what is said of words, and what is refused before loading."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from zs2 import media
from zs2.checkpoint.embedding import Embedding
from zs2.cli import make, words

STILL = ("--frames", 1, "--seed", 1, "-o", "a.png")


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.safetensors"
    save_file({"emb_params": torch.randn(2, 32, generator=torch.Generator().manual_seed(1))}, path)
    return path


def test_an_embedding_is_told_and_stored(run, tmp_path, toy):
    status, _, err = run("a toy", "--embedding", toy, *STILL)
    assert status == 0
    assert err == f"zs2: {toy}: a textual inversion, applied: 2 vectors of 32 for toy\n"
    assert media.read_settings(tmp_path / "a.png")["embedding"] == [str(toy)]
    run("a toy", "--frames", 1, "--seed", 1, "-o", "b.png")
    assert not torch.equal(*(media.read_frames(tmp_path / f"{n}.png") for n in "ab"))


@pytest.mark.parametrize("where", [["toy"], ["x", "-n", "toy"], ["x", "--prompt-at", 0, "Toy"]])
def test_an_embedding_that_no_prompt_names_is_said(run, toy, where):
    _, _, err = run(*where, "--embedding", toy, *STILL)
    assert "no prompt says" not in err
    _, _, err = run("a ball", "--embedding", toy, *STILL, "--overwrite")
    assert "no prompt says toy: without its word" in err


def test_how_a_prompt_is_read_is_stored(run, tmp_path):
    run("(a:1.2) [b:c:1]", "--prompt-weights", "plain", "--clip-skip", 1, *STILL)
    settings = media.read_settings(tmp_path / "a.png")
    assert (settings["prompt-weights"], settings["clip-skip"]) == ("plain", 1)
    run("(a:1.2)", *STILL, "--overwrite")
    settings = media.read_settings(tmp_path / "a.png")
    assert (settings["prompt-weights"], settings["clip-skip"]) == ("a1111", None)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["a [b:c:5]"], "change while sampling"),
        (["a", "-n", "[b|c]"], "change while sampling"),
        (["a", "--prompt-at", 0, "<lora:b:1>"], "--lora FILE:WEIGHT"),
        (["(a:1000)"], "the weight of 'a' is 1e+03"),
        (["a", "--clip-skip", 0], "clip-skip counts from 1"),
        (["a", "--clip-skip", 2], "beyond the text encoder's 1 layers"),
        (["a", "--prompt-weights", "compel"], "--prompt-weights"),
        (["a", "--embedding", "nowhere"], "nowhere does not exist"),
        (["a embedding:nowhere"], "embedding:nowhere is not loaded"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, argv, told):
    status, out, err = run(*argv, *STILL)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_wrong_prompts_are_refused_before_a_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(make, "load", lambda *_, **__: pytest.fail("loaded"))
    for argv in (["a [b|c]"], ["a", "-n", "[b|c]"], ["a", "--prompt-at", 0, "[b|c]"]):
        assert "change while sampling" in run(*argv, *STILL)[2]


def test_the_word_of_an_embedding_is_none_to_be_known(random_pipe, toy, capsys):
    weights = Embedding(toy)(random_pipe.weights)
    weights = replace(weights, defaults=replace(weights.defaults, words=("a",)))
    words.warn_of_unknown("a (toy:1.3) BREAK a", weights)
    assert not capsys.readouterr().err


def test_prompts_that_and_would_join_are_said_once(run):
    status, _, err = run("a AND b", *STILL, "--count", 2)
    assert status == 0
    assert err.count("AND joins no prompts") == 1
