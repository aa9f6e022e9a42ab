"""Textual inversion: every form of file, against diffusers, and files of another kind or width."""

from dataclasses import replace

import pytest
import torch
from conftest import Letters, scramble
from folders import TEXT, write_tokenizer
from parity import TOLERANCE, error
from safetensors.torch import save_file

from zs2.checkpoint.embedding import Embedding, split_word
from zs2.checkpoint.load import load_weights
from zs2.errors import InputError
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Tokenizer

SIZE = (64, 64)
VECTORS = torch.randn(3, 32)


@pytest.fixture
def weights(random_pipe):
    return random_pipe.weights


@pytest.fixture
def file(tmp_path):
    """A file of some tensors."""

    def file(name: str = "My-Toy", **tensors: torch.Tensor):
        path = tmp_path / f"{name}.safetensors"
        save_file({k: v.clone() for k, v in tensors.items()}, path)
        return path

    return file


def two_towers(weights):
    config = weights.text.towers[0].encoder.config
    second = scramble(CLIPText(replace(config, hidden_size=40), projected=True), 5)
    towers = (*weights.text.towers, Tower(Letters(), second))
    return replace(weights, text=Text(towers, waves=8))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"<cat-toy>": VECTORS}, {"<cat-toy>": VECTORS}),
        ({"<cat-toy>": VECTORS[0]}, {"<cat-toy>": VECTORS[:1]}),
        ({"emb_params": VECTORS}, {"my-toy": VECTORS}),
        ({"sks": VECTORS}, {"my-toy": VECTORS}),
        ({"*": VECTORS[0]}, {"my-toy": VECTORS[:1]}),
        # cloneofsimo's, in the file of its LoRA.
        (
            {"<s1>": VECTORS[0], "<s2>": VECTORS[1], "unet:0:up": torch.ones(4, 1)},
            {"<s1>": VECTORS[:1], "<s2>": VECTORS[1:2]},
        ),
    ],
)
def test_every_form_is_read(weights, file, tensors, words):
    new = Embedding(file(**tensors))(weights)
    assert new.text.embeddings.keys() == words.keys()
    for word, vectors in words.items():
        [own] = new.text.embeddings[word]
        assert torch.equal(own, vectors)
    assert not weights.text.embeddings  # what came in is as it was


def test_two_encoders_take_two_tensors(weights, file):
    clip_g = torch.randn(3, 40)
    new = Embedding(file(clip_l=VECTORS, clip_g=clip_g))(two_towers(weights))
    first, second = new.text.embeddings["my-toy"]
    assert torch.equal(first, VECTORS)
    assert torch.equal(second, clip_g)
    assert new.text(["a my-toy"], SIZE).prompt.shape == (1, 16, 72)


def test_a_word_of_ones_own(weights, file):
    path = file(**{"<cat-toy>": VECTORS})
    for embedding in (Embedding(f"{path}:Toy"), Embedding(path, "Toy")):
        assert embedding(weights).text.embeddings.keys() == {"toy"}
        assert str(embedding) == f"{path}:Toy"
    assert split_word("C:\\a.safetensors") == ("C:\\a.safetensors", None)
    assert split_word(f"{path}") == (str(path), None)


def test_what_was_done_is_told_and_remembered(weights, file):
    path, other = file(**{"<a>": VECTORS}), file("b", emb_params=VECTORS)
    new = Embedding(f"{other}:toy")(Embedding(path)(weights))
    assert new.settings["embedding"] == [str(path), f"{other}:toy"]
    told = [str(receipt) for receipt in new.receipts]
    assert told[0] == f"{path}: a textual inversion, applied: 3 vectors of 32 for <a>"
    mixed = Embedding(file("m", **{"<s>": VECTORS, "unet:0:up": torch.ones(4, 1)}))(weights)
    assert "unused: unet:0:up" in str(mixed.receipts[0])


def test_its_words_are_in_the_encoders_precision(weights, file):
    encoder = scramble(CLIPText(weights.text.towers[0].encoder.config), 1).bfloat16()
    half = replace(weights, text=Text((Tower(Letters(), encoder),)))
    [vectors] = Embedding(file(emb_params=VECTORS))(half).text.embeddings["my-toy"]
    assert vectors.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"emb_params": torch.ones(2, 1024)}, r"for SD 2.x \(1024 wide\), and the model is .*32\)"),
        ({"emb_params": torch.ones(2, 768)}, r"is for SD 1.x \(768 wide\)"),
        (
            {"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)},
            r"is for SDXL \(768 and 1280 wide\)",
        ),
        ({"emb_params": torch.ones(15, 32)}, r"has 15 vectors: a word is 1..14"),
        ({"emb_params": torch.ones(0, 32)}, r"has 0 vectors"),
        ({"emb_params": VECTORS * torch.nan}, "emb_params holds NaN or Inf"),
        ({"emb_params": VECTORS.int()}, "stored as I32"),
    ],
)
def test_what_does_not_fit_is_refused(weights, file, tensors, words):
    path = file(**tensors)
    with pytest.raises(InputError, match=words) as caught:
        Embedding(path)(weights)
    assert str(path) in str(caught.value)


def test_two_towers_say_what_they_take(weights, file):
    model = two_towers(weights)
    with pytest.raises(InputError, match=r"\(32 wide\), and the model is SDXL \(32 and 40\)"):
        Embedding(file(emb_params=VECTORS))(model)
    with pytest.raises(InputError, match="has 1 and 3 vectors"):
        Embedding(file(clip_l=VECTORS, clip_g=torch.ones(1, 40)))(model)


def test_a_word_stands_for_one_embedding(weights, file):
    path = file(emb_params=VECTORS)
    with pytest.raises(InputError, match="my-toy stands for two embeddings"):
        Embedding(path)(Embedding(path)(weights))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_x.lora_down.weight": torch.ones(4, 8)}, "is a LoRA, not .* --lora"),
        ({"a": torch.ones(2, 2), "b": torch.ones(2, 2), "c": torch.ones(2, 2)}, "does not know"),
        ({"a": torch.ones(2, 768), "b": torch.ones(2, 768)}, "holds 2 tensors"),
        ({"a": torch.ones(2, 2, 2)}, "does not know"),
    ],
)
def test_files_of_another_kind_are_named(file, tensors, words):
    with pytest.raises(InputError, match=words):
        Embedding(file(**tensors))


def test_wrong_names_are_refused(file, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        Embedding(tmp_path / "nowhere")
    with pytest.raises(InputError, match="an empty name does not exist"):
        Embedding("")
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="pickle"):
        Embedding(tmp_path / "a.pt")
    with pytest.raises(InputError, match="'' is no word"):
        Embedding(f"{file(emb_params=VECTORS)}:")
    with pytest.raises(InputError, match="has words of its own, <a>, <b>"):
        Embedding(f"{file('two', **{'<a>': VECTORS, '<b>': VECTORS})}:toy")


def test_the_small_model_takes_its_own_words_under_another_name(file):
    """The vectors of two words, as if learnt: the same prompt, bit for bit, at any weight."""
    weights = load_weights()
    [tower] = weights.text.towers
    ids = [token.id for token in tower.tokenizer.tokens("red ball")]
    table = tower.encoder.text_model.embeddings.token_embedding.weight
    new = Embedding(file(**{"<thing>": table[ids]}))(weights)
    for one, other in (
        ("a small (red ball:1.2)", "a small (<Thing>:1.2)"),
        ("red ball", "<thing>"),
    ):
        assert torch.equal(new.text([one], SIZE).prompt, new.text([other], SIZE).prompt)


@torch.inference_mode()
def test_diffusers_encodes_the_same(weights, tmp_path, file):
    """Their tokens are new ids at the end of the vocabulary; ours are spliced in."""
    from diffusers.loaders import TextualInversionLoaderMixin
    from transformers import CLIPTextConfig as TheirConfig
    from transformers import CLIPTextModel, CLIPTokenizer

    write_tokenizer(tmp_path / "tokenizer")
    config = TEXT | {"num_hidden_layers": 3}
    theirs = scramble(CLIPTextModel(TheirConfig(**config)), 1)
    ours = CLIPText(CLIPTextConfig(**{k: v for k, v in config.items() if k != "bos_token_id"}))
    state = {k if k.startswith("text_model.") else f"text_model.{k}": v
             for k, v in theirs.state_dict().items() if not k.endswith("position_ids")}  # fmt: skip
    ours.load_state_dict(state)
    words = Tokenizer.load(tmp_path / "tokenizer")

    class Loader(TextualInversionLoaderMixin):
        def __init__(self) -> None:
            self.components = {}
            self.tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
            self.text_encoder, self.hf_device_map = theirs, None

    path = file(**{"<toy>": VECTORS})
    loader = Loader()
    loader.load_textual_inversion(path)
    text = Embedding(path)(replace(weights, text=Text((Tower(words, ours.eval()),)))).text
    for prompt in ("a <toy> on a beach", "<toy>", "two <toy>, <toy>"):
        ids = loader.tokenizer(
            loader.maybe_convert_prompt(prompt, loader.tokenizer),
            padding="max_length", max_length=77, return_tensors="pt",
        ).input_ids  # fmt: skip
        expected = theirs(ids)[0]
        assert error(text([prompt], SIZE).prompt, expected) <= TOLERANCE
        assert error(text(["a toy"], SIZE).prompt, expected) > 0.01
