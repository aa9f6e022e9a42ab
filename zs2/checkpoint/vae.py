"""A VAE of its own file or folder, in place of a model's: `--vae PATH`. TAESD is one, too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zs2.checkpoint.build import build, expected_shapes
from zs2.checkpoint.config import read_config
from zs2.checkpoint.header import Entry, component_weights, read_header
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Role
from zs2.checkpoint.load import vae_dtype
from zs2.checkpoint.names import HARMLESS, PREFIX, compvis_name, current_name
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.taesd import TAESD, TAESDConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.receipt import Receipt
from zs2.weights import Weights


@dataclass(frozen=True)
class OtherVAE:
    """An adapter: the weights with another VAE.

    Attributes:
        path: a folder with config.json, or a whole model's folder; a .safetensors file by CompVis'
            or diffusers' names; or TAESD's decoder, with the encoder from the file beside it, where
            there is one.

    Raises:
        InputError: it is no VAE or, once the model is there, one that does not fit it.
    """

    path: str | Path

    def __post_init__(self) -> None:
        read_vae(Path(self.path), VAEConfig())

    def __call__(self, weights: Weights) -> Weights:
        path, some = Path(self.path), weights.unet.conv_in.weight
        config, entries = read_vae(path, weights.vae.config)
        check_fit(path, config, weights)
        dtype = vae_dtype(config, weights.unet.config, some.dtype, some.device)
        kind: Any = TAESD if isinstance(config, TAESDConfig) else VAE
        vae = build(lambda: kind(config), entries, path, some.device, dtype)
        what = "a TAESD" if kind is TAESD else "a VAE"
        return replace(
            weights,
            vae=vae,
            settings={**weights.settings, "vae": str(path)},
            receipts=(*weights.receipts, Receipt(str(path), what, {"tensors": len(entries)})),
        )


def check_fit(path: Path, config: VAEConfig | TAESDConfig, weights: Weights) -> None:
    """Refuse a VAE whose latents are not the model's.

    Raises:
        InputError: what differs is named.
    """
    ours, channels = weights.vae.config, weights.unet.config.out_channels
    for what, found, needed in (
        ("channels in a latent", config.latent_channels, channels),
        ("pixels along a latent", config.factor, ours.factor),
    ):
        if found != needed:
            raise InputError(f"{path} has {found} {what}, and the model has {needed}")
    # A tiny one takes latents as they are; two others that differ here are of two families.
    scales = {c.scaling_factor for c in (config, ours) if isinstance(c, VAEConfig)}
    if len(scales) > 1:
        raise InputError(
            f"{path} scales its latents by {config.scaling_factor:g}, and the model's VAE by "
            f"{ours.scaling_factor:g}: it belongs to models of another family"
        )


def read_vae(
    path: Path, usual: VAEConfig | TAESDConfig
) -> tuple[VAEConfig | TAESDConfig, Mapping[str, Entry]]:
    """The configuration of a VAE, and its tensors by our names.

    Args:
        usual: the configuration of a file, which has none inside: the model's own.

    Raises:
        InputError: there is no VAE.
    """
    if (path / "vae").is_dir():
        path = path / "vae"
    where = path / "config.json"
    values = read_json(where) if where.exists() else {}
    entries = component_weights(path)
    if values.get("_class_name") == "AutoencoderTiny":
        return read_config(TAESDConfig, values, where), entries
    wanted(path, entries, Role.VAE)
    if path.is_dir():
        if not values:
            raise InputError(f"{path} has no config.json: give the folder of a VAE, or its file")
        config = read_config(VAEConfig, values, where)
        return config, kl_names(entries, config)
    if tiny := tiny_names(entries):
        beside = path.with_name(path.name.replace("decoder", "encoder"))
        if "encoder.layers.0.weight" not in tiny and beside != path and beside.exists():
            encoder = tiny_names(read_header(beside))
            if "encoder.layers.0.weight" not in encoder:
                raise InputError(
                    f"{beside} is no TAESD encoder, and {path} is used with the one beside it: "
                    "download it again, or move it away"
                )
            tiny |= encoder
        whole = "encoder.layers.0.weight" in tiny
        return TAESDConfig() if whole else TAESDConfig(num_encoder_blocks=()), tiny
    config = usual if isinstance(usual, VAEConfig) else VAEConfig()
    return config, kl_names(entries, config)


def kl_names(entries: Mapping[str, Entry], config: VAEConfig) -> dict[str, Entry]:
    """The tensors of a full VAE by our names, whichever names the file has."""
    prefix = PREFIX["vae"]
    named = {compvis_name(key, config): key for key in expected_shapes(VAE, config)}
    found = {prefix + key.removeprefix(prefix): entry for key, entry in entries.items()}
    return {
        named.get(name) or current_name("vae", name.removeprefix(prefix)): entry
        for name, entry in found.items()
        if not HARMLESS.search(name)
    }


def tiny_names(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors of TAESD by our names; none where it is something else.

    Its author's files number the layers of a half, the decoder's from 1: its first has no tensors.
    """
    named = {}
    for key, entry in entries.items():
        if not (match := re.fullmatch(r"(?:(encoder|decoder)\.)?(layers\.)?(\d+)\.(.+)", key)):
            return {}
        half, ours, number, rest = match.groups()
        half = half or ("encoder" if "0.weight" in entries else "decoder")
        place = int(number) - (half == "decoder" and not ours)
        named[f"{half}.layers.{place}.{rest}"] = entry
    return named
