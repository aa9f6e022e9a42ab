"""A checkpoint in one file, as CompVis and Stability wrote theirs: no configuration, no tokenizer.

The configurations are the family's; what the model predicts is told by a marker, by the header's
words or, of SD 2.x, by a tensor.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zs2.checkpoint.build import expected_shapes, read_tensor
from zs2.checkpoint.eight_bits import with_scales
from zs2.checkpoint.family import Preset, preset_of
from zs2.checkpoint.header import Entry, Header, read_header
from zs2.checkpoint.identity import wanted
from zs2.checkpoint.kinds import Family, Kind, Role
from zs2.checkpoint.names import HARMLESS, PREFIX, TEXT_PREFIXES, compvis_name, current_name
from zs2.checkpoint.names_openclip import openclip_tensors
from zs2.checkpoint.plan import NETWORKS, Plan, Plans, told
from zs2.errors import InputError
from zs2.models.clip import CLIPTextConfig
from zs2.schedule import Schedule

_LAST_NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def plan_file(path: Path, prediction: str | None) -> Plans:
    """What a single file will become.

    Raises:
        InputError: it is no model, or of a kind that zs2 does not use.
    """
    entries = read_header(path)
    kind = wanted(path, entries, Role.MODEL)
    kind = replace(kind, prediction=prediction or predicted(entries, kind))
    preset = configured(entries, kind)
    if preset is None:
        raise InputError(f"{path} is a model of a family that nothing tells: give its folder")
    plans = {
        name: Plan(name, path, getattr(preset, name), found)
        for name, found in single_file_tensors(entries, preset).items()
    }
    return Plans(plans, told(_schedule(entries), kind.prediction), preset.pads)


def configured(entries: Mapping[str, Entry], kind: Kind) -> Preset | None:
    """The configurations of a model's networks: its family's, and what its tensors add to them."""
    preset = preset_of(kind)
    scale = entries.get(PREFIX["unet"] + "time_embed.cond_proj.weight")
    if preset is None or scale is None or len(scale.shape) != 2:
        return preset
    return replace(preset, unet=replace(preset.unet, time_cond_proj_dim=scale.shape[1]))


def predicted(entries: Mapping[str, Entry], kind: Kind) -> str | None:
    """What a model predicts, where the file says so or, as ComfyUI does, by one norm of SD 2.x.

    Raises:
        InputError: the tensor cannot be read.
    """
    norm = entries.get(_LAST_NORM)
    if kind.prediction or kind.family is not Family.SD2 or norm is None or norm.values < 2:
        return kind.prediction
    return "v" if float(read_tensor(norm).float().std()) > 0.09 else "epsilon"


def single_file_tensors(
    entries: Mapping[str, Entry], preset: Preset
) -> dict[str, dict[str, Entry]]:
    """The tensors of each network under our names.

    One that the network does not have, or has already, keeps its own name.
    """
    entries = with_scales({k: e for k, e in entries.items() if not HARMLESS.search(k)})
    found: dict[str, dict[str, Entry]] = {}
    for network, prefix in PREFIX.items():
        config = getattr(preset, network)
        shapes = expected_shapes(NETWORKS[network][0], config)
        ours = {compvis_name(key, config): key for key in shapes}
        found[network] = {}
        for name, entry in entries.items():
            if name.startswith(prefix):
                # Some of SDXL number an upsampler as if no transformer stood before it.
                key = ours.get(name) or ours.get(name.replace(".1.conv.", ".2.conv."), name)
                found[network][name if key in found[network] else key] = entry
    for network, prefixes in TEXT_PREFIXES.items():
        if config := getattr(preset, network):
            found[network] = _text(entries, prefixes, config, network == "text_encoder_2")
    return found


def _text(
    entries: Mapping[str, Entry], prefixes: tuple[str, ...], config: CLIPTextConfig, projected: bool
) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, entry in entries.items():
        for prefix in prefixes:
            if not name.startswith(prefix):
                continue
            rest = name.removeprefix(prefix)
            if prefix.endswith(".model."):
                parts = [*openclip_tensors(rest, entry, config, projected)]
            else:  # old files, and newer transformers, leave text_model out
                parts = [(current_name("text_encoder", rest), entry)]
            found |= {name if key in found else key: part for key, part in parts}
    return found


def _schedule(entries: Header) -> Schedule:
    zero = "ztsnr" in entries or entries.metadata.get("ss_zero_terminal_snr") == "True"
    if zero:  # its last step has no signal: the only spacing that begins there
        return Schedule(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return Schedule()
