"""A part of the damaged files of tests/fuzz.py; the rest are run by hand."""

import pytest

pytest.importorskip("av", reason="the media libraries are not installed")
pytest.importorskip("PIL", reason="the media libraries are not installed")

import fuzz


def test_damaged_files_are_read_or_refused():
    failures, count, _ = fuzz.run(range(2000))
    assert [f"case {f.case}, {f.kind}: {f.what}" for f in failures] == []
    assert min(count[kind] for kind in fuzz.KINDS) > 200


def test_whole_files_are_read(tmp_path, monkeypatch):
    """Or the cases would all be refused for a fault of their own."""
    monkeypatch.setattr(fuzz, "damage", lambda content, rng: content)
    monkeypatch.setattr(fuzz, "damage_json", lambda content, rng: content)
    seeds = fuzz.Seeds(tmp_path)
    refused = []
    monkeypatch.setattr(fuzz, "_refused", lambda read, path: read(path))
    for kind, case in fuzz.KINDS.items():
        for i in range(20):
            try:
                case(seeds, fuzz.random.Random(i))
            except fuzz.InputError as error:
                refused.append((kind, str(error)))
    assert refused == []
