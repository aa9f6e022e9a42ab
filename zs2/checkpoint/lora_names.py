"""Which layer a tensor of a LoRA belongs to, in the names of every trainer.

A name is PREFIX + LAYER + PART. The layer may be dotted, or have underscores for its dots, which
cannot be told from its own; so it is never taken apart, but looked up among the model's own names,
in the Hugging Face layout and in CompVis', with underscores for dots.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from zs2.checkpoint.names import PREFIX, compvis_name
from zs2.models.unet import UNet

# The last part of a name, and what zs2.checkpoint.deltas calls it.
PARTS = {
    "up": r"[._]lora(?:[._]up|_linear_layer\.up|_B(?:\.(?!bias)\w+)?)(?:\.weight)?",
    "down": r"[._]lora(?:[._]down|_linear_layer\.down|_A(?:\.(?!bias)\w+)?)(?:\.weight)?",
    "mid": r"\.lora_mid\.weight",
    "magnitude": r"\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?",
    "dora": r"\.dora_scale",
    "alpha": r"\.alpha",
    "scale": r"\.scale",
    **{name: rf"\.{name}" for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{name: rf"\.{name}" for name in ("hada_t1", "hada_t2", "lokr_w1", "lokr_w2", "lokr_t2")},
    **{name: rf"\.{name}" for name in ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b")},
    **{name: rf"\.{name}\.weight" for name in ("a1", "a2", "b1", "b2", "bm")},
    "oft": r"\.oft_(?:blocks|diag)",
    "rescale": r"\.rescale",
    "on_input": r"\.on_input",
    **{name: rf"\.{name}" for name in ("diff", "diff_b", "w_norm", "b_norm")},
    "set": r"\.set_weight",
    "factor": r"\.weight",  # IA3's
}
_PART = re.compile("|".join(f"(?P<{name}>{ending})$" for name, ending in PARTS.items()))

PREFIXES = {
    "unet": ("lora_unet_", "lycoris_", "lycoris_unet_", "unet_", "diffusion_model_", ""),
    "text_encoder": (
        *("lora_te_", "lora_te1_", "text_encoder_", "text_encoders_clip_l_transformer_"),
        *("lycoris_", "lycoris_te_", "lycoris_te1_", ""),
    ),
    "text_encoder_2": (
        *("lora_te2_", "text_encoder_2_", "text_encoders_clip_g_transformer_", "lycoris_te2_"),
    ),
}
PEFT = "base_model_model_"  # what PEFT puts after the prefix
_CLIP = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


@dataclass(frozen=True)
class Place:
    """A layer of a network, as "down_blocks.0.resnets.0.conv1" of the "unet"."""

    network: str
    layer: str


class Places:
    """Finds the layer, and the part of it, that a tensor of a LoRA is for."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = networks
        self.found: dict[str, Place] = {}
        for network, model in networks.items():
            for layer in dict.fromkeys(key.rpartition(".")[0] for key in model.state_dict()):
                for alias in aliases(model, layer):
                    for prefix in PREFIXES[network]:
                        for peft in ("", PEFT):
                            name = prefix + peft + alias
                            self.found.setdefault(name, Place(network, layer))

    def __call__(self, key: str) -> tuple[Place | None, str, str]:
        """The place, the part, and what stands before the part, of a tensor's name."""
        match = _PART.search(key)
        if match is None or match.lastgroup is None:
            return None, "", key
        name = key[: match.start()]
        plain = re.sub(r"[._]processor(?=[._])", "", name).replace(".", "_")
        return self.found.get(plain), match.lastgroup, name


def aliases(model: nn.Module, layer: str) -> Iterator[str]:
    """What a layer is called, with underscores for dots."""
    names = [layer]
    if isinstance(model, UNet):
        full = compvis_name(f"{layer}.weight", model.config)
        names.append(full.removeprefix(PREFIX["unet"]).removesuffix(".weight"))
    else:
        *before, last = layer.split(".")
        names.append(".".join((*before, _CLIP.get(last, last))))  # diffusers' older names
        names += [name.removeprefix("text_model.") for name in names]  # transformers' newer
    for name in names:
        yield name.replace(".", "_")
        if name.endswith(".to_out.0"):
            yield name.removesuffix(".0").replace(".", "_")


def by_position(
    networks: Mapping[str, nn.Module], classes: Mapping[str, set[str]]
) -> dict[str, list[Place]]:
    """The layers of each network in cloneofsimo's order, whose files number them.

    It is that of `named_modules()` in diffusers 0.11, where the attention to the prompt comes after
    the feed-forward and the middle block after the way up, and in transformers, k before q.

    Args:
        classes: for each network, the classes whose layers were trained, as the header tells.

    Raises:
        ValueError: a class whose order is not known.
    """
    known = {"unet": {"CrossAttention", "Attention", "GEGLU"}, "text_encoder": {"CLIPAttention"}}
    for network, names in classes.items():
        if unknown := names - known[network]:
            raise ValueError(f"layers of {min(unknown)} numbered, which zs2 cannot tell apart")
    order = {}
    for network in classes:
        layers = [name for name, _ in networks[network].named_modules()]
        if network == "unet":
            blocks = [n.removesuffix(".attn1") for n in layers if n.endswith(".attn1")]
            blocks.sort(key=lambda name: name.startswith("mid_block"))
            attention = ("to_q", "to_k", "to_v", "to_out.0")
            inside = [f"attn1.{name}" for name in attention]
            if "GEGLU" in classes[network]:
                inside.append("ff.net.0.proj")
            inside += [f"attn2.{name}" for name in attention]
        else:
            blocks = [name for name in layers if name.endswith(".self_attn")]
            inside = ["k_proj", "v_proj", "q_proj", "out_proj"]
        order[network] = [Place(network, f"{block}.{name}") for block in blocks for name in inside]
    return order
