"""Ids against transformers' CLIPTokenizer, built from the same vocabulary, and damaged files."""

import gzip
import json
import os
import warnings
from pathlib import Path

import pytest
import torch

from zs2.errors import InputError
from zs2.models.tokenizer import END, START, Tokenizer

pytest.importorskip("tokenizers", reason="the text library is not installed")

OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
OPENAI = Path(__file__).parents[2] / "shared/data/clip-bpe" / OPENAI_FILE
SMALL_MERGES = ["c a", "ca t</w>", "d o", "do g</w>", "' s</w>", "! !</w>", "# #</w>"]
PROMPTS = [
    "a cat",
    "",
    " ",
    "A Cat, a DOG; wow!!! (really) -- #1 ## $5.00",
    "caf\u00e9 na\u00efve \u00fcber",
    "cafe\u0301 nai\u0308ve",
    "two  spaces\tone tab\nnew line\r\n\u00a0\u3000wide\u2028end \x1c\x85.",
    "it's I'LL we're they've I'm he'd don't 'quoted'",
    "room 101, 2024, \u00bd \u2461 \u0663",
    "\U0001f408 \U0001f408\u200d\u2b1b \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\u732b\u304c\u6b69\u304f \uace0\uc591\uc774",
    "\u0130stanbul Stra\u00dfe \u1e9e \u03a3\u03c2",
    "a \u200b\x00\ufffd z",
    "a<|endoftext|>b <|startoftext|> c",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0e20\u0e32\u0e29\u0e32 \u0639\u0631\u0628\u064a",
]


def openai_layout(file: Path) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges of OpenAI's file, as in openai/CLIP's simple_tokenizer.py."""
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in codes] + [chr(256 + i) for i in range(256 - len(codes))]
    merges = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [merge for merge in merges if merge]
    words = [merge.replace(" ", "") for merge in merges]
    tokens = letters + [letter + "</w>" for letter in letters] + words + [START, END]
    return {token: i for i, token in enumerate(tokens)}, merges


def write_folder(folder: Path, vocabulary: dict[str, int], merges: list[str], pad: str) -> Path:
    """The layout of a Hugging Face tokenizer folder."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}))
    return folder


@pytest.fixture(scope="module")
def small_gz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in OpenAI's layout with seven merges."""
    file = tmp_path_factory.mktemp("small") / OPENAI_FILE
    file.write_bytes(gzip.compress("\n".join(["#version: 0.2", *SMALL_MERGES, ""]).encode()))
    return file


@pytest.fixture(scope="module", params=["small", "openai"])
def gz(request: pytest.FixtureRequest, small_gz: Path) -> Path:
    if request.param == "small":
        return small_gz
    if not OPENAI.exists():
        pytest.skip("OpenAI's vocabulary is not beside this checkout")
    return OPENAI


@pytest.fixture
def small(small_gz: Path, tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tokenizer", *openai_layout(small_gz), pad=END)


@pytest.mark.parametrize("pad", [END, "!"])
def test_ids_equal_transformers(gz: Path, tmp_path: Path, pad: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    folder = write_folder(tmp_path / "tokenizer", *openai_layout(gz), pad)
    oracle = transformers.CLIPTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.load(folder)
    long = "a cat and a dog, " * 30
    expected = oracle(PROMPTS, padding="max_length").input_ids
    expected += oracle([long], truncation=True).input_ids
    for prompt, row in zip(PROMPTS, expected, strict=False):
        assert len(row) <= 77, f"too long to compare: {prompt!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tokenizer.encode([*PROMPTS, long])
    assert ids.dtype == torch.int64
    assert ids.shape == (len(PROMPTS) + 1, 77)
    for prompt, row, want in zip([*PROMPTS, long], ids.tolist(), expected, strict=True):
        assert row == want, prompt


def test_sd_ids_of_a_known_prompt() -> None:
    if not OPENAI.exists():
        pytest.skip("OpenAI's vocabulary is not beside this checkout")
    # 320 a, 2368 cat: the ids of every SD 1.x tool.
    row = Tokenizer.load(OPENAI).encode(["a cat"])[0]
    assert row.tolist() == [49406, 320, 2368] + [49407] * 74


def test_small_vocabulary_by_hand(small: Path) -> None:
    vocabulary = json.loads((small / "vocab.json").read_text("utf-8"))
    want = [START, "cat</w>", "d", "o</w>", "dog</w>", "'s</w>", END]
    row = Tokenizer.load(small).encode(["Cat  DO\ndog's"])[0].tolist()
    assert row == [vocabulary[token] for token in want] + [vocabulary[END]] * 70


@pytest.mark.parametrize("merges_as", ["lines", "pairs"])
def test_every_layout_gives_the_same_ids(
    small: Path, small_gz: Path, tmp_path: Path, merges_as: str
) -> None:
    vocabulary, merges = openai_layout(small_gz)
    special = {token: vocabulary.pop(token) for token in (START, END)}
    content = {
        "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 99}, "pad_id": 3, "pad_token": "$"},
        "added_tokens": [{"content": token, "id": id} for token, id in special.items()],
        "model": {
            "type": "BPE",
            "end_of_word_suffix": "</w>",
            "vocab": vocabulary,
            "merges": [m.split() for m in merges] if merges_as == "pairs" else merges,
        },
    }
    one_file = tmp_path / "tokenizer.json"
    one_file.write_text(json.dumps(content), encoding="utf-8")
    prompts = [prompt for prompt in PROMPTS if len(prompt) < 20]
    want = Tokenizer.load(small).encode(prompts)
    for path in (one_file, tmp_path, small / "vocab.json", small_gz, small_gz.parent):
        assert torch.equal(Tokenizer.load(path).encode(prompts), want), path


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("pad", ["!", {"content": "!", "special": True}])
def test_pad_token_and_length_come_from_the_settings(small: Path, name: str, pad: object) -> None:
    (small / "special_tokens_map.json").unlink()
    (small / name).write_text(json.dumps({"pad_token": pad, "model_max_length": 8}))
    row = Tokenizer.load(small).encode(["cat"])[0].tolist()
    end = Tokenizer.load(small / "vocab.json").encode([""])[0, 1].item()
    assert row[2:] == [end, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("settings", [{}, {"model_max_length": int(1e30), "pad_token": None}])
def test_clip_defaults_where_settings_say_nothing(small: Path, settings: dict[str, object]) -> None:
    (small / "special_tokens_map.json").unlink()
    (small / "tokenizer_config.json").write_text(json.dumps(settings))
    row = Tokenizer.load(small).encode([""])[0].tolist()
    assert row == [row[0]] + [row[1]] * 76
    assert row[1] == row[0] + 1


def test_no_prompts(small: Path) -> None:
    assert Tokenizer.load(small).encode([]).shape == (0, 77)


def test_long_prompts_warn_once_each_with_the_text_that_was_lost(small: Path) -> None:
    tokenizer = Tokenizer.load(small)
    fits = "cat " * 75
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            tokenizer.encode([fits])[0, -2:].tolist() == tokenizer.encode(["cat"])[0, 1:3].tolist()
        )
    with pytest.warns(UserWarning, match="holds 75 tokens") as caught:
        ids = tokenizer.encode([fits + "DOG caf\u00e9", "cat", fits + " do"])
    assert [str(w.message).split("ignored: ")[1] for w in caught] == [repr("DOG caf\u00e9"), "'do'"]
    assert torch.equal(ids[0], tokenizer.encode([fits])[0])


def test_unknown_letters_become_the_end_token() -> None:
    tokenizer = Tokenizer({START: 0, END: 1, "a</w>": 2}, merges=[], length=6)
    assert tokenizer.encode(["a ! a"]).tolist() == [[0, 2, 1, 2, 1, 1]]


def test_prompt_that_is_no_unicode(small: Path) -> None:
    with pytest.raises(InputError, match=r"prompt 'a.udc80' is not valid Unicode"):
        Tokenizer.load(small).encode(["a\udc80"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", b"{"),
        ("vocab.json", b"[1, 2]"),
        ("vocab.json", b'{"a": 0}'),
        ("vocab.json", b'{"<|startoftext|>": "x", "<|endoftext|>": null}'),
        ("merges.txt", b"#version: 0.2\nc a t\n"),
        ("merges.txt", b"#version: 0.2\nno such\n"),
        ("merges.txt", b"\xff\xfe"),
        ("tokenizer_config.json", b"\xff"),
        ("tokenizer_config.json", b'{"model_max_length": "77"}'),
        ("special_tokens_map.json", b'{"pad_token": "[PAD]"}'),
        ("special_tokens_map.json", b'{"pad_token": {"id": 0}}'),
        ("tokenizer.json", b'{"model": {}}'),
        ("tokenizer.json", b'{"model": {"end_of_word_suffix": "</w>"}}'),
        (OPENAI_FILE, b"no gzip at all"),
        (OPENAI_FILE, gzip.compress(b"a b\n" * 99, mtime=0)[:-9]),
        (OPENAI_FILE, gzip.compress(b"#version\nc a\n", mtime=0)[:10] + b"\xff" * 20),
    ],
)
def test_damaged_files_are_named(small: Path, name: str, content: bytes) -> None:
    (small / name).write_bytes(content)
    path = small / name if name == OPENAI_FILE else small
    with pytest.raises(InputError) as caught:
        Tokenizer.load(path)
    assert str(small) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_kinds_of_tokenizer_are_refused(small: Path) -> None:
    vocabulary = json.loads((small / "vocab.json").read_text("utf-8"))
    model = {"vocab": vocabulary, "merges": [], "end_of_word_suffix": None}
    (small / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(InputError, match=r"tokenizer\.json is no CLIP.* do not end in </w>"):
        Tokenizer.load(small)


def test_missing_files_are_named(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no CLIP tokenizer: put one of tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (small / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges\.txt"):
        Tokenizer.load(small)


def test_a_vocabulary_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / OPENAI_FILE
    with gzip.open(file, "wb") as packed:
        for _ in range(34):
            packed.write(bytes(2**20))
    with pytest.raises(InputError, match="holds more than 33,554,432 bytes"):
        Tokenizer.load(tmp_path)


def test_a_pipe_is_not_waited_for(small: Path) -> None:
    (small / "merges.txt").unlink()
    os.mkfifo(small / "merges.txt")
    with pytest.raises(InputError, match="no regular file"):
        Tokenizer.load(small)


def test_a_prompt_of_a_billion_tokens(small: Path) -> None:
    (small / "tokenizer_config.json").write_text('{"model_max_length": 1000000000}')
    with pytest.raises(InputError, match=r"has 2\.\.65536 tokens .* got 1000000000"):
        Tokenizer.load(small)


def test_of_a_long_text_the_beginning_is_told(small: Path) -> None:
    tokenizer = Tokenizer.load(small)
    with pytest.warns(UserWarning, match="ignored: 'x") as caught:
        tokenizer.encode(["x" * 10**5])
    with pytest.raises(InputError, match="not valid Unicode") as refused:
        tokenizer.encode(["x" * 10**5 + "\udc80"])
    assert len(str(caught[0].message)) < 300
    assert len(str(refused.value)) < 300
