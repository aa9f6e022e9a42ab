"""Single files of every family: the same networks as from a folder, and as others read them."""

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import torch
from folders import write_tokenizer
from safetensors.torch import save_file
from single_files import (
    loaded,
    same,
    shapes_of,
    single_file,
    single_shapes,
    small,
    write_configs,
    write_folder,
    write_single,
)

from zs2.checkpoint.build import check
from zs2.checkpoint.family import PRESETS
from zs2.checkpoint.folder import tensors as folder_tensors
from zs2.checkpoint.header import Entry
from zs2.checkpoint.kinds import Family
from zs2.checkpoint.load import load_weights
from zs2.checkpoint.names import compvis_name
from zs2.checkpoint.plan import NETWORKS
from zs2.checkpoint.single_file import single_file_tensors
from zs2.models.clip import CLIPTextConfig

FAMILIES = [*Family]
UNET = "model.diffusion_model."


COUNTS = {
    Family.SD1: [686, 248, 196],
    Family.SD2: [686, 248, 372],
    Family.SDXL: [1680, 248, 196, 517],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_the_real_ones_has_its_place(family):
    """From the single file's names: nothing is missing and nothing is left."""
    preset = PRESETS[family]
    shapes = single_shapes(preset, family)
    entries = {name: Entry(Path("x"), name, "F16", shape) for name, shape in shapes.items()}
    found = single_file_tensors(entries, preset)
    assert [len(tensors) for tensors in found.values()] == COUNTS[family]
    for network, expected in shapes_of(preset).items():
        check(expected, found[network], Path("x"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_real_folder_has_its_place(family, monkeypatch):
    """From the names that diffusers and transformers give them."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    preset = PRESETS[family]
    config = {name: dict(vars(getattr(preset, name))) for name in shapes_of(preset)}
    levels = len(preset.vae.block_out_channels)
    config["vae"] |= {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    theirs = {
        "unet": lambda c: UNet2DConditionModel(**c),
        "vae": lambda c: AutoencoderKL(**c),
        "text_encoder": lambda c: CLIPTextModel(CLIPTextConfig(**c)),
        "text_encoder_2": lambda c: CLIPTextModelWithProjection(CLIPTextConfig(**c)),
    }
    for network, expected in shapes_of(preset).items():
        with torch.device("meta"):
            state = theirs[network](config[network]).state_dict()
        entries = {k: Entry(Path("x"), k, "F32", tuple(t.shape)) for k, t in state.items()}
        monkeypatch.setattr("zs2.checkpoint.folder.find_weights", lambda *_, e=entries: e)
        check(expected, folder_tensors(Path("x"), network), Path("x"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_and_a_folder_give_the_same_tensors(family, networks, tmp_path):
    tensors = networks(family)
    file = write_single(tmp_path, single_file(tensors, small(family), family))
    write_folder(tmp_path / "folder", tensors, small(family))
    ours = load_weights(file)
    same(loaded(ours), tensors)
    same(loaded(load_weights(tmp_path / "folder")), tensors)
    assert ours.text.waves == (8 if family is Family.SDXL else 0)
    assert ours.vae.config.scaling_factor == (0.13025 if family is Family.SDXL else 0.18215)
    assert ours.schedule == replace(ours.schedule, prediction_type="epsilon")
    pads = {Family.SD1: [513], Family.SD2: [0], Family.SDXL: [513, 0]}
    assert [int(t.tokenizer.encode(["a"])[0, -1]) for t in ours.text.towers] == pads[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_reads_what_the_tables_write(family, networks, tmp_path):
    tensors = networks(family)
    file = write_single(tmp_path, single_file(tensors, small(family), family))
    write_configs(tmp_path / "config", small(family))
    theirs = read_by_diffusers(file, tmp_path / "config", family, torch.float32)
    same({n: state_of(getattr(theirs, n)) for n in tensors}, tensors)


def state_of(model) -> dict[str, torch.Tensor]:
    """As a folder of any year has it."""
    return {
        k
        if k.startswith("text_projection") or not hasattr(model, "get_input_embeddings")
        else f"text_model.{k.removeprefix('text_model.')}": v
        for k, v in model.state_dict().items()
        if not k.endswith("position_ids")
    }


def read_by_diffusers(file: Path, config: Path, family: Family, dtype: torch.dtype):
    """A single file, by a reader that is not ours."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    xl = family is Family.SDXL
    kind = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    beside = {"add_watermarker": False} if xl else {"safety_checker": None}
    return kind.from_single_file(
        file, config=str(config), local_files_only=True, torch_dtype=dtype, **beside
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_names_the_real_ones_as_we_do(family):
    """Their converters, on the full key lists, against our tensors by identity."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils

    preset = PRESETS[family]
    with torch.device("meta"):
        unet, vae = (NETWORKS[n][0](getattr(preset, n)).state_dict() for n in ("unet", "vae"))
        their_unet = UNet2DConditionModel(**vars(preset.unet))
        their_vae = AutoencoderKL(
            block_out_channels=preset.vae.block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    single = {compvis_name(k, preset.unet): v for k, v in unet.items()}
    converted = single_file_utils.convert_ldm_unet_checkpoint(single, dict(their_unet.config))
    assert {k: id(v) for k, v in converted.items()} == {k: id(v) for k, v in unet.items()}
    assert converted.keys() == their_unet.state_dict().keys()

    single = {compvis_name(k, preset.vae): v for k, v in vae.items()}
    converted = single_file_utils.convert_ldm_vae_checkpoint(single, dict(their_vae.config))
    assert converted.keys() == vae.keys() == their_vae.state_dict().keys()


def pattern(name: str, shape) -> torch.Tensor:
    """Values that no other tensor has in these places, made again whenever they are wanted."""
    values = torch.arange(int(torch.tensor(shape).prod()), dtype=torch.int32)
    return ((values % 1021 + crc32(name.encode()) % 997) / 4096).half().reshape(shape)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_real_ones(family, tmp_path):
    """Real configurations: what we read is what was written, and so is what diffusers reads.

    In fp16: 2 GB of SD 1.x, 2.6 of SD 2.x, 7 of SDXL, and twice that in memory.
    """
    preset = PRESETS[family]
    shapes = shapes_of(preset)
    networks = {
        network: {key: pattern(network + key, shape) for key, shape in expected.items()}
        for network, expected in shapes.items()
    }
    file = tmp_path / "sd.safetensors"
    save_file(single_file(networks, preset, family), file)
    del networks
    write_tokenizer(tmp_path / "tokenizer", CLIPTextConfig().vocab_size)

    def as_written(found) -> None:
        for network, expected in shapes.items():
            assert found[network].keys() == expected.keys()
            for key, shape in expected.items():
                assert pattern(network + key, shape).equal(found[network][key]), key

    as_written(loaded(load_weights(file, dtype=torch.float16)))
    write_configs(tmp_path / "config", preset)
    theirs = read_by_diffusers(file, tmp_path / "config", family, torch.float16)
    as_written({network: state_of(getattr(theirs, network)) for network in shapes})
