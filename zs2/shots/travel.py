"""Prompt travel: the prompt changes over the clip."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.pipeline import Pipeline
from zs2.shot import Shot


@dataclass(frozen=True)
class Travel:
    """Embeddings on straight lines between the prompts of key frames; constant after the last.

    Attributes:
        prompts: text by frame, from 0; the clip's own prompt stands at frame 0 unless told.

    Raises:
        ValueError: no prompt, or a frame outside the clip.
    """

    prompts: Mapping[int, str]

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        if not self.prompts:
            raise ValueError("prompt travel needs at least one prompt to travel to")
        for frame in self.prompts:
            if not 0 <= frame < shot.frames:
                raise ValueError(f"a prompt at frame {frame}: the clip has 0..{shot.frames - 1}")
        own = shot.branches[-1].condition.prompt  # (B, 77, D)
        if own.ndim == 4:
            raise ValueError("prompts travel once in a clip: put all of them into one plan")
        points = {0: own} | {f: pipe.encode([text]) for f, text in sorted(self.prompts.items())}
        path = travelled(points, shot.frames, len(own))
        branches = tuple(
            replace(b, condition=replace(b.condition, prompt=path))
            if b.condition.prompt is own
            else b
            for b in shot.branches
        )
        plan = [[frame, text] for frame, text in sorted(self.prompts.items())]
        return replace(shot, branches=branches, settings=shot.with_settings(**{"prompt-at": plan}))


def travelled(points: Mapping[int, Tensor], frames: int, batch: int) -> Tensor:
    """Embeddings [B, F, 77, D] from those at key frames, each [1 or B, 77, D]."""
    keys = sorted(points)
    path = []
    for frame in range(frames):
        before = max(k for k in keys if k <= frame)
        after = min((k for k in keys if k >= frame), default=before)
        share = (frame - before) / (after - before) if after > before else 0.0
        first, last = (points[key].expand(batch, -1, -1) for key in (before, after))
        path.append(first.lerp(last, share))
    return torch.stack(path, dim=1)
