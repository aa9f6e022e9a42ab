"""What a clip remembers of how it was made, by the names of the command line's options."""

from dataclasses import fields, is_dataclass

import torch

from zs2.attention import FrameAttention
from zs2.clip_file import OWN
from zs2.device import name_of
from zs2.draws import NoiseModel
from zs2.noise import NOISES
from zs2.samplers import SAMPLERS, Sampler
from zs2.timeline import plain
from zs2.version import __version__
from zs2.weights import Weights


def of_model(weights: Weights, dtype: torch.dtype) -> dict[str, object]:
    """Which program and model, in which precision."""
    return {
        "zs2": __version__,
        "model": weights.name,
        **weights.settings,
        "prompt-weights": weights.text.weighting,
        "clip-skip": weights.text.skip,
        "dtype": name_of(dtype),
        "prediction": weights.schedule.prediction_type.removesuffix("_prediction"),
    }


def of_method(noise: NoiseModel, attention: FrameAttention, sampler: Sampler) -> dict[str, object]:
    """The objects of a shot: their names, "own" for what is not zs2's, and what they hold."""
    held: list[str] = [field.name for field in fields(noise)] if is_dataclass(noise) else []
    return {
        "noise": next((name for name, kind in NOISES.items() if type(noise) is kind), OWN),
        **{key: plain(getattr(noise, key)) for key in held},
        "mu": plain(attention.mu),
        "segment": plain(attention.segment),
        "sampler": next((name for name, kind in SAMPLERS.items() if sampler is kind), OWN),
    }
