"""ESRGAN's upscalers: real weights against another implementation's output, names, tiles."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zs2.checkpoint.esrgan import load_esrgan
from zs2.errors import InputError
from zs2.models.esrgan import CompactConfig, CompactNet, DenseBlock, RRDBConfig, RRDBNet, upscale

DATA = next(filter(Path.is_dir, (p / "shared/data" for p in Path(__file__).parents)), None)
CPU = torch.device("cpu")
SMALL = RRDBConfig(width=8, growth=4, blocks=2)
COMPACT = CompactConfig(scale=3, width=8, layers=2)


def random(net):
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval().requires_grad_(False)


def picture(height=20, width=28):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.skipif(DATA is None, reason="needs the shared data")
@pytest.mark.parametrize("name", ["realesr-animevideov3-x4", "realesrgan-x4plus-anime"])
def test_real_weights_give_what_another_program_made_of_them(name):
    net = load_esrgan(DATA / f"esrgan/{name}.safetensors", CPU, torch.float32)
    golden = load_file(DATA / f"esrgan/golden-{name}.safetensors")
    # The other program's sums are in another order, over some hundred layers.
    torch.testing.assert_close(net(golden["input"]), golden["output"], rtol=0, atol=1e-3)


def old(key):
    """The first names of ESRGAN's files."""
    names = {
        "conv_first": "model.0",
        "conv_body": "model.1.sub.2",
        "conv_up1": "model.3",
        "conv_up2": "model.6",
        "conv_hr": "model.8",
        "conv_last": "model.10",
    }
    stem, _, kind = key.rpartition(".")
    if stem in names:
        return f"{names[stem]}.{kind}"
    _, block, dense, convolution = stem.split(".")
    return f"model.1.sub.{block}.{dense.upper()}.{convolution}.0.{kind}"


def second(key):
    names = {
        "conv_body": "trunk_conv",
        "conv_up1": "upconv1",
        "conv_up2": "upconv2",
        "conv_hr": "HRconv",
    }
    stem, _, kind = key.rpartition(".")
    stem = stem.replace("body.", "RRDB_trunk.").replace(".rdb", ".RDB")
    return f"{names.get(stem, stem)}.{kind}"


@pytest.mark.parametrize("name", [str, old, second, "params_ema.{}".format, "params.{}".format])
def test_every_name_of_the_deep_one(tmp_path, name):
    net = random(RRDBNet(SMALL))
    save_file({name(k): v for k, v in net.state_dict().items()}, tmp_path / "x.safetensors")
    found = load_esrgan(tmp_path / "x.safetensors", CPU, torch.float32)
    assert found.config == SMALL
    # What is loaded lies elsewhere in memory, and sums depend on that.
    torch.testing.assert_close(found(picture()[None]), net(picture()[None]), rtol=1e-5, atol=1e-5)


def test_the_compact_one_is_read_off_its_shapes(tmp_path):
    net = random(CompactNet(COMPACT))
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    found = load_esrgan(tmp_path / "x.safetensors", CPU, torch.float32)
    assert found.config == COMPACT
    assert found(picture()[None]).shape == (1, 3, 60, 84)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(20, 28), (21, 27)])
def test_folded_pixels_leave_less_to_enlarge(tmp_path, scale, size):
    net = random(RRDBNet(RRDBConfig(scale, 8, 4, 1)))
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    found = load_esrgan(tmp_path / "x.safetensors", CPU, torch.float32)
    assert found.config.scale == scale
    made = found(picture(*size)[None])
    assert made.shape == (1, 3, scale * size[0], scale * size[1])


def test_tiles_are_the_whole_where_they_see_enough():
    """The compact net sees as many pixels around as it has convolutions: 4 here."""
    net = random(CompactNet(COMPACT))
    whole = net(picture()[None])[0].clamp(0, 1)
    torch.testing.assert_close(upscale(net, picture(), 8, 4), whole, rtol=1e-5, atol=1e-5)
    assert (upscale(net, picture(), 8, 1) - whole).abs().max() > 1e-3
    torch.testing.assert_close(upscale(net, picture()), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_mid_block.lora_up.weight": (2, 2)}, "is a LoRA, not an ESRGAN upscaler"),
        ({"conv_first.weight": (8, 5, 3, 3)}, "of a form that zs2 does not know"),
        ({"body.0.weight": (8, 3, 3, 3), "body.1.weight": (8,)}, "lacks|does not know"),
    ],
)
def test_other_files_are_one_sentence(tmp_path, tensors, words):
    path = tmp_path / "x.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, path)
    with pytest.raises(InputError, match=words) as caught:
        load_esrgan(path, CPU, torch.float32)
    assert "\n" not in str(caught.value)


def test_a_body_of_zeros_leaves_the_nearest_pixels():
    net = CompactNet(COMPACT)
    for parameter in net.parameters():
        parameter.data.zero_()
    shown = picture()
    enlarged = shown.repeat_interleave(3, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(net(shown[None])[0], enlarged)


def test_a_dense_block_by_hand():
    """Of one channel, where every convolution adds up the middle pixels of all maps so far."""
    block = random(DenseBlock(1, 1))
    for parameter in block.parameters():
        parameter.data.zero_()
        if parameter.ndim == 4:
            parameter.data[..., 1, 1] = 1
    x = torch.tensor([1.0, -1.0]).reshape(1, 1, 1, 2)
    # 1, 1, 2, 4, 8 add up to 16; -1, -.2, -.24, -.288, -.3456 to -2.0736; then 0.2 of each.
    expected = torch.tensor([1 + 0.2 * 16, -1 - 0.2 * 2.0736]).reshape(1, 1, 1, 2)
    torch.testing.assert_close(block(x), expected)
