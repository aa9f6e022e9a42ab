"""A checkpoint in the Hugging Face layout: a folder for each network, with its configuration."""

import warnings
from pathlib import Path

from zs2.checkpoint.config import read_config
from zs2.checkpoint.eight_bits import with_scales
from zs2.checkpoint.header import Entry, find_weights
from zs2.checkpoint.identity import identify
from zs2.checkpoint.kinds import unusual_input
from zs2.checkpoint.names import current_name
from zs2.checkpoint.plan import NETWORKS, Plan, Plans, told
from zs2.checkpoint.signs import INTO_FOLDER
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.tokenizer import END
from zs2.schedule import Schedule


def plan_folder(path: Path, prediction: str | None) -> Plans:
    """What a folder will become.

    Raises:
        InputError: it is not whole, or of a kind that zs2 does not use.
    """
    parts = [name for name in NETWORKS if (path / name / "config.json").exists()]
    found = {name: tensors(path, name) for name in parts}
    if {"unet", "text_encoder_2"} <= {*parts}:  # SDXL has relatives
        kind = identify(found["unet"])
        if kind.advice != INTO_FOLDER:
            raise InputError(f"{path} is {kind.words}, which zs2 does not use: {kind.advice}")
    needed = ["unet", "vae", "text_encoder"]
    if "unet" in parts and read_json(path / "unet/config.json").get("addition_embed_type"):
        needed.append("text_encoder_2")
    for component in needed:
        if component not in parts:
            hint = "give a Stable Diffusion folder with unet, vae, text_encoder and tokenizer"
            if (path / "config.json").exists():
                hint = "it holds a single component; " + hint
            raise InputError(f"{path} has no {component}/config.json: {hint}")
    plans = {}
    for name in parts:
        where = path / name / "config.json"
        config = read_config(NETWORKS[name][1], read_json(where), where)
        plans[name] = Plan(name, path / name, config, found[name])
    if odd := unusual_input(plans["unet"].config.in_channels):
        raise InputError(f"{path} is {odd}, which zs2 does not use: give a plain model")
    index = path / "model_index.json"
    said = read_json(index) if index.exists() else {}
    return Plans(
        plans,
        told(_schedule(path), prediction),
        (END, "!") if "text_encoder_2" in parts else (None,),
        said.get("force_zeros_for_empty_prompt", True) is not False,
    )


def tensors(path: Path, component: str) -> dict[str, Entry]:
    """The tensors of a component of a Hugging Face folder, under today's names."""
    stem = "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"
    found = with_scales(find_weights(path / component, stem))
    return {
        current_name(component, key): entry
        for key, entry in found.items()
        if not key.endswith("position_ids")
    }


def _schedule(path: Path) -> Schedule:
    """The diffusion of a folder; SD's own where it says nothing."""
    where = path / "scheduler/scheduler_config.json"
    if not where.exists():
        warnings.warn(
            f"{path} has no scheduler/scheduler_config.json: it is taken to predict epsilon with "
            "SD's own noise levels; if its pictures come out brown or flat, give --prediction v",
            stacklevel=3,
        )
    values = read_json(where) if where.exists() else {}
    if str(values.get("_class_name", "")).startswith("EDM"):
        raise InputError(
            f"{path} is a model of continuous noise levels (EDM), which zs2 does not use: "
            "give a plain model of the family"
        )
    return read_config(Schedule, values, where)
