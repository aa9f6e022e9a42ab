"""Both CLIP towers against transformers'."""

import pytest
import torch
from parity import SD15_TEXT, SD21_TEXT, TOLERANCE, error, scramble
from transformers import CLIPConfig, CLIPModel, CLIPTextModel
from transformers import CLIPTextConfig as TheirTextConfig

from zs2.models.clip import CLIP, CLIPText, CLIPTextConfig, CLIPVisionConfig

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4}


@torch.inference_mode()
def compare_text(config: dict) -> float:
    theirs = scramble(CLIPTextModel(TheirTextConfig(**config)))
    with torch.device("meta"):
        ours = CLIPText(CLIPTextConfig(**config))
    state = {k.removeprefix("text_model."): v for k, v in theirs.state_dict().items()}
    state.pop("embeddings.position_ids", None)
    ours.text_model.load_state_dict(state, assign=True)
    ids = torch.randint(config["vocab_size"], (3, 77), generator=torch.Generator().manual_seed(1))
    return error(ours(ids), theirs(ids).last_hidden_state)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_small_text_encoder(act):
    config = {**SMALL, "vocab_size": 500, "hidden_act": act, "eos_token_id": 499}
    assert compare_text(config) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("config", [SD15_TEXT, SD21_TEXT], ids=["1.5", "2.1"])
def test_real_text_encoders(config):
    assert compare_text(config) <= TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("eos", [2, 490])
def test_texts_and_pictures_to_unit_vectors(eos):
    text = {**SMALL, "vocab_size": 500, "eos_token_id": eos, "bos_token_id": 0}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    theirs = scramble(
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=48))
    )
    text.pop("bos_token_id")
    with torch.device("meta"):
        ours = CLIP(CLIPTextConfig(**text), CLIPVisionConfig(**vision), 48)
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("position_ids")}
    ours.load_state_dict(state, assign=True)

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 490, (3, 77), generator=generator)
    ids[0, 9:], ids[1, 30:], ids[2, 76:] = 490, 490, 490  # the highest id, then its padding
    pixels = torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CLIP.MEAN, CLIP.STD))
    theirs_out = theirs(input_ids=ids, pixel_values=((pixels + 1) / 2 - mean) / std)
    assert error(ours.encode_text(ids), theirs_out.text_embeds) <= TOLERANCE
    assert error(ours.encode_image(pixels), theirs_out.image_embeds) <= TOLERANCE
    assert ours.encode_image(torch.zeros(2, 3, 50, 70)).shape == (2, 48)


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="relu"):
        CLIPText(CLIPTextConfig(hidden_act="relu"))
