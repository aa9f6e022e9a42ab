"""An IP-Adapter's file, and the CLIP image encoder that it was trained with."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zs2.checkpoint.build import build
from zs2.checkpoint.config import read_config
from zs2.checkpoint.header import Entry, find_weights, read_header
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Family, Kind, Role, check_family
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.clip import CLIPVision, CLIPVisionConfig
from zs2.models.ip_adapter import IPAdapter, IPAdapterConfig, cross_attentions
from zs2.models.unet import UNet

ENCODERS = {1024: "quick_gelu", 1280: "gelu", 1664: "gelu"}
"""The activation by the width of CLIP's ViT-L/14 and OpenCLIP's ViT-H/14 and ViT-bigG/14, for files
without a configuration. Each has 16 heads, and neither can be told from the tensors."""


def load_ip_adapter(
    path: str | Path, unet: UNet, image_encoder: str | Path | None = None
) -> tuple[IPAdapter, CLIPVision]:
    """An IP-Adapter for a UNet, and the encoder of its pictures, where the UNet is.

    Args:
        image_encoder: a folder or file; None looks for a folder image_encoder beside the adapter.

    Raises:
        InputError: one of them cannot be used, or they do not fit each other or the UNet.
    """
    path, some = Path(path), unet.conv_in.weight
    width = unet.config.cross_attention_dim
    config, kind, entries = read_ip_adapter(path)
    check_family(path, kind, Family.of(width))
    config = replace(config, width=width)  # where the file's is another, its shapes are refused
    channels = [attention.to_k.out_features for attention in cross_attentions(unet)]
    adapter = build(lambda: IPAdapter(config, channels), entries, path, some.device, some.dtype)
    found = Path(image_encoder) if image_encoder else _beside(path, config)
    vision, tensors = read_image_encoder(found)
    if _gives(vision, config) != config.seen:
        raise InputError(
            f"{found} gives {_gives(vision, config)} values, and {path} takes {config.seen}: give "
            "the encoder it was trained with (OpenCLIP's ViT-H/14, or ViT-bigG/14) with "
            "--image-encoder"
        )
    return adapter, build(lambda: CLIPVision(vision), tensors, found, some.device, some.dtype)


def read_ip_adapter(path: Path) -> tuple[IPAdapterConfig, Kind, Mapping[str, Entry]]:
    """What an IP-Adapter is, and its tensors; no weights are read.

    Raises:
        InputError: it is none, or one that takes more than a picture.
    """
    entries = read_header(path)
    kind = wanted(path, entries, Role.IP_ADAPTER)
    shapes = {key.removeprefix("image_proj."): entry.shape for key, entry in entries.items()}
    width = shapes.get("ip_adapter.1.to_k_ip.weight", (0,))[-1]
    try:
        if "proj.weight" in shapes:
            rows, seen = shapes["proj.weight"]
            config = IPAdapterConfig("plain", seen, width, tokens=rows // width)
        elif "latents" in shapes:
            _, tokens, hidden = shapes["latents"]
            depth = len({key.split(".")[1] for key in shapes if key.startswith("layers.")})
            config = IPAdapterConfig(
                "plus", shapes["proj_in.weight"][1], width, tokens, hidden, depth
            )
        else:
            config = IPAdapterConfig("full", shapes["proj.0.weight"][1], width)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} is {kind.words} without its tensors: download it again"
        ) from error
    return config, kind, entries


def read_image_encoder(path: Path) -> tuple[CLIPVisionConfig, dict[str, Entry]]:
    """A CLIP image encoder: a Hugging Face folder or a file, which may hold the text encoder, too.

    Raises:
        InputError: it is none, or a file of a kind that needs its configuration.
    """
    found = find_weights(path, "model") if path.is_dir() else read_header(path)
    entries = {
        key: entry
        for key, entry in found.items()
        if key.startswith(("vision_model.", "visual_projection."))
        and not key.endswith("position_ids")
    }
    if not entries:
        wanted(path, found, Role.IMAGE_ENCODER)
    where = path / "config.json"
    if path.is_dir():
        values = read_json(where)
        inner = values.get("vision_config")
        projection = {k: v for k, v in values.items() if k == "projection_dim"}
        values = {**inner, **projection} if isinstance(inner, dict) else values
        return read_config(CLIPVisionConfig, values, where), entries
    return _vision_of(path, entries), entries


def _vision_of(path: Path, entries: Mapping[str, Entry]) -> CLIPVisionConfig:
    """The configuration of a file that has none, from its tensors' shapes."""
    shapes: dict[str, Any] = {key: entry.shape for key, entry in entries.items()}
    first = "vision_model.encoder.layers.0.mlp.fc1.weight"
    try:
        width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
        places = shapes["vision_model.embeddings.position_embedding.weight"][0] - 1
        return CLIPVisionConfig(
            image_size=round(places**0.5) * patch,
            patch_size=patch,
            hidden_size=width,
            intermediate_size=shapes[first][0],
            num_hidden_layers=sum(key.endswith(".mlp.fc1.weight") for key in shapes),
            num_attention_heads=16,
            hidden_act=ENCODERS[width],
            projection_dim=shapes["visual_projection.weight"][0],
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} is no CLIP image encoder that zs2 knows without its configuration: give its "
            "folder, with config.json, by --image-encoder"
        ) from error


def _beside(path: Path, config: IPAdapterConfig) -> Path:
    """The encoder's folder where the published folders have it: SDXL's may use SD 1.x's."""
    for folder in (path.parent, path.parent.parent / "models", path.parent.parent):
        where = folder / "image_encoder/config.json"
        if where.exists():
            vision = read_config(CLIPVisionConfig, read_json(where), where)
            if _gives(vision, config) == config.seen:
                return where.parent
    raise InputError(
        f"{path} has no image encoder beside it that it fits: give the folder of the one it was "
        "trained with (OpenCLIP's ViT-H/14, or ViT-bigG/14) with --image-encoder"
    )


def _gives(vision: CLIPVisionConfig, config: IPAdapterConfig) -> int:
    """How many values an encoder gives an adapter, for a picture or for each of its parts."""
    return vision.projection_dim if config.form == "plain" else vision.hidden_size
