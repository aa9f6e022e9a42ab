"""The grammar of prompts: weights, escapes and BREAK, and what no prompt may do to the parser."""

import random
import re
from contextlib import suppress

import pytest

from zs2.prompt import Piece, check, joins, named, parse


def told(prompt: str) -> list[list[tuple[str, float]]]:
    return [[(p.text, round(p.weight, 9)) for p in part] for part in parse(prompt)]


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red ball", [("a red ball", 1)]),
        ("a: b, 12:30 c:1.5", [("a: b, 12:30 c:1.5", 1)]),
        ("a (red) ball", [("a ", 1), ("red", 1.1), (" ball", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", round(1 / 1.1, 9))]),
        ("[[red]]", [("red", round(1 / 1.21, 9))]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red: .5 )(blue:-2)(grey:3.)", [("red", 0.5), ("blue", -2), ("grey", 3)]),
        ("(a (red:1.3) ball)", [("a ", 1.1), ("red", 1.43), (" ball", 1.1)]),
        ("([red])", [("red", 1)]),
        ("(a)(b) c", [("ab", 1.1), (" c", 1)]),  # one text: they are read together
        ("[a:b](c:d:2)", [("a:b", round(1 / 1.1, 9)), ("c:d", 2)]),
        # Brackets without a partner.
        ("a (red ball", [("a ", 1), ("red ball", 1.1)]),
        ("(a [b", [("a ", 1.1), ("b", 1)]),
        ("a) b] c:1.3)", [("a) b] c:1.3)", 1)]),
        ("(a] b)", [("a] b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:1.3) b)", [("a", 1.3), (" b)", 1)]),
        # Escapes.
        (r"\(a\) \[b\]", [("(a) [b]", 1)]),
        (r"(\(a\):1.5)", [("(a)", 1.5)]),
        (r"a\\b\c\(", [(r"a\bc(", 1)]),
        ("", []),
        ("()[]", []),
    ],
)
def test_weights_are_a1111s(prompt, pieces):
    assert told(prompt) == [pieces]


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a, BREAK  BREAKFAST break", [["a,"], ["BREAKFAST break"]]),
        ("a BREAK BREAK b", [["a"], [], ["b"]]),
        ("BREAK a", [[], ["a"]]),
        ("a BREAK", [["a"]]),
        ("BREAK", [[]]),
        ("(a BREAK b)c", [["a"], ["b", "c"]]),
    ],
)
def test_break_begins_a_part(prompt, parts):
    assert [[p.text for p in part] for part in parse(prompt)] == parts


def escaped(text: str) -> str:
    return re.sub(r"([\\()\[\]])", r"\\\1", text)


def some_texts(letters: str, count: int) -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices(letters, k=draw.randrange(30))) for _ in range(count)]


@pytest.mark.parametrize("text", ["", *some_texts("ab ()[]:\\1.|<>,\n\u732b", 300)])
def test_what_is_escaped_is_read_as_it_was(text):
    assert parse(escaped(text)) == [[Piece(text)] if text else []]


def test_every_text_can_be_read():
    for text in some_texts("ab ()[]:\\1.+-|BREAK <lora>AND", 3000):
        pieces = [piece for part in parse(text) for piece in part]
        assert all(isinstance(piece.weight, float) and piece.text for piece in pieces)
        kept = re.sub(r"BREAK|[\\()\[\]\s]|:\s*[-+]?[\d.]+", "", text)
        read = re.sub(r"BREAK|[\\()\[\]\s]|:\s*[-+]?[\d.]+", "", "".join(p.text for p in pieces))
        assert set(read) <= set(kept) | set("BREAK")  # no letter comes from nowhere


def test_long_prompts_take_no_long_time():
    for unit in ("[", "(", "a:", ":1.", "[|", "\\", "((a) ", "BREAK ", "<lora:", ": "):
        parse(unit * 3000)
        with suppress(ValueError):
            check(unit * 3000)
        named_all = list(named(Piece(unit * 3000), ["toy"]))
        assert "".join(p.text for p in named_all) == unit * 3000


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a [red:blue:0.5] ball", r"change while sampling, as 'a \[red:blue:0.5\]'"),
        ("a [ball:10]", "change while sampling"),
        ("a [(red:1.2)::.3]", "change while sampling"),
        ("a [red|blue] ball", "change while sampling"),
        ("a ball <lora:toy:0.8>", r"<lora:toy:0.8> in a prompt is not read: .* --lora"),
        ("(a:101)", "the weight of 'a' is 101"),
        ("(" * 100 + "a", "the weight of 'a' is 1.38e"),
        ("(a:" + "9" * 400 + ")", "is inf"),
    ],
)
def test_what_zs2_does_not_do_is_refused(prompt, words):
    with pytest.raises(ValueError, match=words) as caught:
        check(prompt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [
        r"a \[red:blue:0.5\]",
        "at 12:30]",
        "[a] b: 3",
        "a|b",
        "[a] | [b]",
        "<3",
        "[a: b]",
        "(a:-100)",
    ],
)
def test_what_only_looks_like_it_is_not(prompt):
    check(prompt)


def test_prompts_joined_by_and():
    assert joins("a cat AND a dog")
    assert not joins("a cat and a dog, a GRAND ANDES")


def cuts(text: str, *names: str) -> list[tuple[str, str | None]]:
    pieces = list(named(Piece(text, 1.2, begin=5), names))
    assert all(p.weight == 1.2 and text[p.begin - 5 :].startswith(p.text) for p in pieces)
    assert "".join(p.text for p in pieces) == text
    return [(p.text, p.name) for p in pieces]


def test_embeddings_are_found_by_name():
    assert cuts("a Cat-Toy, x", "cat-toy") == [("a ", None), ("Cat-Toy", "cat-toy"), (", x", None)]
    assert cuts("<toy><toy>", "<toy>") == [("<toy>", "<toy>")] * 2
    assert cuts("toys mytoy _toy", "toy") == [("toys mytoy _toy", None)]
    assert cuts("bad-hands-5", "bad", "bad-hands-5") == [("bad-hands-5", "bad-hands-5")]
    assert cuts("embedding:toy.safetensors", "toy") == [("embedding:toy.safetensors", "toy")]
    assert cuts("a.b", "a.b") == [("a.b", "a.b")]
    assert cuts("axb", "a.b") == [("axb", None)]
    assert cuts("a toy") == [("a toy", None)]
