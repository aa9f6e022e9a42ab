"""What a checkpoint will become, known from headers and configurations before a weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zs2.checkpoint.build import build, check, expected_shapes
from zs2.checkpoint.header import Entry
from zs2.errors import InputError
from zs2.models.clip import CLIPText, CLIPTextConfig
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.schedule import Schedule

NETWORKS: dict[str, tuple[Any, Any]] = {
    "unet": (UNet, UNetConfig),
    "vae": (VAE, VAEConfig),
    "text_encoder": (CLIPText, CLIPTextConfig),
    "text_encoder_2": (partial(CLIPText, projected=True), CLIPTextConfig),
}
"""The networks of a checkpoint, by the names of their folders, and their configurations."""
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


@dataclass(frozen=True)
class Plan:
    """One network before its weights are read: its configuration, and where each tensor lies."""

    component: str
    where: Path
    config: Any
    entries: Mapping[str, Entry]

    @property
    def values(self) -> int:
        return sum(entry.values for entry in self.entries.values())

    def check(self) -> None:
        """Refuse tensors that do not make the network, before any is read.

        Raises:
            InputError: tensors are missing, left over or misshaped, or of a type that is not read.
        """
        make = NETWORKS[self.component][0]
        check(expected_shapes(make, self.config, self.where), self.entries, self.where)

    def build(self, device: torch.device | str, dtype: torch.dtype) -> Any:
        """The network with its weights.

        Raises:
            InputError: as `check`, or a value is not finite.
        """
        make = NETWORKS[self.component][0]
        return build(lambda: make(self.config), self.entries, self.where, device, dtype)


@dataclass(frozen=True)
class Plans:
    """A whole checkpoint before its weights are read.

    Attributes:
        networks: by their names in `NETWORKS`; SDXL has all four.
        pads: the token that fills up a short prompt, for each text encoder whose tokenizer comes
            from elsewhere; None is what the tokenizer says.
        zeros: whether guidance without a negative prompt is told zeros (SDXL).
    """

    networks: Mapping[str, Plan]
    schedule: Schedule
    pads: tuple[str | None, ...]
    zeros: bool = True

    @property
    def towers(self) -> list[Plan]:
        return [plan for name, plan in self.networks.items() if name.startswith("text_encoder")]

    @property
    def values(self) -> int:
        return sum(plan.values for plan in self.networks.values())


def told(schedule: Schedule, prediction: str | None) -> Schedule:
    """A checkpoint's diffusion, with what the user says that it predicts.

    Raises:
        InputError: this is nothing that a model predicts.
    """
    if prediction is None:
        return schedule
    if prediction not in PREDICTIONS:
        raise InputError(f"a model predicts epsilon or v, not {prediction}")
    return replace(schedule, prediction_type=PREDICTIONS[prediction])
