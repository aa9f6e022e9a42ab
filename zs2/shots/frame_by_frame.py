"""The image model frame by frame: the rival that the paper's Table 1 calls DDIM."""

from dataclasses import dataclass, replace

from zs2.attention import FrameAttention
from zs2.noise import IndependentNoise
from zs2.noise_camera import CameraNoise
from zs2.pipeline import Pipeline
from zs2.settings import of_method
from zs2.shot import Noise, Shot


@dataclass(frozen=True)
class FrameByFrame:
    """Every frame is a picture of its own: independent noise, and no shared attention.

    Raises:
        ValueError: a feature before this one has chosen what sampling starts from.
    """

    def __call__(self, pipe: Pipeline, shot: Shot) -> Shot:
        shot.check_start("frames that are sampled one by one")
        noise = independent(shot)
        return replace(
            shot,
            start=noise,
            noise=noise,
            attention=FrameAttention(0),
            settings=told_as(shot, "ddim"),
        )


def independent(shot: Shot) -> Noise:
    """The noise of the shot's seeds where no frame's depends on another's.

    Raises:
        ValueError: a camera was to move it.
    """
    old = shot.noise
    if isinstance(old.model, CameraNoise):
        raise ValueError("a camera moves dependency noise: leave it or the other method out")
    model = IndependentNoise()
    return Noise(model, old.seeds, shot.frames, old.shape, old.device, old.rng, old.own)


def told_as(shot: Shot, method: str) -> tuple[dict[str, object], ...]:
    """The settings of a method that has a noise and an attention of its own."""
    gone = {"noise", *of_method(shot.noise.model, shot.attention, shot.sampler)} - {"sampler"}
    return tuple(
        {k: v for k, v in own.items() if k not in gone} | {"method": method}
        for own in shot.settings
    )
