"""What a file can be: families of models, roles of files, and a kind that says both.

`zs2.checkpoint.signs` tells the kind of a file. Nothing here needs torch.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zs2.errors import InputError


class Family(Enum):
    """The families of Stable Diffusion, by the name that people call them."""

    SD1 = "SD 1.x"
    SD2 = "SD 2.x"
    SDXL = "SDXL"

    @staticmethod
    def of(width: object) -> "Family | None":
        """The family whose prompt embeddings have this width."""
        families = {768: Family.SD1, 1024: Family.SD2, 2048: Family.SDXL}
        return families.get(width) if isinstance(width, int) else None


class Role(Enum):
    """What a file is for: what people call it, and the option that takes it."""

    MODEL = "a model", "--model"
    LORA = "a LoRA", "--lora"
    CONTROL = "a ControlNet or T2I-Adapter", "--control"
    EMBEDDING = "a textual inversion", "--embedding"
    VAE = "a VAE", "--vae"
    IP_ADAPTER = "an IP-Adapter", "--ip-adapter"
    IMAGE_ENCODER = "a CLIP vision encoder", "--image-encoder"
    UPSCALER = "an ESRGAN upscaler", "zs2 enhance --esrgan"

    def __init__(self, words: str, option: str) -> None:
        self.words, self.option = words, option


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes:
        words: for people, with an article and the family: "a LoRA for SDXL".
        role: what it is for; None where zs2 has no use for it.
        family: the models that it is, or fits; None where nothing tells.
        advice: without a role, what to do instead.
        inputs: of a model, the channels that its UNet takes: 8 is Instruct-Pix2Pix.
        prediction: of a model, "epsilon" or "v" where the file says so.
    """

    words: str
    role: Role | None = None
    family: Family | None = None
    advice: str = ""
    inputs: int = 4
    prediction: str | None = None


def check_family(path: Path, kind: Kind, family: Family | None) -> None:
    """Refuse what fits another family than the model's; what nothing is known of may pass.

    Raises:
        InputError: both families are named.
    """
    if kind.family and family and kind.family is not family:
        raise InputError(
            f"{path} is {kind.words}, and the model is {family.value}: "
            f"give one for {family.value}, or a model of {kind.family.value} with --model"
        )


def unusual_input(channels: object) -> str | None:
    """What a model is whose UNet takes what zs2 cannot give it; None for the others."""
    if channels in (4, 8):
        return None
    kinds = {5: "a depth", 7: "an upscaler", 9: "an inpainting"}
    kind = kinds.get(channels) if isinstance(channels, int) else None
    return f"{f'{kind} model' if kind else 'a UNet'} with {channels!r:.20} input channels"
