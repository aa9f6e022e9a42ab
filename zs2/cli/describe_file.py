"""What a file is and what it is made of, from its header alone: no torch, so it is told at once."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from zs2.checkpoint.header import Entry, Header
from zs2.checkpoint.kinds import Kind, Role
from zs2.cli.terminal import shell_quote
from zs2.json_file import read_json

# What a header may say, by the trainers' names and by Stability's (modelspec).
TOLD = {
    "modelspec.title": "title",
    "ss_base_model_version": "trained on",
    "ss_network_alpha": "alpha",
    "ss_clip_skip": "clip skip",
    "modelspec.encoder_layer": "clip skip",
    "modelspec.resolution": "resolution",
    "modelspec.trigger_phrase": "trigger words",
    "modelspec.usage_hint": "hint",
}
_LONGEST = 200

# How a LoRA's names end, by what changes the layer; the name before that is the layer's.
_CHANGE = re.compile(
    r"[._](lora)[._]|\.(hada|lokr|oft)_|\.(b1)\.|\.(on_input|diff|w_norm|set_weight)$|:(down)$"
)
_CHANGES = {"hada": "LoHa", "lokr": "LoKr", "oft": "OFT", "b1": "GLoRA", "on_input": "IA3"}
_CHANGES |= {"diff": "full", "w_norm": "norm", "set_weight": "replaced"}
_RANK = re.compile(r"lora_down\.weight$|[._]lora\.down\.|\.lora_A|\.down\.weight$|_w[12]_b$|:down$")
# What a folder of PEFT says in adapter_config.json.
_PEFT = {"alpha": "lora_alpha", "rslora": "use_rslora", "base model": "base_model_name_or_path"}
# CLIP's vision encoders by the width of their layers, and by that of their embedding.
_LAYERS = {1024: "ViT-L/14", 1280: "ViT-H/14", 1664: "ViT-bigG/14"}
_EMBEDDING = {768: "ViT-L/14", 1024: "ViT-H/14", 1280: "ViT-bigG/14"}


def details(path: Path, entries: Mapping[str, Entry], kind: Kind) -> Iterator[str]:
    """What is in a file that is no whole model, a line each."""
    if kind.role is Role.LORA:
        yield from _lora(path, entries)
    elif kind.role is Role.CONTROL:
        yield from _control(entries)
    elif kind.role is Role.EMBEDDING:
        rows = {key: e.shape[0] if len(e.shape) == 2 else 1 for key, e in entries.items()}
        yield row("length", f"{max(rows.values())} of the prompt's 75 tokens")
    elif kind.role is Role.IP_ADAPTER:
        yield from _image_prompt(entries)
    elif kind.role is Role.IMAGE_ENCODER:
        name = _LAYERS.get(_side(entries, "visual_projection.weight"), "of no usual size")
        yield row("encoder", f"CLIP {name}")
    if kind.role is not None and kind.family is None:
        yield row("fits", FITS.get(kind.role, "nothing in it tells which models"))
    yield from told(entries)


FITS = {
    Role.UPSCALER: "any picture or video",
    Role.VAE: "models of the family that it was made for; nothing in it tells which",
    Role.IMAGE_ENCODER: "the IP-Adapters that were trained with it",
}


def told(entries: Mapping[str, Entry]) -> Iterator[str]:
    """What the header says of how a file was made, and is used."""
    facts = entries.metadata if isinstance(entries, Header) else {}
    labels = {TOLD[key]: facts[key] for key in TOLD if facts.get(key, "None") != "None"}
    for label, text in labels.items():
        yield row(label, text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def use(path: Path, entries: Mapping[str, Entry], kind: Kind) -> str:
    """The command that uses a file, or what to do instead."""
    if kind.role is None:
        return row("instead", kind.advice)
    file, prompt = shell_quote(str(path)), '"PROMPT"'
    if kind.role is Role.UPSCALER:
        return row("use", f"python -m zs2.enhance CLIP --esrgan {file}")
    if kind.role is Role.EMBEDDING:
        prompt = shell_quote(f"a picture of {_word(path, entries)}")
    if kind.role is Role.MODEL and kind.inputs == 8:
        prompt = '"INSTRUCTION"'
    after = {
        Role.MODEL: f"-m {file}{' --edit VIDEO' if kind.inputs == 8 else ''}",
        Role.LORA: f"-m MODEL --lora {shell_quote(f'{path}:1')}",
        Role.CONTROL: f"-m MODEL --control {file} FRAMES",
        Role.EMBEDDING: f"-m MODEL --embedding {file}",
        Role.VAE: f"-m MODEL --vae {file}",
        Role.IP_ADAPTER: f"-m MODEL --ip-adapter {file} --image PICTURE",
        Role.IMAGE_ENCODER: f"-m MODEL --ip-adapter FILE --image PICTURE --image-encoder {file}",
    }
    return row("use", f"python -m zs2.sample {prompt} {after[kind.role]}")


def row(label: str, text: str) -> str:
    return f"{label:<15}{text}"


def size_of(entries: Mapping[str, Entry]) -> str:
    """How many values there are, in how many bytes, and of which types, the most common first."""
    values = sum(e.values for e in entries.values())
    size = sum(e.bytes for e in entries.values())
    dtypes: Counter[str] = Counter()
    for entry in entries.values():
        dtypes[entry.dtype] += entry.values
    kinds = "+".join(kind for kind, _ in dtypes.most_common()) or "empty"
    if values < 1e5:
        return f"{values:,} values, {size / 1e3:,.1f} kB, {kinds}"
    return f"{values / 1e6:,.1f} M values, {size / 1e6:,.1f} MB, {kinds}"


def _lora(path: Path, entries: Mapping[str, Entry]) -> Iterator[str]:
    ways: dict[str, str] = {}  # of each layer
    ranks = set()
    for key, entry in entries.items():
        if found := _CHANGE.search(key):
            layer, how = key[: found.start()], next(filter(None, found.groups()))
            ways.setdefault(layer, _CHANGES.get(how, "LoRA"))
            if how == "lora" and len(entry.shape) == 4 and entry.shape[-1] > 1:
                ways[layer] = "LoCon"
        if _RANK.search(key) and entry.shape:
            ranks.add(entry.shape[0])
    yield row("layers", _counts(Counter(f"of the {_part(layer)}" for layer in ways)))
    if len(kinds := Counter(ways.values())) > 1:
        yield row("of these", _counts(kinds))
    if ranks:
        yield row("rank", str(min(ranks)) if len(ranks) == 1 else f"{min(ranks)} to {max(ranks)}")
    config = path / "adapter_config.json"
    values = read_json(config) if config.exists() else {}
    for label, key in _PEFT.items():
        if values.get(key):
            yield row(label, str(values[key])[:_LONGEST])
    if words := [key for key in entries if key.startswith("<")]:
        yield row("words", ", ".join(words))


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counter.most_common())


def _part(key: str) -> str:
    if "lora_te2_" in key or "text_encoder_2" in key:
        return "second text encoder"
    return "text encoder" if re.search("^lora_te|text_encoder|text_model", key) else "UNet"


def _control(entries: Mapping[str, Entry]) -> Iterator[str]:
    channels = _side(entries, "hint_block.0.weight", "cond_embedding.conv_in.weight")
    if not channels:  # a T2I-Adapter, which folds 8x8 or 16x16 pixels into channels
        channels = 1 if _side(entries, "conv_in.weight") in (64, 256) else 3
    yield row("reads", "frames in colour" if channels == 3 else f"frames of {channels} channels")
    if "difference" in entries or "lora_controlnet" in entries:
        yield row("adds to", "the weights of the model that it is given with")


def _image_prompt(entries: Mapping[str, Entry]) -> Iterator[str]:
    latents, plain = (
        (*entries[key].shape, 0, 0) if key in entries else ()
        for key in ("image_proj.latents", "image_proj.proj.weight")
    )
    width = _side(entries, "to_k_ip.weight")
    if latents:
        yield row("reads", f"a picture as {latents[1]} words")
    elif plain and width:
        yield row("reads", f"a picture as {plain[0] // width} words")
    layers = _side(entries, "image_proj.proj_in.weight", "image_proj.proj.0.weight")
    embedding = _side(entries, "image_proj.proj.weight")
    encoder = _LAYERS.get(layers) or _EMBEDDING.get(embedding)
    yield row("encoder", f"CLIP {encoder}" if encoder else "the CLIP that it was trained with")


def _side(entries: Mapping[str, Entry], *ends: str) -> int:
    """What the layer takes in whose name ends so; 0 where there is none."""
    shapes = (e.shape for key, e in entries.items() if key.endswith(ends) and len(e.shape) > 1)
    return next(shapes, (0, 0))[1]


def _word(path: Path, entries: Mapping[str, Entry]) -> str:
    """What stands for a textual inversion in a prompt: its own name, or the file's."""
    token = re.compile("<.*>")  # as zs2.checkpoint.embedding, which needs torch, has it
    return next(filter(token.fullmatch, entries), path.stem)
