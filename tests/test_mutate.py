"""The list of mutants is of lines that are there."""

import pytest
from mutate import MUTATIONS, ROOT


@pytest.mark.parametrize("file", sorted({file for file, _, _ in MUTATIONS}))
def test_each_mutant_has_one_line_to_change(file):
    text = (ROOT / "zs2" / file).read_text()
    lines = [old for name, _, lines in MUTATIONS if name == file for old, _ in lines]
    assert {old: text.count(old) for old in lines if text.count(old) != 1} == {}


def test_their_tests_exist():
    named = {test for _, tests, _ in MUTATIONS for test in tests.split()}
    assert not [test for test in named if not (ROOT / f"tests/test_{test}.py").exists()]
