"""Prompt travel: the prompt changes over the clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.condition import as_long
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
        own = shot.branches[-1].condition
        if own.prompt.ndim == 4:
            raise ValueError("prompts travel once in a clip: put all of them into one plan")
        size = pipe.pixels(shot)
        told = {f: pipe.encode([text], size) for f, text in sorted(self.prompts.items())}
        points = {0: own} | told

        def path(parts: Sequence[Tensor]) -> Tensor:
            return travelled(dict(zip(points, parts, strict=True)), shot.frames, len(own.prompt))

        prompt = path(as_long([c.prompt for c in points.values()]))
        besides = [c.added for c in points.values() if c.added is not None]
        added = path(besides) if besides else None
        branches = tuple(
            replace(b, condition=replace(b.condition, prompt=prompt, added=added))
            if b.condition.prompt is own.prompt
            else b
            for b in shot.branches
        )
        plan = [[frame, text] for frame, text in sorted(self.prompts.items())]
        return replace(shot, branches=branches, settings=shot.with_settings(**{"prompt-at": plan}))


def travelled(points: Mapping[int, Tensor], frames: int, batch: int) -> Tensor:
    """Values [B, F, ..] from those at key frames, each [1 or B, ..]."""
    keys = sorted(points)
    path = []
    for frame in range(frames):
        before = max(k for k in keys if k <= frame)
        after = min((k for k in keys if k >= frame), default=before)
        share = (frame - before) / (after - before) if after > before else 0.0
        first, last = (points[key].expand(batch, *points[key].shape[1:]) for key in (before, after))
        path.append(first.lerp(last, share))
    return torch.stack(path, dim=1)
