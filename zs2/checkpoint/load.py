"""A path becomes models: Hugging Face folders and CompVis single files, read strictly.

Names, shapes and configurations are checked from headers, before a byte of weights is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from zs2.checkpoint.build import build, expected_shapes
from zs2.checkpoint.config import read_config
from zs2.checkpoint.family import Preset, preset_of
from zs2.checkpoint.header import Entry, find_weights, read_header
from zs2.checkpoint.hub import clip_tokenizer, resolve
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Role, unusual_input
from zs2.checkpoint.names import HARMLESS, PREFIX, compvis_name, current_name
from zs2.device import without_overflow
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.clip import CLIP, CLIPText, CLIPTextConfig, CLIPVisionConfig
from zs2.models.taesd import TAESDConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.schedule import Schedule
from zs2.weights import SMALL, Defaults, Weights

COMPONENTS: dict[str, tuple[Any, Any]] = {
    "unet": (UNet, UNetConfig),
    "vae": (VAE, VAEConfig),
    "text_encoder": (CLIPText, CLIPTextConfig),
}

M = TypeVar("M", bound=nn.Module)


def load_weights(
    model: str | Path = SMALL,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
) -> Weights:
    """Load a checkpoint: a folder, a single file or a hub id.

    Args:
        prediction: "epsilon" or "v", in place of what the checkpoint says.
        tokenizer: folder with CLIP's vocabulary, in place of the checkpoint's own.

    Raises:
        InputError: the checkpoint cannot be used; the file, key or value is named.
    """
    path = resolve(model)
    plans = _plan_file(path) if path.is_file() else _plan_folder(path)
    if tokenizer is not None and not Path(tokenizer).exists():
        raise InputError(f"{tokenizer} does not exist: --tokenizer is a folder with vocab.json")
    vocabulary = Path(tokenizer) if tokenizer else _find_tokenizer(path)
    words = Tokenizer.load(vocabulary)
    _check_fit(plans, words, vocabulary)
    own = path / "zs2.json"
    values = {
        "size": plans["unet"].config.sample_size * plans["vae"].config.factor,
        **(read_json(own) if own.exists() else {}),
    }
    schedule = _schedule(path, prediction)
    defaults = read_config(
        Defaults, {"steps": min(Defaults.steps, schedule.num_train_timesteps), **values}, own
    )
    if defaults.size % plans["vae"].config.factor:
        factor = plans["vae"].config.factor
        raise InputError(f"{own}: size {defaults.size} must be a multiple of {factor} pixels")
    return Weights(
        text=Text((Tower(words, plans["text_encoder"].build(CLIPText, device, dtype)),)),
        unet=plans["unet"].build(UNet, device, dtype),
        vae=plans["vae"].build(
            VAE, device, vae_dtype(plans["vae"].config, plans["unet"].config, dtype, device)
        ),
        schedule=schedule,
        defaults=defaults,
        name=None if path == SMALL else str(model),
        settings={"tokenizer": str(tokenizer) if tokenizer else None},
    )


def vae_dtype(
    vae: VAEConfig | TAESDConfig, unet: UNetConfig, dtype: torch.dtype, device: torch.device | str
) -> torch.dtype:
    """What a VAE is computed in: SDXL's overflows in fp16, unless its configuration denies it.

    The files of SD 1.x and 2.x often say the same without need; diffusers does not ask them.
    """
    overflows = vae.force_upcast and unet.addition_embed_type is not None
    return without_overflow(dtype, torch.device(device)) if overflows else dtype


def _schedule(path: Path, prediction: str | None) -> Schedule:
    """The diffusion of a folder; SD's own for a file, and where the folder has none."""
    where = path / "scheduler/scheduler_config.json"
    schedule = read_config(Schedule, read_json(where) if where.exists() else {}, where)
    if prediction is None:
        return schedule
    kinds = {"epsilon": "epsilon", "v": "v_prediction"}
    if prediction not in kinds:
        raise InputError(f"a model predicts epsilon or v, not {prediction}")
    return replace(schedule, prediction_type=kinds[prediction])


def load_clip(path: str | Path) -> tuple[CLIP, Tokenizer]:
    """A contrastive CLIP, for scores: a folder with both towers, in float32.

    The tokenizer is looked for in the folder, then in `tokenizer` beside it.

    Raises:
        InputError: the folder cannot be used.
    """
    path = resolve(path)
    where = path / "config.json"
    values = read_json(where)
    text, vision = values.get("text_config"), values.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise InputError(f"{where} describes no CLIP: it needs text_config and vision_config")
    projection = values.get("projection_dim", 512)
    if not isinstance(projection, int):
        raise InputError(f"{where}: projection_dim = {projection!r:.50} is not supported")
    configs = (
        read_config(CLIPTextConfig, text, where),
        read_config(CLIPVisionConfig, vision, where),
        projection,
    )
    entries = _without_harmless(find_weights(path, "model"))
    clip = build(lambda: CLIP(*configs), entries, path, "cpu", torch.float32)
    own = any((path / name).exists() for name in ("vocab.json", "tokenizer.json"))
    return clip, Tokenizer.load(path if own else path.parent / "tokenizer")


@dataclass(frozen=True)
class Plan:
    """One component before its weights are read: its configuration, and where each tensor lies."""

    where: Path
    config: Any
    entries: Mapping[str, Entry]

    def build(self, model: type[M], device: torch.device | str, dtype: torch.dtype) -> M:
        return build(lambda: model(self.config), self.entries, self.where, device, dtype)


def _plan_folder(path: Path) -> dict[str, Plan]:
    for component in COMPONENTS:
        if not (path / component / "config.json").exists():
            hint = "give a Stable Diffusion folder with unet, vae, text_encoder and tokenizer"
            if (path / "config.json").exists():
                hint = "it holds a single component; " + hint
            raise InputError(f"{path} has no {component}/config.json: {hint}")
    if (path / "text_encoder_2").exists():
        raise InputError(f"{path} is an SDXL model, which zs2 does not support yet")
    plans = {}
    for component, (_, config) in COMPONENTS.items():
        where = path / component / "config.json"
        plans[component] = Plan(
            path / component, read_config(config, read_json(where), where), tensors(path, component)
        )
    if odd := unusual_input(plans["unet"].config.in_channels):
        raise InputError(f"{path} is {odd}, which zs2 does not use: give a plain model")
    return plans


def tensors(path: Path, component: str) -> dict[str, Entry]:
    """The tensors of a component of a Hugging Face folder, under today's names."""
    stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
    found = find_weights(path / component, stem)
    return {current_name(component, k): e for k, e in _without_harmless(found).items()}


def _plan_file(path: Path) -> dict[str, Plan]:
    """A single file in the CompVis layout; the configurations are the family's."""
    entries = read_header(path)
    kind = wanted(path, entries, Role.MODEL)
    preset = preset_of(kind)
    if preset is None:
        hint = "zs2 samples from SD 1.x files, and from SD 1.x and 2.x folders"
        raise InputError(f"{path} is {kind.words}: {hint}")
    names = single_file_names(entries, preset)
    used = {name for table in names.values() for name in table.values()}
    networks = tuple(PREFIX.values())
    spare = [k for k in entries if k not in used and not HARMLESS.search(k)]
    if spare := [k for k in spare if k.startswith(networks)]:
        raise InputError(
            f"{path} has {len(spare)} tensors that {kind.words} does not, as {spare[0]}"
        )
    return {
        component: Plan(
            path,
            getattr(preset, component),
            {key: entries[name] for key, name in table.items() if name in entries},
        )
        for component, table in names.items()
    }


def single_file_names(entries: Mapping[str, Entry], preset: Preset) -> dict[str, dict[str, str]]:
    """For each component, our name of every tensor and its name in a CompVis file."""
    names = {}
    for component, (model, _) in COMPONENTS.items():
        config = getattr(preset, component)
        keys = expected_shapes(model, config)
        settings = None if component == "text_encoder" else config
        names[component] = {key: compvis_name(key, settings) for key in keys}
    text = names["text_encoder"]
    if text["text_model.final_layer_norm.bias"] not in entries:  # as newer transformers write it
        names["text_encoder"] = {k: n.replace(".text_model.", ".") for k, n in text.items()}
    return names


def _check_fit(plans: Mapping[str, Plan], words: Tokenizer, vocabulary: Path) -> None:
    """Refuse components that do not belong together.

    Raises:
        InputError: the two that do not fit are named.
    """
    unet, vae, text = (plans[part] for part in COMPONENTS)
    config = text.config
    if not config.vocab_size / 2 < words.size <= config.vocab_size:
        raise InputError(
            f"{vocabulary} has {words.size} tokens, and {text.where} knows {config.vocab_size}: "
            "give the tokenizer that belongs to it with --tokenizer DIR"
        )
    if words.length > config.max_position_embeddings:
        raise InputError(
            f"{vocabulary} makes {words.length} tokens of a prompt, and {text.where} reads "
            f"{config.max_position_embeddings}"
        )
    for other, theirs, ours in (
        (text, config.hidden_size, unet.config.cross_attention_dim),
        (vae, vae.config.latent_channels, unet.config.out_channels),
    ):
        if theirs != ours:
            raise InputError(
                f"{other.where} gives {theirs} channels and {unet.where} takes {ours}: "
                "they are of different models"
            )


def _find_tokenizer(path: Path) -> Path:
    """The vocabulary that belongs to a checkpoint; single files have none inside."""
    near = path if path.is_dir() else path.parent
    if (near / "tokenizer").is_dir():
        return near / "tokenizer"
    if path.is_dir():
        raise InputError(f"{path} has no tokenizer folder: add it, or pass --tokenizer DIR")
    for name in ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz"):
        if (near / name).exists():
            return near
    try:
        return clip_tokenizer()
    except InputError as error:
        raise InputError(
            f"{path} has no tokenizer, and the hub cannot be reached: "
            "pass --tokenizer DIR, a folder with CLIP's vocab.json and merges.txt"
        ) from error


def _without_harmless(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {k: e for k, e in entries.items() if not k.endswith("position_ids")}
