"""A Stable Diffusion checkpoint in memory; `zs2.checkpoint` reads one from a path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zs2.models.taesd import TAESD
from zs2.models.text import Text
from zs2.models.tiled_vae import TiledVAE
from zs2.models.unet import UNet
from zs2.models.vae import VAE
from zs2.receipt import Receipt
from zs2.schedule import Schedule

PACKAGE = Path(__file__).parent
# The small model: installed inside the package, or in the source tree beside it.
SMALL = next(
    (p for p in (PACKAGE / "small", PACKAGE.parent / "weights/small") if p.is_dir()),
    PACKAGE / "small",
)


@dataclass(frozen=True)
class Defaults:
    """What a model is sampled with unless the user says otherwise: pixels, steps, guidance.

    `words` are all that it knows, where these are few.
    """

    size: int
    steps: int = 50
    cfg: float = 7.5
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1 or self.steps < 1:
            raise ValueError(f"size and steps must be at least 1, got {self.size} and {self.steps}")


@dataclass(frozen=True)
class Weights:
    """The networks of a checkpoint, and the diffusion that it was trained with.

    Attributes:
        name: the path or hub id it was loaded by; None is the small model.
        settings: what else it was made of, by the names of the command line's options.
        receipts: what became of each adapter's file.
    """

    text: Text
    unet: UNet
    vae: VAE | TAESD | TiledVAE
    schedule: Schedule
    defaults: Defaults
    name: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    receipts: tuple[Receipt, ...] = ()


Adapter = Callable[[Weights], Weights]
"""What changes a checkpoint once, when it is loaded: a LoRA, another VAE, words of one's own."""
