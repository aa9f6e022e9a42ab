"""A path becomes models: Hugging Face folders and CompVis single files, read strictly.

Names, shapes and configurations are checked from headers, before a byte of weights is read.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from zs2.checkpoint.build import build
from zs2.checkpoint.config import read_config
from zs2.checkpoint.eight_bits import FLOATS
from zs2.checkpoint.folder import plan_folder
from zs2.checkpoint.header import find_weights
from zs2.checkpoint.hub import resolve
from zs2.checkpoint.plan import Plans
from zs2.checkpoint.single_file import plan_file
from zs2.checkpoint.vocabulary import find_tokenizers
from zs2.device import check_room, name_of, pick_dtype, without_overflow
from zs2.errors import InputError
from zs2.json_file import read_json
from zs2.models.clip import CLIP, CLIPTextConfig, CLIPVisionConfig
from zs2.models.taesd import TAESDConfig
from zs2.models.text import Text, Tower
from zs2.models.tokenizer import Tokenizer
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig
from zs2.weights import SMALL, Defaults, Weights


def load_weights(
    model: str | Path = SMALL,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
) -> Weights:
    """Load a checkpoint: a folder, a single file or a hub id.

    Args:
        dtype: None is what suits the device and the size of the checkpoint.
        prediction: "epsilon" or "v", in place of what the checkpoint says.
        tokenizer: folder with CLIP's vocabulary, in place of the checkpoint's own.

    Raises:
        InputError: the checkpoint cannot be used; the file, key or value is named.
    """
    path = resolve(model)
    plans = plan_file(path, prediction) if path.is_file() else plan_folder(path, prediction)
    words = find_tokenizers(path, tokenizer, plans.pads)
    _check_fit(plans, words)
    for plan in plans.networks.values():
        plan.check()
    defaults = _defaults(path, plans)
    device = torch.device(device)
    dtype = dtype or pick_dtype("auto", device, plans.values)
    check_room(str(path), plans.values, dtype, device)
    _tell_of_eight_bits(path, plans, dtype)
    unet, vae = plans.networks["unet"], plans.networks["vae"]
    return Weights(
        text=Text(
            tuple(
                Tower(tokens, plan.build(device, dtype))
                for (tokens, _), plan in zip(words, plans.towers, strict=True)
            ),
            waves=unet.config.addition_time_embed_dim or 0,
            zeros=plans.zeros,
        ),
        unet=unet.build(device, dtype),
        vae=vae.build(device, vae_dtype(vae.config, unet.config, dtype, device)),
        schedule=plans.schedule,
        defaults=defaults,
        name=None if path == SMALL else str(model),
        settings={"tokenizer": str(tokenizer) if tokenizer else None},
    )


def _defaults(path: Path, plans: Plans) -> Defaults:
    """What a checkpoint is sampled with: its own size, and what a zs2.json beside it says."""
    own, factor = path / "zs2.json", plans.networks["vae"].config.factor
    values = {
        "steps": min(Defaults.steps, plans.schedule.num_train_timesteps),
        "size": plans.networks["unet"].config.sample_size * factor,
        **(read_json(own) if own.exists() else {}),
    }
    defaults = read_config(Defaults, values, own)
    if defaults.size % factor:
        raise InputError(f"{own}: size {defaults.size} must be a multiple of {factor} pixels")
    return defaults


def vae_dtype(
    vae: VAEConfig | TAESDConfig, unet: UNetConfig, dtype: torch.dtype, device: torch.device | str
) -> torch.dtype:
    """What a VAE is computed in: SDXL's overflows in fp16, unless its configuration denies it.

    The files of SD 1.x and 2.x often say the same without need; diffusers does not ask them.
    """
    overflows = vae.force_upcast and unet.addition_embed_type is not None
    return without_overflow(dtype, torch.device(device)) if overflows else dtype


def _tell_of_eight_bits(path: Path, plans: Plans, dtype: torch.dtype) -> None:
    kinds = {e.dtype for plan in plans.networks.values() for e in plan.entries.values()}
    if few := sorted(kinds & {*FLOATS}):
        warnings.warn(
            f"{path} holds weights of 8 bits ({', '.join(few)}): they are cast to "
            f"{name_of(dtype)}, which does not bring back what they lost",
            stacklevel=3,
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
    projection = values.get("projection_dim", 512)
    if not isinstance(projection, int):
        raise InputError(f"{where}: projection_dim = {projection!r:.50} is not supported")
    configs = (
        read_config(CLIPTextConfig, text, where),
        read_config(CLIPVisionConfig, vision, where),
        projection,
    )
    found = find_weights(path, "model")
    entries = {k: e for k, e in found.items() if not k.endswith("position_ids")}
    clip = build(lambda: CLIP(*configs), entries, path, "cpu", torch.float32)
    own = any((path / name).exists() for name in ("vocab.json", "tokenizer.json"))
    return clip, Tokenizer.load(path if own else path.parent / "tokenizer")


def _check_fit(plans: Plans, words: Sequence[tuple[Tokenizer, Path]]) -> None:
    """Refuse components that do not belong together.

    Raises:
        InputError: the two that do not fit are named.
    """
    for (tokens, vocabulary), text in zip(words, plans.towers, strict=True):
        config = text.config
        if not config.vocab_size / 2 < tokens.size <= config.vocab_size:
            raise InputError(
                f"{vocabulary} has {tokens.size} tokens, and {text.where} knows "
                f"{config.vocab_size}: give the tokenizer that belongs to it with --tokenizer DIR"
            )
        if tokens.length > config.max_position_embeddings:
            raise InputError(
                f"{vocabulary} makes {tokens.length} tokens of a prompt, and {text.where} reads "
                f"{config.max_position_embeddings}"
            )
    unet, vae = plans.networks["unet"], plans.networks["vae"]
    shape, towers = unet.config, plans.towers
    given = [
        (towers, sum(text.config.hidden_size for text in towers), shape.cross_attention_dim),
        ([vae], vae.config.latent_channels, shape.out_channels),
    ]
    sizes = 6 * (shape.addition_time_embed_dim or 0)  # told beside the pooled prompt
    pooled = towers[-1].config.projection_dim + sizes if len(towers) > 1 else 0
    given.append((towers[-1:], pooled, shape.projection_class_embeddings_input_dim or 0))
    for others, theirs, ours in given:
        if theirs != ours:
            names = " and ".join(str(other.where) for other in others)
            raise InputError(
                f"{names} {'give' if len(others) > 1 else 'gives'} {theirs} channels and "
                f"{unet.where} takes {ours}: they are of different models"
            )
