"""How a checkpoint's text encoders read a prompt, where that is not its own way."""

from dataclasses import dataclass, replace

from zs2.errors import InputError
from zs2.models.text import WEIGHTINGS
from zs2.weights import Weights


@dataclass(frozen=True)
class Words:
    """An adapter: whose brackets a prompt has, and which layer is told of it.

    Attributes:
        weighting: a1111, comfy or plain; None leaves it as it is.
        skip: the layer from the end, 1 is the last one; None leaves it as it is. SD 1.x takes its
            norm after it; SDXL takes none, and its own is 2.

    Raises:
        InputError: there is no such weighting or layer.
    """

    weighting: str | None = None
    skip: int | None = None

    def __post_init__(self) -> None:
        if self.weighting not in (None, *WEIGHTINGS):
            raise InputError(f"prompt weights are {' or '.join(WEIGHTINGS)}, not {self.weighting}")
        if self.skip is not None and (not isinstance(self.skip, int) or self.skip < 1):
            raise InputError(f"clip-skip counts from 1, the last layer, got {self.skip}")

    def __call__(self, weights: Weights) -> Weights:
        text = weights.text
        layers = min(tower.encoder.config.num_hidden_layers for tower in text.towers)
        if (self.skip or 1) > layers:
            raise InputError(
                f"clip-skip {self.skip} is beyond the text encoder's {layers} layers: "
                f"give 1..{layers}"
            )
        weighting, skip = self.weighting or text.weighting, self.skip or text.skip
        return replace(weights, text=replace(text, weighting=weighting, skip=skip))
