"""Start from a picture or a video instead of noise alone (SDEdit, Meng et al. 2022)."""

from dataclasses import dataclass, replace

from torch import Tensor

from zs2.clip_file import OWN
from zs2.pipeline import Pipeline
from zs2.schedule import remaining
from zs2.shot import Shot
from zs2.shots.given import held


@dataclass(frozen=True)
class Init:
    """Noise the frames to a level between, with the clip's own correlated noise, and sample on.

    Attributes:
        frames: uint8 [F, H, W, 3] of the clip's size; a single one is held for the whole clip.
        strength: share of the steps that are run, above 0 to 1: how much may change.

    Raises:
        ValueError: the strength leaves no step, the frames do not fit the clip, or a feature before
            this one has chosen another start.
    """

    frames: Tensor
    strength: float = 0.6

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        shot.check_start("a picture or video to start from")
        levels = remaining(shot.levels, self.strength)
        z, a = held(pipe, shot, self.frames), levels[0].alpha_bar

        def start(start: int, stop: int) -> Tensor:
            return a**0.5 * z[:, start:stop] + (1 - a) ** 0.5 * shot.noise(start, stop)  # Eq. 3

        told = shot.with_settings(init=OWN, strength=self.strength)
        return replace(shot, start=start, levels=levels, settings=told)
