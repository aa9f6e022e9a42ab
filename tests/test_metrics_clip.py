"""CLIP score and consistency against transformers' model and torchmetrics' formula."""

import pytest
import torch

from zs2.checkpoint.load import load_clip
from zs2.metrics import clip as by_clip
from zs2.weights import SMALL

FRAMES = torch.randint(256, (3, 128, 128, 3), generator=torch.Generator().manual_seed(1)).byte()


@pytest.fixture(scope="module")
def small():
    return load_clip(SMALL / "clip")


@pytest.fixture(scope="module")
def theirs():
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(SMALL / "clip").float().eval()
    words = transformers.CLIPTokenizer.from_pretrained(SMALL / "tokenizer")
    return model, words


def test_the_score_is_torchmetrics_on_the_same_weights(small, theirs):
    pytest.importorskip("torchmetrics")
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    model, words = theirs
    side = model.config.vision_config.image_size

    class Model:
        """Newer transformers give more than the vectors."""

        device, config = model.device, model.config

        def to(self, _):
            return self

        def get_image_features(self, *given):
            found = model.get_image_features(*given)
            return getattr(found, "pooler_output", found)

        def get_text_features(self, *given):
            found = model.get_text_features(*given)
            return getattr(found, "pooler_output", found)

    class Processor:
        """As transformers' own, for pictures that have the model's size already."""

        def __call__(self, text=None, images=None, **_):
            told = {}
            if text is not None:
                told = dict(words(text, padding="max_length", max_length=77, return_tensors="pt"))
            if images is not None:
                from zs2.models.clip import normed

                told["pixel_values"] = normed(torch.stack(list(images)).float() / 255)
            return told

    assert side == FRAMES.shape[1]
    prompt = "two big blue stars at night"
    pictures = list(FRAMES.permute(0, 3, 1, 2))
    expected, _ = _clip_score_update(pictures, [prompt] * 3, Model(), Processor())
    seen = by_clip.features(small[0], FRAMES)
    assert by_clip.score(*small, seen, prompt) == pytest.approx(
        float(expected.mean().clamp(min=0)), abs=1e-3
    )


def test_frames_that_show_the_opposite_count_against_a_clip(small):
    """torchmetrics clamps the mean, not each frame."""
    model, tokenizer = small
    prompt = "two big blue stars at night"
    text = model.encode_text(tokenizer.encode([prompt]))
    assert by_clip.score(model, tokenizer, torch.cat((text, -text / 2)), prompt) == pytest.approx(
        25
    )
    assert by_clip.score(model, tokenizer, -text, prompt) == 0


def test_consistency_by_hand():
    seen = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]])
    assert by_clip.adjacent(seen) == pytest.approx((0 + 0.8) / 2)
    assert by_clip.all_pairs(seen) == pytest.approx((0 + 0.8 + 0.6) / 3)


def test_frames_are_cropped_to_a_square(small):
    wide = torch.cat([torch.zeros_like(FRAMES), FRAMES, torch.zeros_like(FRAMES)], dim=2)
    torch.testing.assert_close(
        by_clip.features(small[0], wide), by_clip.features(small[0], FRAMES), rtol=1e-4, atol=1e-5
    )
