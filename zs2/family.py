"""What kind of model it is, from the names and shapes of its tensors."""

from collections.abc import Mapping

from zs2.checkpoint import Entry
from zs2.keymaps import PREFIX

# By the width of a prompt embedding.
FAMILY = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}


def describe(entries: Mapping[str, Entry]) -> str:
    """What a file's names say it is; "SD 1.x" is what zs2 samples from."""
    keys = list(entries)

    def any_has(*parts: str) -> bool:
        return any(part in key for key in keys for part in parts)

    if any_has("lora_down", "lora_up", "lora_A", "lora.down", "_lora."):
        if any_has("lora_controlnet"):
            return "a ControlNet LoRA, not a model"
        return "a LoRA, not a model"
    if any_has("control_model.", "controlnet_cond_embedding.", "zero_convs."):
        return "a ControlNet, not a model"
    if any_has("conditioner.embedders."):
        return "an SDXL model, which zs2 does not support yet"
    if any_has("cond_stage_model.model."):
        return "an SD 2.x single file, which zs2 does not support yet (give its folder)"
    first = PREFIX["unet"] + "input_blocks.0.0.weight"
    if first in entries:
        for component, prefix in PREFIX.items():
            if not any_has(prefix):
                return f"a Stable Diffusion file without its {component} ({prefix}*)"
        return unusual_input((*entries[first].shape, 0, 0)[1]) or "SD 1.x"
    if any_has("first_stage_model.", "encoder.down.", "decoder.up_blocks.", "decoder.up."):
        return "a VAE alone, not a model"
    if any_has("down_blocks.", "mid_block."):
        return "a UNet alone, not a model (give the folder it belongs to)"
    if any_has("vision_model."):
        return "a CLIP that scores pictures, not a model"
    if any_has("text_model.", "token_embedding"):
        return "a text encoder alone, not a model"
    return "not a model that zs2 knows"


def unusual_input(channels: int) -> str | None:
    """What a UNet is that takes more than a latent; None if it takes just that."""
    kinds = {8: "an Instruct-Pix2Pix model", 9: "an inpainting model"}
    kind = kinds.get(channels, f"a UNet with {channels} input channels")
    return None if channels == 4 else f"{kind}, which zs2 does not support yet"
