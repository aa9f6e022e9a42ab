"""Chunks of 75 tokens and the two weightings, against numbers computed by hand."""

import pytest
import torch
from conftest import Letters

from zs2.models.chunks import chunked, packed, weighted, weights_of
from zs2.models.tokenizer import Token
from zs2.prompt import Piece, parse

COMMA = ord(",")


class Signs(Letters):
    """One token a letter, and another for each; what is white is between words."""

    def tokens(self, text: str) -> list[Token]:
        return [Token(ord(letter), i) for i, letter in enumerate(text) if letter != " "]


def read(prompt: str, weighting: str = "a1111") -> list[str]:
    """The chunks of a prompt as text: 14 letters each, of a tokenizer that knows letters."""
    parts = [[Piece(prompt)]] if weighting == "plain" else parse(prompt)
    return ["".join(chr(t.id) for t in c) for c in chunked(parts, Signs(), {}, weighting)]


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("", [""]),
        ("abcdefghijklmn", ["abcdefghijklmn"]),
        ("abcdefghijklmno", ["abcdefghijklmn", "o"]),
        ("ab BREAK cd", ["ab", "cd"]),
        ("BREAK cd", ["", "cd"]),
        ("abcdefghijklmn BREAK o", ["abcdefghijklmn", "o"]),
        ("abcdefghijklmno BREAK p", ["abcdefghijklmn", "o", "p"]),
        # Broken after the last comma, which itself may begin a chunk.
        ("abcd,efg,hijklmno", ["abcd,efg,", "hijklmno"]),
        ("abcdefghijklmn,o,p", ["abcdefghijklmn", ",o,p"]),
        ("abcdefghijklm,opq", ["abcdefghijklm,", "opq"]),
        # A comma that begins a chunk does not count for it.
        ("ab,defghijklmn, abcdefghijklmnop", ["ab,defghijklmn", ",abcdefghijklm", "nop"]),
    ],
)
def test_chunks_are_a1111s(prompt, chunks):
    assert read(prompt) == chunks


def test_a_comma_long_past_breaks_nothing():
    groups = [[Token(COMMA)], *([Token(1)] for _ in range(40))]
    assert [len(c) for c in packed(iter(groups), 30, COMMA)] == [30, 11]
    assert [len(c) for c in packed(iter([*groups[1:10], *groups]), 30, COMMA)] == [30, 20]
    assert [len(c) for c in packed(iter([*groups[1:11], *groups]), 30, COMMA)] == [11, 30, 10]


def test_comfy_keeps_words_whole_but_not_long_ones():
    assert read("abcdefghij klmno", "comfy") == ["abcdefghij", "klmno"]
    assert read("abcdefgh ijklmnop", "comfy") == ["abcdefghijklmn", "op"]
    assert read("klmnop abcdefg hi", "comfy") == ["klmnopabcdefg", "hi"]
    assert read("klmnopq abc, defg", "comfy") == ["klmnopqabc,", "defg"]


def test_plain_is_cut_with_a_warning():
    with pytest.warns(UserWarning, match=r"holds 14 tokens, so .* ignored: 'o BREAK'"):
        assert read("abcdefghijklmno BREAK", "plain") == ["abcdefghijklmn"]
    with pytest.warns(UserWarning, match=r"ignored: 'n\) z'"):
        chunks = chunked([[Piece("(ab"), Piece("cd", 1, 3, "cd"), Piece("efghijklmn) z", 1, 5)]],
                         Signs(), {"cd": torch.ones(2, 4)}, "plain")  # fmt: skip
    assert [t.vector is not None for t in chunks[0][:6]] == [False] * 3 + [True] * 2 + [False]


def test_embeddings_take_places_and_stay_whole():
    vectors = {"toy": torch.arange(12.0).view(3, 4)}

    def places(before: str, after: str) -> list[str]:
        part = [Piece(before), Piece("toy", 1.5, 0, "toy"), Piece(after)]
        return [[t.weight for t in c] for c in chunked([part], Signs(), vectors, "a1111")]

    assert places("ab", "c") == [[1, 1, 1.5, 1.5, 1.5, 1]]
    assert places("a" * 12, "c") == [[1] * 12, [1.5, 1.5, 1.5, 1]]
    part = [Piece("toy", 1.5, 0, "toy")]
    [[*tokens]] = chunked([part], Signs(), vectors, "comfy")
    assert torch.equal(torch.stack([t.vector for t in tokens]), vectors["toy"])


def test_start_end_and_padding_weigh_one():
    assert weights_of([Token(1, 0, 2.0), Token(1, 0, 0.5)], 6) == [1, 2, 0.5, 1, 1, 1]


def test_a1111_scales_and_brings_back_the_mean_of_each_chunk():
    z = torch.tensor([[[1.0, 3.0], [2.0, 4.0]], [[1.0, 1.0], [3.0, -1.0]]])
    told = weighted(z, torch.tensor([[1.0, 2.0], [0.5, 1.0]]), None)
    # Means 2.5 to (1 + 3 + 4 + 8) / 4 = 4, and 1 to (.5 + .5 + 3 - 1) / 4 = .75.
    first = torch.tensor([[1.0, 3.0], [4.0, 8.0]]) * 2.5 / 4
    second = torch.tensor([[0.5, 0.5], [3.0, -1.0]]) / 0.75
    assert torch.allclose(told, torch.stack([first, second]))


def test_comfy_goes_on_from_the_empty_prompt():
    z = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])
    empty = torch.tensor([[9.0, 9.0], [1.0, 0.0]])
    told = weighted(z, torch.tensor([[1.0, 1.5]]), empty)
    assert torch.equal(told, torch.tensor([[[1.0, 3.0], [2.5, 6.0]]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("empty", [None, torch.randn(77, 8)])
def test_weight_one_changes_no_bit_in_any_precision(empty, dtype):
    z = torch.randn(2, 77, 8).to(dtype)
    weights = torch.ones(2, 77)
    weights[1, 3] = 1.3
    told = weighted(z, weights, empty)
    assert told.dtype == z.dtype
    assert torch.equal(told[0], z[0])
    assert not torch.equal(told[1, 3], z[1, 3])
