"""What the UNet is told of a prompt, against transformers' text encoders."""

import warnings
from dataclasses import replace

import pytest
import torch
from conftest import Letters
from parity import EXACT, error, scramble
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.layers import waves
from zs2.models.text import WEIGHTINGS, Text, Tower
from zs2.models.tokenizer import Token

SIZE = (96, 64)
CONFIG = {
    "vocab_size": 64,
    "max_position_embeddings": 16,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "eos_token_id": 63,
    "projection_dim": 24,
}


def tower(seed: int, projected: bool, **config) -> tuple[Tower, CLIPTextModel]:
    config = CONFIG | config
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    theirs = scramble(kind(TheirTextConfig(**config)), seed).double()
    ours = CLIPText(CLIPTextConfig(**config), projected).double()
    state = {
        k if k.startswith(("text_model.", "text_projection.")) else f"text_model.{k}": v
        for k, v in theirs.state_dict().items()
        if not k.endswith("position_ids")
    }
    ours.load_state_dict(state)
    return Tower(Letters(), ours), theirs


@torch.inference_mode()
def test_one_tower_gives_its_last_layer_normed():
    ours, theirs = tower(1, projected=False)
    told = Text((ours,))(["a ball", "x"], SIZE)
    expected = theirs(Letters().encode(["a ball", "x"])).last_hidden_state
    assert error(told.prompt, expected) <= EXACT
    assert told.added is None
    assert (
        error(Text((ours,)).nothing(2, SIZE).prompt, theirs(Letters().encode(["", ""]))[0]) <= EXACT
    )


@pytest.fixture(scope="module")
def two():
    """SDXL's, of two widths."""
    first, second = tower(1, projected=False), tower(2, projected=True, hidden_size=40)
    return Text((first[0], second[0]), waves=8), (first[1], second[1])


@torch.inference_mode()
def test_two_towers_give_the_layer_before_the_last_of_both(two):
    ours, theirs = two
    told = ours(["a ball", "x"], SIZE)
    ids = Letters().encode(["a ball", "x"])
    seen = [model(ids, output_hidden_states=True) for model in theirs]
    expected = torch.cat([s.hidden_states[-2] for s in seen], dim=-1)
    assert error(told.prompt, expected) <= EXACT
    assert error(told.added[:, :24], seen[1].text_embeds) <= EXACT


@torch.inference_mode()
def test_sizes_are_told_as_height_and_width(two):
    told = two[0](["a ball", "x"], SIZE).added[:, 24:]
    expected = waves(torch.tensor([64, 96, 0, 0, 64, 96]), 8).flatten()
    assert torch.equal(told, expected.double().expand(2, -1))


@torch.inference_mode()
def test_nothing_is_zeros_and_the_size(two):
    nothing, empty = two[0].nothing(2, SIZE), two[0]([""] * 2, SIZE)
    assert nothing.prompt.shape == empty.prompt.shape
    assert nothing.added.shape == empty.added.shape
    assert not nothing.prompt.any()
    assert not nothing.added[:, :24].any()
    assert torch.equal(nothing.added[:, 24:], empty.added[:, 24:])
    assert empty.prompt.any()


LETTERS = Letters()


def rows(*texts: str) -> torch.Tensor:
    return LETTERS.encode(list(texts))


def by_hand(hidden: torch.Tensor, weights: list[float], empty: torch.Tensor | None):
    """A chunk [1, 16, D] whose letters have these weights, from the formulas."""
    w = torch.ones(16, 1)
    w[1 : 1 + len(weights), 0] = torch.tensor(weights)
    if empty is not None:
        return empty + w * (hidden - empty)
    return hidden * w * (hidden.mean() / (hidden * w).mean())


@pytest.mark.parametrize("weighting", ["a1111", "comfy"])
@torch.inference_mode()
def test_weights_are_applied_chunk_by_chunk(weighting):
    ours, theirs = tower(1, projected=False)
    told = Text((ours,), weighting=weighting)(["ab(cd:1.4) BREAK [e]f", "x"], SIZE).prompt
    first, second, x, empty = theirs(rows("abcd", "ef", "x", "")).last_hidden_state.split(1)
    empty = empty if weighting == "comfy" else None
    expected = [by_hand(first, [1, 1, 1.4, 1.4], empty), by_hand(second, [1 / 1.1, 1], empty)]
    assert told.shape == (2, 32, 32)
    assert error(told[:1], torch.cat(expected, 1)) <= EXACT
    assert error(told[1:], torch.cat([x, x], 1)) <= EXACT  # as long, by being told again


@pytest.mark.parametrize("weighting", ["a1111", "comfy"])
@torch.inference_mode()
def test_each_of_two_towers_is_weighted_by_itself(two, weighting):
    ours, theirs = two
    told = replace(ours, weighting=weighting)(["ab(cd:1.4) BREAK e"], SIZE)
    parts, pooled = [], None
    for model in theirs:
        seen = model(rows("abcd", "e", ""), output_hidden_states=True)
        first, second, empty = seen.hidden_states[-2].split(1)
        first = by_hand(first, [1, 1, 1.4, 1.4], empty if weighting == "comfy" else None)
        parts.append(torch.cat([first, second], 1))
    pooled = seen.text_embeds[:1]  # of the first chunk, and not weighted
    assert error(told.prompt, torch.cat(parts, -1)) <= EXACT
    assert error(told.added[:, :24], pooled) <= EXACT


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@torch.inference_mode()
def test_a_prompt_without_brackets_is_the_same_in_all(two, weighting):
    for text in (two[0], Text(two[0].towers[:1])):
        one, other = (t(["ball", "x"], SIZE) for t in (text, replace(text, weighting=weighting)))
        assert torch.equal(one.prompt, other.prompt)
        assert one.added is None or torch.equal(one.added, other.added)


@torch.inference_mode()
def test_plain_takes_brackets_for_characters():
    ours, theirs = tower(1, projected=False)
    told = Text((ours,), weighting="plain")(["(a:1.3) [b:c:1]"[:14]], SIZE).prompt
    assert error(told, theirs(rows("(a:1.3) [b:c:1"))[0]) <= EXACT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Text((ours,), weighting="plain")(["a AND [b|c]"], SIZE)
    with pytest.warns(UserWarning, match="ignored: 'long'"):
        cut = Text((ours,), weighting="plain")(["(a) BREAK too long"], SIZE)
    assert cut.prompt.shape == (1, 16, 32)


@torch.inference_mode()
def test_a_prompt_in_a_batch_is_what_it_is_alone(two):
    prompts = ["(ab) BREAK c", "d", "e BREAK f BREAK g"]
    batch = two[0](prompts, SIZE)
    assert batch.prompt.shape[1] == 6 * 16
    for i, prompt in enumerate(prompts):
        alone = two[0]([prompt], SIZE)
        times = 96 // alone.prompt.shape[1]
        assert error(batch.prompt[i], alone.prompt[0].repeat(times, 1)) <= EXACT
        assert error(batch.added[i], alone.added[0]) <= EXACT


@pytest.mark.parametrize("skip", [1, 2, 3])
@torch.inference_mode()
def test_a_layer_from_the_end_normed_for_one_tower_and_not_for_two(two, skip):
    ours, theirs = two
    one = Text(ours.towers[:1], skip=skip)(["a ball"], SIZE).prompt
    seen = [m(rows("a ball"), output_hidden_states=True) for m in theirs]
    norm = getattr(theirs[0], "text_model", theirs[0]).final_layer_norm
    assert error(one, norm(seen[0].hidden_states[-skip])) <= EXACT
    both = replace(ours, skip=skip)(["a ball"], SIZE)
    assert error(both.prompt, torch.cat([s.hidden_states[-skip] for s in seen], -1)) <= EXACT
    assert error(both.added[:, :24], seen[1].text_embeds) <= EXACT


@torch.inference_mode()
def test_embeddings_stand_where_their_word_does(two):
    """Against transformers, given the vectors as input embeddings in place of some letters."""
    ours, theirs = two
    vectors = tuple(torch.randn(2, t.encoder.config.hidden_size).double() for t in ours.towers)
    text = replace(ours, embeddings={"toy": vectors})
    told = text(["a TOY"], SIZE)
    for i, model in enumerate(theirs):
        table = model.get_input_embeddings().weight
        before = table[[1, 2]].clone()
        table[[1, 2]] = vectors[i]
        ids = torch.tensor([LETTERS.row([*LETTERS.tokens("a "), Token(1), Token(2)])])
        seen = model(ids, output_hidden_states=True)
        table[[1, 2]] = before
        start = [0, 32][i]
        width = vectors[i].shape[1]
        assert error(told.prompt[..., start : start + width], seen.hidden_states[-2]) <= EXACT
    assert error(told.added[:, :24], seen.text_embeds) <= EXACT


def test_what_cannot_be_told_is_refused(two):
    text = two[0]
    with pytest.raises(ValueError, match="change while sampling"):
        text(["a [b:c:2]"], SIZE)
    with pytest.raises(ValueError, match=r"embedding:toy is not loaded: .* --embedding"):
        text(["a embedding:toy, b"], SIZE)
    with pytest.raises(ValueError, match="a prompt of 5008 tokens is too long"):
        text(["a BREAK " * 313], SIZE)
    with pytest.raises(ValueError, match=r"of 272 and 304 tokens .* BREAK"):
        text(["a BREAK " * 17, "a BREAK " * 19], SIZE)
    with pytest.warns(UserWarning, match="AND joins no prompts"):
        text(["a AND b"], SIZE)
