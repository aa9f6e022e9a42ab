"""A Stable Diffusion checkpoint in memory; `zs2.checkpoint` reads one from a path."""

from dataclasses import dataclass
from pathlib import Path

from zs2.models.clip import CLIPText
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet import UNet
from zs2.models.vae import VAE
from zs2.schedule import Schedule

PACKAGE = Path(__file__).parent
# The small model: installed inside the package, or in the source tree beside it.
SMALL = next(
    (p for p in (PACKAGE / "tiny", PACKAGE.parent / "weights/tiny") if p.is_dir()),
    PACKAGE / "tiny",
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
    """The networks of a checkpoint, its words, and the diffusion that it was trained with.

    Attributes:
        name: the path or hub id it was loaded by; None is the small model.
        vocabulary: the tokenizer's path, where it was told.
    """

    tokenizer: Tokenizer
    text_encoder: CLIPText
    unet: UNet
    vae: VAE
    schedule: Schedule
    defaults: Defaults
    name: str | None = None
    vocabulary: str | None = None
