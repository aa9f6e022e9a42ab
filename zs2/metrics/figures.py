"""Every figure of a clip, by its name."""

from torch import Tensor

from zs2.metrics import clip as by_clip
from zs2.metrics import differences, flow, structure
from zs2.models.clip import CLIP
from zs2.models.tokenizer import Tokenizer

MEANINGS = {
    "frames": "",
    "motion": "mean difference of neighbours, 0..255",
    "motion_mae": "the same of 4x4 means (from 256 pixels on), free of a GIF's dither",
    "net_change": "difference of the last frame to the first",
    "persistence": "cosine of successive differences: 1 moves on, below 0 goes to and fro",
    "flow": "mean length of optical flow, in pixels",
    "residual": "what flow leaves of the difference of neighbours, 0..255",
    "jumps": "share of neighbours where that is above 10",
    "tc": "temporal consistency of EIDT-V, less is better",
    "ms_ssim": "structure kept from frame to frame, 1 for a still",
    "temporal_flickering": "VBench's, 1 for a still",
    "appearance": "distance of colours to frame 1, 0 when kept",
    "lpips": "how unlike neighbours look, 0 for a still",
    "consistency_adjacent": "CLIP cosine of neighbours",
    "consistency_all_pairs": "CLIP cosine of all pairs",
    "clip_score": "",
}


def measured(frames: Tensor) -> dict[str, float]:
    """All that a clip's frames tell, uint8 [F, H, W, 3] with F above 1."""
    back, calm = flow.backwards(frames), differences.calm(frames)
    # A dither that stands still would be moved by every flow that is not quite 0.
    small = min(frames.shape[1:3]) < differences.LARGE
    left = flow.residuals(calm, back if small else flow.backwards(calm))
    return {
        "frames": len(frames),
        "motion": differences.motion(frames),
        "motion_mae": differences.motion_mae(frames),
        "net_change": differences.change(frames),
        "persistence": differences.persistence(frames),
        "flow": flow.size(back),
        "residual": float(left.mean()),
        "jumps": flow.jumps(left),
        "tc": flow.tc(frames, back),
        "ms_ssim": structure.ms_ssim(frames),
        "temporal_flickering": differences.flicker(frames),
        "appearance": differences.appearance_distance(frames),
    }


def seen(clip: tuple[CLIP, Tokenizer], frames: Tensor, prompt: str | None) -> dict[str, float]:
    """What a CLIP model sees of a clip."""
    model, tokenizer = clip
    vectors = by_clip.features(model, frames)
    figures = {
        "consistency_adjacent": by_clip.adjacent(vectors),
        "consistency_all_pairs": by_clip.all_pairs(vectors),
    }
    if prompt is not None:
        figures["clip_score"] = by_clip.score(model, tokenizer, vectors, prompt)
    return figures
