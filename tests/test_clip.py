"""Both CLIP towers against transformers'."""

import numpy
import pytest
import torch
from parity import EXACT, SD15_TEXT, SD21_TEXT, TOLERANCE, error, scramble
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    CLIPVisionModelWithProjection,
)
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPVisionConfig as TheirVisionConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from zs2.models.clip import CLIP, CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4}


@torch.inference_mode()
def compare_text(config: dict, dtype: torch.dtype = torch.float64) -> float:
    theirs = scramble(CLIPTextModel(TheirTextConfig(**config))).to(dtype)
    with torch.device("meta"):
        ours = CLIPText(CLIPTextConfig(**config))
    state = {k.removeprefix("text_model."): v for k, v in theirs.state_dict().items()}
    state.pop("embeddings.position_ids", None)
    ours.text_model.load_state_dict(state, assign=True)
    ids = torch.randint(config["vocab_size"], (3, 77), generator=torch.Generator().manual_seed(1))
    return error(ours(ids), theirs(ids).last_hidden_state)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_small_text_encoder(act, eps):
    config = {**SMALL, "vocab_size": 500, "hidden_act": act, "eos_token_id": 499}
    assert compare_text({**config, "layer_norm_eps": eps}) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("config", [SD15_TEXT, SD21_TEXT], ids=["1.5", "2.1"])
def test_real_text_encoders(config):
    assert compare_text(config, torch.float32) <= TOLERANCE


def towers(eos: int, eps: float = 1e-5) -> tuple[CLIP, CLIPModel]:
    text = {**SMALL, "vocab_size": 500, "eos_token_id": eos, "bos_token_id": 0}
    vision = {**SMALL, "image_size": 32, "patch_size": 8, "layer_norm_eps": eps}
    text["layer_norm_eps"] = eps
    theirs = scramble(
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=48))
    ).double()
    text.pop("bos_token_id")
    with torch.device("meta"):
        ours = CLIP(CLIPTextConfig(**text), CLIPVisionConfig(**vision), 48)
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("position_ids")}
    ours.load_state_dict(state, assign=True)
    return ours, theirs


@torch.inference_mode()
# 2 stands for the highest id; 7 is an end token that is not it.
@pytest.mark.parametrize(("eos", "end"), [(2, 490), (490, 490), (7, 7)])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_texts_and_pictures_to_unit_vectors(eos, end, eps):
    ours, theirs = towers(eos, eps)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(8, 490, (3, 77), generator=generator)
    ids[0, 9:], ids[1, 30:], ids[2, 76:] = end, end, end  # and its padding
    pixels = (torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1).double()
    mean, std = (
        torch.tensor(v).double().view(3, 1, 1) for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    theirs_out = theirs(input_ids=ids, pixel_values=((pixels + 1) / 2 - mean) / std)
    assert error(ours.encode_text(ids), theirs_out.text_embeds) <= EXACT
    assert error(ours.encode_image(pixels), theirs_out.image_embeds) <= EXACT


@torch.inference_mode()
@pytest.mark.parametrize("size", [(50, 70), (20, 64)])
def test_pictures_of_other_sizes_are_resized_as_clips_were_for_its_training(size):
    """With Pillow's bicubic filter, wide where it makes smaller; what overshoots is cut off."""
    ours, _ = towers(2)
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)).round() * 2 - 1
    resized = [
        Image.fromarray(channel.numpy()).resize((32, 32), Image.Resampling.BICUBIC)
        for channel in pixels[0]
    ]
    expected = torch.stack([torch.from_numpy(numpy.array(channel)) for channel in resized])[None]
    assert expected.abs().max() > 1.05
    made, wanted = (ours.encode_image(x.double()) for x in (pixels, expected.clamp(-1, 1)))
    assert error(made, wanted) <= 1e-5  # Pillow's sums are float32


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="relu"):
        CLIPText(CLIPTextConfig(hidden_act="relu"))


@torch.inference_mode()
def test_the_image_encoder_alone():
    """As IP-Adapters take it: the projected vector, and what the last layer is given."""
    config = {
        **SMALL,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 48,
        "hidden_act": "gelu",
    }
    theirs = scramble(CLIPVisionModelWithProjection(TheirVisionConfig(**config))).double()
    with torch.device("meta"):
        ours = CLIPVision(CLIPVisionConfig(**config))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    expected = theirs(pixels, output_hidden_states=True)
    assert error(ours(pixels), expected.image_embeds) <= EXACT
    assert error(ours.hidden(pixels), expected.hidden_states[-2]) <= EXACT


@pytest.mark.parametrize("size", [(48, 48), (100, 60), (33, 95), (32, 32), (20, 31)])
def test_pictures_for_the_encoder_are_prepared_as_it_was_trained(size):
    """Resized, cropped and normed as by transformers' processor, which rounds twice with Pillow."""
    config = CLIPVisionConfig(**SMALL, image_size=32, patch_size=8)
    # Without the ends, where Pillow cuts off what overshoots twice.
    picture = torch.randint(64, 192, (*size, 3), generator=torch.Generator().manual_seed(1)).byte()
    processor = CLIPImageProcessor(size=32, crop_size=32)
    theirs = processor(images=[Image.fromarray(picture.numpy())], return_tensors="pt").pixel_values
    off = (CLIPVision(config).prepare(picture[None]) - theirs).abs() * 255 * 0.27
    assert off.max() <= 2
    assert off.mean() <= 0.5
