"""How prompts are read: plain prompts and skipped layers as diffusers has them, and the adapter."""

import pytest
import torch
from conftest import scramble
from folders import TEXT, write_tokenizer
from parity import TOLERANCE, error

from zs2.checkpoint.words import Words
from zs2.errors import InputError
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Tokenizer

SIZE = (64, 64)
PROMPTS = ["a red ball, in the grass", "x", ""]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two towers of ours, and transformers' with their tokenizer."""
    from transformers import CLIPTextConfig as TheirConfig
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    write_tokenizer(folder)
    towers, theirs = [], []
    for kind, width in ((CLIPTextModel, 32), (CLIPTextModelWithProjection, 40)):
        config = TEXT | {"num_hidden_layers": 4, "hidden_size": width, "projection_dim": 24}
        model = scramble(kind(TheirConfig(**config)), width)
        state = {
            k if k.startswith("text_") else f"text_model.{k}": v
            for k, v in model.state_dict().items()
            if not k.endswith("position_ids")
        }
        del config["bos_token_id"]
        own = CLIPText(CLIPTextConfig(**config), projected=width == 40)
        own.load_state_dict(state)
        towers.append(Tower(Tokenizer.load(folder), own.eval()))
        theirs.append(model)
    return towers, theirs, CLIPTokenizer.from_pretrained(folder, model_max_length=77)


@pytest.mark.parametrize("skip", [None, 1, 2, 3, 4])
@torch.inference_mode()
def test_diffusers_tells_one_tower_the_same(both, skip):
    """Their clip_skip counts the layers that are left out, from 0."""
    from diffusers import StableDiffusionPipeline

    towers, theirs, tokenizer = both
    pipe = StableDiffusionPipeline(
        None, theirs[0], tokenizer, None, None, None, None, requires_safety_checker=False
    )
    # Where diffusers looks for the norm; transformers 5 has it outside.
    object.__setattr__(theirs[0], "text_model", theirs[0])
    text = Text((towers[0],), skip=skip)
    clip_skip = None if skip is None else skip - 1
    expected, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False, clip_skip=clip_skip)
    assert error(text(PROMPTS, SIZE).prompt, expected) <= TOLERANCE


@pytest.mark.parametrize("skip", [None, 2, 3, 4])
@torch.inference_mode()
def test_diffusers_tells_two_towers_the_same(both, skip):
    """Here their clip_skip 0 is the layer before the last."""
    from diffusers import StableDiffusionXLPipeline

    towers, theirs, tokenizer = both
    pipe = StableDiffusionXLPipeline(None, *theirs, tokenizer, tokenizer, None, None)
    text = Text(tuple(towers), waves=8, skip=skip)
    options = {"clip_skip": None if skip is None else skip - 2}
    expected, _, pooled, _ = pipe.encode_prompt(
        PROMPTS, device="cpu", do_classifier_free_guidance=False, **options
    )
    told = text(PROMPTS, SIZE)
    assert error(told.prompt, expected) <= TOLERANCE
    assert error(told.added[:, :24], pooled) <= TOLERANCE


def test_words_change_how_a_prompt_is_read(random_pipe):
    weights = random_pipe.weights
    new = Words("comfy", 1)(weights)
    assert (new.text.weighting, new.text.skip) == ("comfy", 1)
    assert (Words(skip=1)(new).text.weighting, Words("plain")(new).text.skip) == ("comfy", 1)
    assert weights.text.weighting == "a1111"
    with pytest.raises(InputError, match=r"clip-skip 2 is beyond the text encoder's 1 layers"):
        Words(skip=2)(weights)
    with pytest.raises(InputError, match="counts from 1, the last layer, got 0"):
        Words(skip=0)
    with pytest.raises(InputError, match="a1111 or comfy or plain, not compel"):
        Words("compel")
