"""Which kind a file is, told from its header, and the sentence for what was given as another.

The names of its tensors tell most: `zs2.checkpoint.signs` is the table. Shapes tell the family, and
the header's own words help where these say nothing. Nothing here needs torch.
"""

from collections.abc import Mapping
from pathlib import Path

from zs2.checkpoint.header import Entry, Header
from zs2.checkpoint.kinds import Family, Kind, Role, unusual_input
from zs2.checkpoint.signs import INTO_FOLDER, OTHER, PLAIN, SIGNS, VARIANTS, WHOLE
from zs2.errors import InputError

# What a single file calls its first layers, its networks, and what tells its family.
_CONV_IN = (
    *("model.diffusion_model.input_blocks.0.0.weight", "input_blocks.0.0.weight"),
    *("conv_in.weight", "unet.conv_in.weight"),
)
_LATENT = (
    *("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"),
    *("1.weight", "decoder.1.weight", "decoder.layers.1.weight"),
)
_LIGHT = ("body.0.in_conv.weight", "adapter.body.0.in_conv.weight")  # a T2I-Adapter's other form
_PARTS = {"vae": "^first_stage_model.", "text_encoder": "^cond_stage_model. ^conditioner."}
_FAMILY_NAMES = (
    (
        "transformer_blocks.1. transformer_blocks_1_ lora_te2_ text_encoder_2. label_emb. "
        "label_emb_ add_embedding. add_embedding_ ^conditioner.embedders.1.",
        Family.SDXL,
    ),
    ("^cond_stage_model.model. ^conditioner.embedders.0.model.", Family.SD2),
    ("^cond_stage_model.transformer.", Family.SD1),
)
_TOLD = ("modelspec.architecture", "ss_base_model_version")
_FAMILY_TOLD = {
    "stable-diffusion-v1": Family.SD1,
    "stable-diffusion-v2": Family.SD2,
    "stable-diffusion-xl": Family.SDXL,
    "sd_v1": Family.SD1,
    "sd_1": Family.SD1,
    "sd_v2": Family.SD2,
    "sd_2": Family.SD2,
    "sdxl": Family.SDXL,
}
_FIRST_Q = "text_model_encoder_layers_0_self_attn_q_proj"
_TEXT_WIDTH = (f"lora_te_{_FIRST_Q}.lora_down.weight", f"lora_te_{_FIRST_Q}.hada_w1_b")


def identify(entries: Mapping[str, Entry]) -> Kind:
    """What a file is, from its header: a few milliseconds, whatever the size of the file."""
    names = "".join(f"^{key}$" for key in entries)
    found = next((row for row in SIGNS if _fits(row[0], names)), None)
    if found is None:
        return _embedding(entries) or _unknown(entries)
    _, words, use = found
    if use is Role.MODEL:
        return _model(entries, names)
    channels = _first(entries, *_LATENT)[1]
    if use is Role.VAE and channels not in (0, 4):
        return Kind(f"{words} of {channels} channels", advice=OTHER)
    family = _t2i_family(entries) or _family(entries, names)
    words = f"{words} for {family.value}" if family else words
    if isinstance(use, Role):
        return Kind(words, use, family)
    return Kind(words, None, family, use)


def wanted(path: Path, entries: Mapping[str, Entry], role: Role) -> Kind:
    """What a file is that was given as `role`.

    Raises:
        InputError: it is something else; the sentence says what, and where it belongs.
    """
    kind = identify(entries)
    if kind.role is None:
        raise InputError(f"{path} is {kind.words}, which zs2 does not use: {kind.advice}")
    if kind.role is not role:
        raise InputError(
            f"{path} is {kind.words}, not {role.words}: give it with {kind.role.option}"
        )
    return kind


def _fits(signs: str, names: str) -> bool:
    return any(
        all(part[1:] not in names if part[0] == "!" else part in names for part in sign.split("&"))
        for sign in signs.split()
    )


def _first(entries: Mapping[str, Entry], *keys: str) -> tuple[int, ...]:
    """The shape of the first of these tensors that there is, and zeros where it is short."""
    return (*next((entries[key].shape for key in keys if key in entries), ()), 0, 0)


def _last(entry: Entry) -> int:
    return entry.shape[-1] if entry.shape else 0


def _model(entries: Mapping[str, Entry], names: str) -> Kind:
    """The kind of a file with a UNet: a model, a variant of one, or a part."""
    family = _family(entries, names)
    inputs = _first(entries, *_CONV_IN)[1]
    whose = f"an {family.value}" if family else "a Stable Diffusion"

    def refused(words: str, advice: str) -> Kind:
        return Kind(words, None, family, advice, inputs)

    if variant := next((row for row in VARIANTS if _fits(row[0], names)), None):
        return refused(f"{whose} {variant[1]}", variant[2])
    missing = [part for part, sign in _PARTS.items() if not _fits(sign, names)]
    if len(missing) > 1:
        return refused(f"the UNet of {whose} model alone", INTO_FOLDER)
    if missing:
        prefix = _PARTS[missing[0]].split()[0][1:]
        return refused(f"{whose} model without its {missing[0]} ({prefix}*)", WHOLE)
    if odd := unusual_input(inputs):
        return refused(odd, PLAIN)
    edits = inputs == 8
    if edits and family is Family.SDXL:
        return refused(f"{whose} Instruct-Pix2Pix model", "give one of SD 1.x")
    words = f"{whose} Instruct-Pix2Pix model" if edits else f"{whose} model"
    return Kind(words, Role.MODEL, family, "", inputs, _prediction(entries))


def _prediction(entries: Mapping[str, Entry]) -> str | None:
    """What a model predicts, where a marker or the header says so."""
    facts = _facts(entries)
    told = facts.get("modelspec.prediction_type", "").removesuffix("_prediction")
    architecture = facts.get("modelspec.architecture", "").partition("/")[0]
    if "v_pred" in entries or told == "v" or architecture.endswith("-768-v"):
        return "v"
    return "epsilon" if told == "epsilon" else None


def _facts(entries: Mapping[str, Entry]) -> Mapping[str, str]:
    return entries.metadata if isinstance(entries, Header) else {}


def _embedding(entries: Mapping[str, Entry]) -> Kind | None:
    """A textual inversion: rows for a prompt, under a name of its own or a trainer's."""
    widths = {e.shape[-1] for e in entries.values() if len(e.shape) in (1, 2)}
    if not widths or len(entries) > 2:
        return None
    named = all(key.startswith(("<", "emb_params", "clip_", "string_to_param")) for key in entries)
    # Any other word may be a name too, but then the width must be one of a text encoder's.
    if not named and (not widths <= {768, 1024, 1280} or any("." in key for key in entries)):
        return None
    family = Family.SDXL if "clip_g" in entries else Family.of(min(widths))
    words = "a textual inversion"
    return Kind(f"{words} for {family.value}" if family else words, Role.EMBEDDING, family)


def _unknown(entries: Mapping[str, Entry]) -> Kind:
    few = " and ".join(f"{key:.60}" for key in [*entries][:2])
    return Kind(
        f"of a kind that zs2 does not know ({f'it holds {few}' if few else 'it holds nothing'})",
        advice="give safetensors of Stable Diffusion, or of an adapter for it",
    )


def _t2i_family(entries: Mapping[str, Entry]) -> Family | None:
    """T2I-Adapters never see the prompt; those for SDXL fold 16x16 pixels into one, not 8x8."""
    channels = _first(entries, "conv_in.weight", "adapter.conv_in.weight", *_LIGHT)[1]
    return {64: Family.SD1, 192: Family.SD1, 256: Family.SDXL, 768: Family.SDXL}.get(channels)


def _family(entries: Mapping[str, Entry], names: str) -> Family | None:
    """The family by the width of the prompt that the tensors read; else by names; else as told."""
    for key, entry in entries.items():
        reads = ("attn2" in key and "to_k" in key) or "to_k_ip" in key
        if reads and (family := Family.of(_reads(entries, key, entry))):
            return family
        if key.startswith("unet:") and key.endswith(":down") and (f := Family.of(_last(entry))):
            return f
    for signs, family in _FAMILY_NAMES:
        if _fits(signs, names):
            return family
    for key in _TOLD:
        told = _facts(entries).get(key, "")
        for start, family in _FAMILY_TOLD.items():
            if told.startswith(start):
                return family
    width = _first(entries, *_TEXT_WIDTH)[1]
    return {768: Family.SD1, 1024: Family.SD2}.get(width)


def _reads(entries: Mapping[str, Entry], key: str, entry: Entry) -> int | None:
    """The width that a layer's tensor, or what changes it, takes in; None where it does not say."""
    stem, _, end = key.rpartition("to_k")
    if len(entry.shape) < 2:
        return None
    if "down" in end or "lora_A" in end or end in (".weight", "_ip.weight", ".diff", ".hada_w1_b"):
        return entry.shape[1]
    if end == ".a1.weight":  # its other side is the rank
        return max(entry.shape[:2])
    if end in (".lokr_w2", ".lokr_w2_b"):  # a Kronecker product's width is the factors' product
        other = _first(entries, f"{stem}to_k.lokr_w1", f"{stem}to_k.lokr_w1_b")
        return other[1] * entry.shape[1]
    return None
