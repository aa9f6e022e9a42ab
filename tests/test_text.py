"""What the UNet is told of a prompt, against transformers' text encoders."""

import pytest
import torch
from conftest import Letters
from parity import EXACT, error, scramble
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.layers import waves
from zs2.models.text import Text, Tower

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
