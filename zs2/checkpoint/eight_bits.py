"""Weights in 8 bits: floating point ones are read, with the number that scales them, if any."""

from collections.abc import Mapping
from dataclasses import replace

from zs2.checkpoint.header import Entry
from zs2.errors import InputError

FLOATS = ("F8_E4M3", "F8_E5M2")
SCALES = (".scale_weight", ".weight_scale")  # ComfyUI's, of last year and of this
NOT_NEEDED = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")
"""What says that there are scales, and what only a multiplication in 8 bits would use."""


def with_scales(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors of a file, each with its scale, which is no tensor of its own any more.

    Raises:
        InputError: a scale that is not one number for the whole tensor.
    """
    found = {k: e for k, e in entries.items() if not k.endswith(NOT_NEEDED)}
    for name in [k for k in found if k.endswith(SCALES)]:
        weight = f"{name.rpartition('.')[0]}.weight"
        scale = found[name]
        if weight not in found or found[weight].file != scale.file:
            continue
        if scale.values != 1:
            raise InputError(
                f"{scale.file}: {name} scales parts of a tensor by themselves, which zs2 does not "
                "read: give the fp16 or fp32 weights"
            )
        found[weight] = replace(found[weight], scale=found.pop(name))
    return found
