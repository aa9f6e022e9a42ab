"""Control files of every form: names, configurations, what is made with the UNet's weights."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from diffusers import T2IAdapter as TheirAdapter
from parity import SD15_UNET, SDXL_UNET, error, scramble
from safetensors.torch import save_file
from torch import Tensor

from zs2.checkpoint.build import expected_shapes
from zs2.checkpoint.control import compvis_control_name, hugging_face_name, load_control, pick
from zs2.checkpoint.t2i_adapter import hugging_face_names
from zs2.errors import InputError
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.t2i_adapter import T2IAdapter
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.weights import Weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights(random_pipe) -> Weights:
    return random_pipe.weights


@pytest.fixture(scope="module")
def theirs(weights) -> ControlNetModel:
    config = weights.unet.config
    return scramble(
        ControlNetModel(
            block_out_channels=config.block_out_channels,
            down_block_types=config.down_block_types,
            layers_per_block=config.layers_per_block,
            cross_attention_dim=config.cross_attention_dim,
            attention_head_dim=config.attention_head_dim,
        ),
        9,
    )


@pytest.fixture(scope="module")
def state(theirs) -> State:
    return {key: value.detach() for key, value in theirs.state_dict().items()}


def compvis(state: State, weights: Weights, prefix: str = "control_model.") -> State:
    config = ControlNetConfig.of(weights.unet.config)
    return {prefix + compvis_control_name(k, config): v.contiguous() for k, v in state.items()}


def written(path: Path, state: State, **more: Tensor) -> Path:
    save_file({k: v.contiguous() for k, v in {**state, **more}.items()}, path)
    return path


def same(net: torch.nn.Module, state: State) -> bool:
    ours = net.state_dict()
    return ours.keys() == state.keys() and all(ours[k].equal(state[k]) for k in state)


def test_a_folder_and_single_files_hold_the_same(theirs, state, weights, tmp_path):
    theirs.save_pretrained(tmp_path / "net")
    assert same(load_control(tmp_path / "net", weights), state)
    for name, tensors in {
        "diffusers": state,
        "compvis": compvis(state, weights),
        "bare": compvis(state, weights, ""),
        # A whole model of the authors: their UNet is in it too.
        "whole": {**compvis(state, weights), "model.diffusion_model.out.2.bias": torch.zeros(4)},
    }.items():
        net = load_control(written(tmp_path / f"{name}.safetensors", tensors), weights)
        assert same(net, state), name
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
        assert not net.config.global_pool_conditions


def test_the_name_of_a_file_tells_that_it_shuffles(state, weights, tmp_path):
    path = written(tmp_path / "control_v11e_sd15_shuffle.safetensors", state)
    assert load_control(path, weights).config.global_pool_conditions


def test_differences_are_added_to_the_unet(state, weights, tmp_path):
    base = weights.unet.state_dict()
    changes = {k: v - base[k] if k in base else v for k, v in state.items()}
    tensors = compvis(changes, weights)
    path = written(tmp_path / "d.safetensors", tensors, difference=torch.zeros(()))
    made = load_control(path, weights).state_dict()
    assert made.keys() == state.keys()
    for key in state:
        torch.testing.assert_close(made[key], state[key])  # a - b + b, in float32
    assert error(made["conv_in.weight"], changes["conv_in.weight"]) > 0.1


def factored(state: State, weights: Weights) -> tuple[State, State]:
    """A Control-LoRA's tensors without a prefix, and what they mean."""
    base, generator = weights.unet.state_dict(), torch.Generator().manual_seed(3)
    tensors, meant = {}, {}
    names = compvis(state, weights, "")
    for (name, value), key in zip(names.items(), state, strict=True):
        if key in base and value.ndim > 1:
            up = torch.randn(len(value), 2, generator=generator)
            down = torch.randn(2, *value.shape[1:], generator=generator)
            stem = name.removesuffix("weight")
            tensors[stem + "up"] = up[:, :, None, None] if value.ndim == 4 else up
            tensors[stem + "down"] = down
            meant[key] = base[key] + torch.einsum("or,r...->o...", up, down)
        else:
            tensors[name] = meant[key] = value
    return tensors, meant


def test_a_control_lora_changes_the_unet(state, weights, tmp_path):
    tensors, meant = factored(state, weights)
    path = written(tmp_path / "l.safetensors", tensors, lora_controlnet=torch.zeros(()))
    before = {k: v.clone() for k, v in weights.unet.state_dict().items()}
    made = load_control(path, weights).state_dict()
    assert made.keys() == meant.keys()
    for key in meant:
        torch.testing.assert_close(made[key], meant[key], rtol=1e-5, atol=1e-5)
    assert same(weights.unet, before)


def test_what_a_control_lora_leaves_out_is_the_unets(state, weights, tmp_path):
    tensors, _ = factored(state, weights)
    for end in ("up", "down"):
        del tensors[f"input_blocks.1.0.in_layers.2.{end}"]
    path = written(tmp_path / "l.safetensors", tensors, lora_controlnet=torch.zeros(()))
    made = load_control(path, weights)
    assert (
        made.down_blocks[0]
        .resnets[0]
        .conv1.weight.equal(weights.unet.down_blocks[0].resnets[0].conv1.weight)
    )


@pytest.mark.parametrize("kind", ["difference", "lora_controlnet"])
def test_a_control_lora_of_half_precision_is_summed_in_float32(state, weights, tmp_path, kind):
    half = replace(weights, unet=UNet(weights.unet.config).to(torch.bfloat16))
    half.unet.load_state_dict(weights.unet.state_dict())
    base = half.unet.state_dict()
    if kind == "difference":
        tensors = compvis(state, weights)
        meant = {k: v + base[k].float() if k in base else v for k, v in state.items()}
    else:
        tensors, _ = factored(state, weights)
        _, meant = factored(state, replace(weights, unet=half.unet.float()))
        half.unet.to(torch.bfloat16)
    path = written(tmp_path / "l.safetensors", tensors, **{kind: torch.zeros(())})
    made = load_control(path, half).state_dict()
    assert {t.dtype for t in made.values()} == {torch.bfloat16}
    key = "down_blocks.0.resnets.0.conv1.weight"
    torch.testing.assert_close(made[key], meant[key].bfloat16(), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("values", [SD15_UNET, SDXL_UNET], ids=["1.5", "xl"])
def test_the_real_names_lead_to_every_tensor_and_none_is_left(values):
    """diffusers' own list of names and shapes, and CompVis' through the table and back."""
    config = ControlNetConfig.of(UNetConfig(**values))
    ours = expected_shapes(ControlNet, config)
    own = {k: v for k, v in values.items() if k not in ("sample_size", "up_block_types")}
    with torch.device("meta"):
        theirs = ControlNetModel(**own)
    assert ours == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    names = {compvis_control_name(key, config): key for key in ours}
    assert len(names) == len(ours)
    assert [hugging_face_name(name, names) for name in names] == [*ours]
    if values is SD15_UNET:
        assert len(ours) == 340
        assert sum(torch.Size(shape).numel() for shape in ours.values()) == 361_279_120
    # Every name is one of the authors' modules.
    known = r"(time_embed|label_emb\.0|input_blocks\.\d+|middle_block|input_hint_block|zero_convs"
    assert all(re.match(rf"{known}\.\d+|middle_block_out)\.\d", name) for name in names)
    assert "zero_convs.8.0.weight" in names
    assert "middle_block_out.0.weight" in names
    for i in range(0, 15, 2):
        assert f"input_hint_block.{i}.weight" in names


def test_the_authors_own_names():
    """As in control_v11p_sd15_canny.pth, the first and last of each sort."""
    config = ControlNetConfig()
    for ours, theirs in {
        "controlnet_cond_embedding.conv_in.weight": "input_hint_block.0.weight",
        "controlnet_cond_embedding.blocks.0.bias": "input_hint_block.2.bias",
        "controlnet_cond_embedding.blocks.5.weight": "input_hint_block.12.weight",
        "controlnet_cond_embedding.conv_out.bias": "input_hint_block.14.bias",
        "controlnet_down_blocks.11.weight": "zero_convs.11.0.weight",
        "controlnet_mid_block.bias": "middle_block_out.0.bias",
        "conv_in.weight": "input_blocks.0.0.weight",
        "down_blocks.3.resnets.1.time_emb_proj.weight": "input_blocks.11.0.emb_layers.1.weight",
        "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
    }.items():
        assert compvis_control_name(ours, config) == theirs


def adapter_state(kind: str, **more) -> tuple[State, TheirAdapter]:
    light = kind == "light_adapter"
    theirs = TheirAdapter(
        channels=[32, 64] if light else [32, 64, 64, 64],
        num_res_blocks=4 if light else 2,
        downscale_factor=16 if kind.endswith("xl") else 8,
        adapter_type=kind,
        **more,
    )
    return {k: v.detach() for k, v in scramble(theirs, 4).state_dict().items()}, theirs


def tencent(state: State, light: bool) -> State:
    """The names that TencentARC's program gives."""
    made = {}
    for key, value in state.items():
        name = key.removeprefix("adapter.")
        if light:
            name = name.replace(".resnets.", ".body.")
        elif match := re.fullmatch(r"body\.(\d)\.resnets\.(\d)\.(.+)", name):
            name = f"body.{2 * int(match[1]) + int(match[2])}.{match[3]}"
        elif match := re.fullmatch(r"body\.(\d)\.in_conv\.(.+)", name):
            name = f"body.{2 * int(match[1])}.in_conv.{match[2]}"
        made[name] = value
    return made


@pytest.mark.parametrize("kind", ["full_adapter", "full_adapter_xl", "light_adapter"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_adapter_is_the_same_from_all_its_names(weights, tmp_path, kind, channels):
    state, theirs = adapter_state(kind, in_channels=channels)
    theirs.save_pretrained(tmp_path / "folder")
    paths = [
        tmp_path / "folder",
        written(tmp_path / "diffusers.safetensors", state),
        written(tmp_path / "tencent.safetensors", tencent(state, kind == "light_adapter")),
    ]
    factor = 16 if kind.endswith("xl") else 8
    hint = torch.rand(1, 3, 4 * factor, 2 * factor, generator=torch.Generator().manual_seed(1))
    expected = theirs(hint if channels == 3 else hint.mean(1, keepdim=True))
    for path in paths:
        net = load_control(path, weights)
        assert isinstance(net, T2IAdapter)
        assert same(net, {k.removeprefix("adapter."): v for k, v in state.items()})
        for one, other in zip(net.picture(hint), expected, strict=True):
            assert error(one, other) < 1e-5


def test_a_controlnet_sees_the_latents_alone(state, weights, tmp_path):
    """Whatever an Instruct-Pix2Pix model sees beside them; what that changes is of no use here."""
    with torch.device("meta"):
        unet = UNet(replace(weights.unet.config, in_channels=8))
    unet.to_empty(device="cpu")
    editor = replace(weights, unet=unet)
    path = written(tmp_path / "x.safetensors", compvis(state, weights))
    assert same(load_control(path, editor), state)
    path = written(path, compvis(state, weights), difference=torch.zeros(()))
    refused(path, editor, r"conv_in.weight changes \[32, 4, 3, 3\], and the model's is \[32, 8, 3")


def test_an_adapter_that_learnt_to_halve(weights, tmp_path):
    """TencentARC's first ones: 3x3 kernels and a convolution that halves."""
    state, _ = adapter_state("full_adapter")
    tensors = tencent(state, False)
    for key in [*tensors]:
        if ".block2.weight" in key or ".in_conv.weight" in key:
            tensors[key] = tensors[key].repeat(1, 1, 3, 3) / 9
    for level, width in ((1, 32), (2, 64), (3, 64)):
        tensors[f"body.{2 * level}.down_opt.op.weight"] = torch.randn(width, width, 3, 3)
        tensors[f"body.{2 * level}.down_opt.op.bias"] = torch.zeros(width)
    net = load_control(written(tmp_path / "t.safetensors", tensors), weights)
    assert (net.config.kernel, net.config.learned_downsampling) == (3, True)
    assert [f.shape[-1] for f in net.picture(torch.rand(1, 3, 128, 128))] == [16, 8, 4, 2]


def refused(path: Path, weights: Weights, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_control(path, weights)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_whole_are_refused(state, weights, tmp_path):
    path, tensors = tmp_path / "x.safetensors", compvis(state, weights)
    some = {k: v for k, v in tensors.items() if "zero_convs.1." not in k}
    refused(
        written(path, some), weights, r"lacks 2 of \d+ tensors: controlnet_down_blocks.1.weight"
    )
    refused(written(path, tensors, **{"control_model.x": torch.ones(1)}), weights, "too many: x")
    wide = {**tensors, "control_model.input_blocks.0.0.weight": torch.ones(32, 8, 3, 3)}
    refused(written(path, wide), weights, r"conv_in.weight has shape \[32, 8, 3, 3\], expected")
    factors, _ = factored(state, weights)
    mark = {"lora_controlnet": torch.zeros(())}
    del factors["zero_convs.0.0.weight"]
    refused(written(path, factors, **mark), weights, "lacks controlnet_down_blocks.0.weight")
    factors, _ = factored(state, weights)
    refused(written(path, factors, x=torch.ones(1), **mark), weights, "1 tensors too many: x")
    factors["input_blocks.0.0.down"] = torch.ones(2, 8, 3, 3)
    refused(written(path, factors, **mark), weights, "was made for another model: conv_in.weight")
    adapter = {k: v for k, v in adapter_state("full_adapter")[0].items() if "conv_in" not in k}
    refused(written(path, adapter), weights, "lacks conv_in.weight")
    skep = {**tencent(adapter_state("full_adapter")[0], False), "body.0.skep.weight": torch.ones(1)}
    refused(written(path, skep), weights, "1 tensors too many: body.0.skep.weight")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("task_embedding", "a union ControlNet"),
        ("lllite_unet_input_blocks_4_1.down.0.weight", "LLLite"),
        ("x.lora_down.weight", "LoRA"),
        ("image_proj.proj.weight", "IP-Adapter"),
    ],
)
def test_other_files_are_refused_by_name(weights, tmp_path, key, words):
    path = written(tmp_path / "x.safetensors", {key: torch.ones(2, 2)})
    refused(path, weights, words)


def test_another_family_is_named(weights, tmp_path):
    config = ControlNetConfig(cross_attention_dim=2048, block_out_channels=(32, 32, 32, 32))
    net = scramble(ControlNet(config))
    xl = written(tmp_path / "x.safetensors", net.state_dict())
    with torch.device("meta"):
        sd1 = replace(weights, unet=UNet(UNetConfig(block_out_channels=(32, 32, 32, 32))))
    refused(xl, sd1, r"is a ControlNet for SDXL, and the model is SD 1\.x")


def test_of_a_repository_only_what_is_read_is_downloaded():
    plain, half = (f"diffusion_pytorch_model{v}.safetensors" for v in ("", ".fp16"))
    files = [
        "config.json",
        plain,
        half,
        "diffusion_pytorch_model.bin",
        "images/x.png",
        "x/" + plain,
    ]
    assert pick(files) == ["config.json", plain]
    assert pick(["config.json", half]) == ["config.json", half]


def test_hugging_face_names_keep_what_is_unknown():
    entries = {"body.0.block1.weight": 1, "x": 2, "body.1.skep.bias": 3}
    assert hugging_face_names(entries) == {
        "body.0.resnets.0.block1.weight": 1,
        "x": 2,
        "body.0.skep.bias": 3,
    }
