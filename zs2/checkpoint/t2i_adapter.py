"""A T2I-Adapter's tensors, under diffusers' names or TencentARC's, become one."""

import re
from collections.abc import Mapping
from pathlib import Path

from zs2.checkpoint.build import build
from zs2.checkpoint.config import read_config
from zs2.checkpoint.header import Entry
from zs2.errors import InputError
from zs2.models.t2i_adapter import FULL, LIGHT, XL, T2IAdapter, T2IAdapterConfig
from zs2.weights import Weights


def load_adapter(
    path: Path, entries: Mapping[str, Entry], values: Mapping[str, object], weights: Weights
) -> T2IAdapter:
    """A T2I-Adapter; `values` are a folder's config.json, without which the tensors tell all.

    Raises:
        InputError: it is not complete.
    """
    found = hugging_face_names(entries)
    if values:
        config = read_config(T2IAdapterConfig, values, path / "config.json")
    else:
        config = shown(path, found)
    first = weights.unet.conv_in.weight
    return build(lambda: T2IAdapter(config), found, path, first.device, first.dtype)


def hugging_face_names(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors by our names. TencentARC's full adapters count resnets, two a level."""
    names = {key: key.removeprefix("adapter.") for key in entries}
    counted = any(re.match(r"body\.\d+\.block1\.", name) for name in names.values())
    found = {}
    for key, name in names.items():
        match = re.fullmatch(r"body\.(\d+)\.(.+)", name)
        if match and counted:
            level, resnet = divmod(int(match[1]), 2)
            inner = match[2].replace("down_opt.op.", "downsample.")
            inner = f"resnets.{resnet}.{inner}" if inner.startswith("block") else inner
            name = f"body.{level}.{inner}"
        elif match:
            name = re.sub(r"^(body\.\d+)\.body\.", r"\1.resnets.", name)  # a light one's
        found[name] = entries[key]
    return found


def shown(path: Path, found: Mapping[str, Entry]) -> T2IAdapterConfig:
    """The configuration that the tensors show."""

    def side(key: str, dimension: int) -> int:
        shape = found[key].shape if key in found else ()
        if len(shape) != 4:
            raise InputError(f"{path} lacks {key}: it is not complete")
        return shape[dimension]

    light = "body.0.out_conv.weight" in found
    unshuffled = side("body.0.in_conv.weight" if light else "conv_in.weight", 1)
    xl = unshuffled in (256, 768)  # 16x16 pixels of one or three channels, else 8x8
    factor = 16 if xl else 8
    levels = 1 + max(int(key.split(".")[1]) for key in found if re.match(r"body\.\d+\.", key))
    last = "out_conv" if light else "resnets.0.block1"
    widths = tuple(side(f"body.{i}.{last}.weight", 0) for i in range(min(levels, 9)))
    resnets = [key for key in found if re.fullmatch(r"body\.0\.resnets\.\d+\.block1\.weight", key)]
    return T2IAdapterConfig(
        in_channels=unshuffled // factor**2,
        channels=widths[:-1] if light else widths,
        num_res_blocks=len(resnets),
        downscale_factor=factor,
        adapter_type=LIGHT if light else XL if xl else FULL,
        kernel=1 if light else side("body.0.resnets.0.block2.weight", 2),
        learned_downsampling="body.1.downsample.weight" in found,
    )
