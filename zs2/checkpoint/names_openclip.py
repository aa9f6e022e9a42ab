"""The text encoders of SD 2.x and SDXL's second, as OpenCLIP names and packs them in a single file.

OpenCLIP keeps the projections of queries, keys and values as one tensor, and the projection of the
pooled prompt P for x @ P, where a linear layer has its transpose.
"""

import re
from collections.abc import Iterator

from zs2.checkpoint.header import Entry
from zs2.models.clip import CLIPTextConfig

BESIDE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(\w+(?:\.\w+)?)[._](weight|bias)")


def openclip_tensors(
    name: str, entry: Entry, config: CLIPTextConfig, projected: bool
) -> Iterator[tuple[str, Entry]]:
    """What a tensor of an OpenCLIP is to us, under the Hugging Face names.

    Nothing for what is not needed, three for packed projections, itself for what is not known.

    Args:
        name: without what a file puts before it.
        projected: whether the pooled prompt is wanted, as of SDXL's second encoder. The one of
            SD 2.x gives the layer before the last: OpenCLIP's last is not a part of it.
    """
    found = _LAYER.fullmatch(name)
    layer, part, kind = found.groups() if found else ("", "", "")
    ours = f"text_model.encoder.layers.{layer}"
    if name in BESIDE:
        yield f"text_model.{BESIDE[name]}", entry
    elif found and not projected and int(layer) == config.num_hidden_layers:
        return
    elif part in LAYER:
        yield f"{ours}.{LAYER[part]}.{kind}", entry
    elif part == "attn.in_proj":
        for letter, third in zip("qkv", entry.thirds(), strict=True):
            yield f"{ours}.self_attn.{letter}_proj.{kind}", third
    elif name.startswith("text_projection"):
        if projected:
            # As .weight it is the linear layer's, which converters and Playground's files hold.
            plain = name == "text_projection"
            yield "text_projection.weight", entry.turned() if plain else entry
    else:
        yield name, entry
