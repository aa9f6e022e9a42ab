"""What a CLIP model sees in a clip: whether it shows its prompt, and stays the same."""

import torch
from torch import Tensor

from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer
from zs2.resize import covering

FORMULA = "100 max(mean cos(image, text), 0)"


def named(clip: CLIP) -> str:
    """A model as its scores have to name it."""
    told = clip.vision_config
    return (
        f"ViT of {told.num_hidden_layers} layers of {told.hidden_size}, patches of "
        f"{told.patch_size} of {told.image_size} pixels"
    )


@torch.inference_mode()
def features(clip: CLIP, frames: Tensor) -> Tensor:
    """Unit vectors [F, P] of uint8 frames [F, H, W, 3], cropped to a square as CLIP was trained."""
    side = clip.vision_config.image_size
    device = clip.logit_scale.device
    squares = (covering(x[None], side, side).permute(0, 3, 1, 2) for x in frames)
    return torch.cat([clip.encode_image(x.to(device) / 127.5 - 1) for x in squares])


@torch.inference_mode()
def score(clip: CLIP, tokenizer: Tokenizer, seen: Tensor, prompt: str) -> float:
    """CLIP score of frames' vectors [F, P]: 0..100, by the formula of torchmetrics.

    Models differ by 10 points: only scores of the same one can be compared.
    """
    text = clip.encode_text(tokenizer.encode([prompt]).to(seen.device))  # (1, P)
    return float(100 * (seen @ text.T).mean().clamp(min=0))


def adjacent(seen: Tensor) -> float:
    """Frame consistency as FateZero has it: the mean cosine of neighbours' vectors [F, P]."""
    return float((seen[1:] * seen[:-1]).sum(-1).mean())


def all_pairs(seen: Tensor) -> float:
    """Frame consistency as LOVEU has it: the mean cosine of all pairs of vectors [F, P]."""
    cosines = seen @ seen.T
    n = len(seen)
    return float((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1)))
