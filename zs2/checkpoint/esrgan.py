"""An ESRGAN upscaler from its file, under any of the names that its trainers gave the tensors."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from zs2.checkpoint.build import build
from zs2.checkpoint.header import Entry, read_header
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Role
from zs2.errors import InputError
from zs2.models.esrgan import CompactConfig, CompactNet, RRDBConfig, RRDBNet, Upscaler

# The first names (a numbered list of layers, and RDB in capitals), and the second ones.
OLD = {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}
SECOND = {
    "trunk_conv": "conv_body",
    "upconv1": "conv_up1",
    "upconv2": "conv_up2",
    "HRconv": "conv_hr",
}
SCALES = {3: 4, 12: 2, 48: 1}
"""By the channels of the first convolution: folded pixels leave less to enlarge."""


def load_esrgan(path: Path, device: torch.device, dtype: torch.dtype) -> Upscaler:
    """The upscaler in a file.

    Raises:
        InputError: it is something else, or not complete.
    """
    entries = read_header(path)
    wanted(path, entries, Role.UPSCALER)
    found = {current_name(key): entry for key, entry in entries.items()}
    try:
        if "conv_first.weight" in found:
            config = rrdb_config(found)
            return build(lambda: RRDBNet(config), found, path, device, dtype)
        compact = compact_config(found)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path} is an upscaler of a form that zs2 does not know") from error
    return build(lambda: CompactNet(compact), found, path, device, dtype)


def current_name(key: str) -> str:
    """BasicSR's name for a tensor."""
    key = re.sub(r"^(params_ema|params|module)\.", "", key)
    if match := re.fullmatch(r"model\.(\d+)\.(weight|bias)", key):
        return f"{OLD.get(match[1], match[0])}.{match[2]}"
    if match := re.fullmatch(r"model\.1\.sub\.\d+\.(weight|bias)", key):
        return f"conv_body.{match[1]}"  # behind the blocks, which have more in their names
    key = re.sub(r"^(model\.1\.sub|RRDB_trunk)\.(\d+)\.", r"body.\2.", key)
    key = re.sub(r"\.RDB(\d)\.conv(\d)(\.0)?\.", r".rdb\1.conv\2.", key)
    stem, _, kind = key.rpartition(".")
    return f"{SECOND.get(stem, stem)}.{kind}"


def rrdb_config(found: Mapping[str, Entry]) -> RRDBConfig:
    """Of the deep upscaler, from its shapes."""
    width, channels = found["conv_first.weight"].shape[:2]
    blocks = {key.split(".")[1] for key in found if key.startswith("body.")}
    growth = found["body.0.rdb1.conv1.weight"].shape[0]
    return RRDBConfig(SCALES[channels], width, growth, len(blocks))


def compact_config(found: Mapping[str, Entry]) -> CompactConfig:
    """Of the compact upscaler, from its shapes."""
    last = max(int(key.split(".")[1]) for key in found)
    scale = round((found[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
    return CompactConfig(scale, found["body.0.weight"].shape[0], last // 2 - 1)
