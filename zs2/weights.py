"""A path becomes models: Hugging Face folders and CompVis single files, read strictly.

Names, shapes and configurations are checked from headers, before a byte of weights is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from zs2.build import build, expected_shapes
from zs2.checkpoint import Entry, find_weights, read_header, read_json
from zs2.config import read_config
from zs2.ddim import DDIM
from zs2.errors import InputError
from zs2.family import describe, unusual_input
from zs2.hub import clip_tokenizer, resolve
from zs2.keymaps import HARMLESS, PREFIX, compvis_name, current_name
from zs2.models.clip import CLIP, CLIPText, CLIPTextConfig, CLIPVisionConfig
from zs2.models.unet import UNet, UNetConfig
from zs2.models.vae import VAE, VAEConfig
from zs2.tokenizer import Tokenizer

PACKAGE = Path(__file__).parent
# The small model: installed inside the package, or in the source tree beside it.
SMALL = next(
    (p for p in (PACKAGE / "tiny", PACKAGE.parent / "weights/tiny") if p.is_dir()),
    PACKAGE / "tiny",
)
COMPONENTS: dict[str, tuple[Any, Any]] = {
    "unet": (UNet, UNetConfig),
    "vae": (VAE, VAEConfig),
    "text_encoder": (CLIPText, CLIPTextConfig),
}

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Sampling:
    """What a model is sampled with unless the user says otherwise: pixels, steps, guidance."""

    size: int
    steps: int = 50
    cfg: float = 7.5

    def __post_init__(self) -> None:
        if self.size < 1 or self.steps < 1:
            raise ValueError(f"size and steps must be at least 1, got {self.size} and {self.steps}")


@dataclass(frozen=True)
class Weights:
    """A Stable Diffusion checkpoint in memory.

    Attributes:
        name: the path or hub id it was loaded by; None is the small model.
        vocabulary: the tokenizer's path, where it was told.
    """

    tokenizer: Tokenizer
    text_encoder: CLIPText
    unet: UNet
    vae: VAE
    ddim: DDIM
    sample: Sampling
    name: str | None = None
    vocabulary: str | None = None


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
    schedule, own = path / "scheduler/scheduler_config.json", path / "zs2.json"
    ddim = read_config(DDIM, read_json(schedule) if schedule.exists() else {}, schedule)
    if prediction not in (None, "epsilon", "v"):
        raise InputError(f"a model predicts epsilon or v, not {prediction}")
    if prediction is not None:
        ddim = replace(
            ddim, prediction_type="epsilon" if prediction == "epsilon" else "v_prediction"
        )
    sample = {
        "size": plans["unet"].config.sample_size * plans["vae"].config.factor,
        "steps": min(Sampling.steps, ddim.num_train_timesteps),
        **(read_json(own) if own.exists() else {}),
    }
    sampling = read_config(Sampling, sample, own)
    if sampling.size % plans["vae"].config.factor:
        factor = plans["vae"].config.factor
        raise InputError(f"{own}: size {sampling.size} must be a multiple of {factor} pixels")
    return Weights(
        tokenizer=words,
        text_encoder=plans["text_encoder"].build(CLIPText, device, dtype),
        unet=plans["unet"].build(UNet, device, dtype),
        vae=plans["vae"].build(VAE, device, dtype),
        ddim=ddim,
        sample=sampling,
        name=None if path == SMALL else str(model),
        vocabulary=str(tokenizer) if tokenizer else None,
    )


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
    configs = (
        read_config(CLIPTextConfig, text, where),
        read_config(CLIPVisionConfig, vision, where),
        int(str(values.get("projection_dim", 512))),
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
        raise InputError(f"{path} is {odd}")
    return plans


def tensors(path: Path, component: str) -> dict[str, Entry]:
    """The tensors of a component of a Hugging Face folder, under today's names."""
    stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
    found = find_weights(path / component, stem)
    return {current_name(component, k): e for k, e in _without_harmless(found).items()}


def _plan_file(path: Path) -> dict[str, Plan]:
    """An SD 1.x file in the CompVis layout; the configuration is built in."""
    entries = read_header(path)
    kind = describe(entries)
    if kind != "SD 1.x":
        hint = "zs2 samples from SD 1.x files, and from SD 1.x and 2.x folders"
        raise InputError(f"{path} is {kind}: {hint}")
    names = single_file_names(entries)
    used = {name for table in names.values() for name in table.values()}
    networks = tuple(PREFIX.values())
    spare = [k for k in entries if k not in used and not HARMLESS.search(k)]
    if spare := [k for k in spare if k.startswith(networks)]:
        raise InputError(f"{path} has {len(spare)} tensors that SD 1.x does not, as {spare[0]}")
    return {
        component: Plan(path, config(), {k: entries[n] for k, n in table.items() if n in entries})
        for (component, (_, config)), table in zip(COMPONENTS.items(), names.values(), strict=True)
    }


def single_file_names(entries: Mapping[str, Entry]) -> dict[str, dict[str, str]]:
    """For each component of SD 1.x, our name of every tensor and its name in a CompVis file."""
    names = {}
    for component, (model, config) in COMPONENTS.items():
        settings = None if component == "text_encoder" else config()
        keys = expected_shapes(model, config())
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
        (vae, vae.config.latent_channels, unet.config.in_channels),
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
