"""What a file is, from its header alone, and the one sentence for what is given as another."""

from pathlib import Path

import pytest
import torch
from headers import FILES, SD1, SD2, SDXL, TEXT, UNET, File, lora, model, sparse

from zs2.checkpoint.header import read_header
from zs2.checkpoint.identity import identify, wanted
from zs2.checkpoint.kinds import Family, Role, check_family
from zs2.checkpoint.load import load_weights
from zs2.errors import InputError

DATA = (parent / "shared/data" for parent in Path(__file__).parents)
REAL = next((path for path in DATA if path.is_dir()), None)
PATH = Path("x.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_told(name):
    file = FILES[name]
    kind = identify(file.header)
    assert (kind.words, kind.role, kind.family) == (file.words, file.role, file.family)
    assert (kind.role is None) == bool(kind.advice)


@pytest.mark.parametrize("role", Role)
def test_every_kind_is_refused_by_the_others_roles(role):
    for file in FILES.values():
        if file.role is role:
            assert wanted(PATH, file.header, role).words == file.words
            continue
        with pytest.raises(InputError) as caught:
            wanted(PATH, file.header, role)
        sentence = str(caught.value)
        if file.role is None:
            assert sentence.startswith(f"x.safetensors is {file.words}, which zs2 does not use: ")
        else:
            assert sentence == (
                f"x.safetensors is {file.words}, not {role.words}: give it with {file.role.option}"
            )


def test_the_sentence_of_a_t2i_adapter_given_as_a_lora():
    with pytest.raises(InputError) as caught:
        wanted(PATH, FILES["t2i"].header, Role.LORA)
    assert str(caught.value) == (
        "x.safetensors is a T2I-Adapter for SD 1.x, not a LoRA: give it with --control"
    )


def test_families_must_agree():
    kind = identify(FILES["kohya sdxl"].header)
    with pytest.raises(InputError) as caught:
        check_family(PATH, kind, SD1)
    assert str(caught.value) == (
        "x.safetensors is a LoRA for SDXL, and the model is SD 1.x: "
        "give one for SD 1.x, or a model of SDXL with --model"
    )
    check_family(PATH, kind, SDXL)
    check_family(PATH, kind, None)  # a small model of no family: shapes will tell
    check_family(PATH, identify(FILES["untold"].header), SD1)


@pytest.mark.parametrize(
    ("metadata", "prediction"),
    [
        ({}, None),
        ({"modelspec.prediction_type": "v"}, "v"),
        ({"modelspec.prediction_type": "v_prediction"}, "v"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, None),
    ],
)
def test_the_header_tells_the_prediction(tmp_path, metadata, prediction):
    path = sparse(tmp_path / "x.safetensors", FILES["sd2"].shapes, metadata)
    assert identify(read_header(path)).prediction == prediction


def test_a_marker_tells_the_prediction(tmp_path):
    path = sparse(tmp_path / "x.safetensors", {**model(SDXL), "v_pred": (), "ztsnr": ()})
    assert identify(read_header(path)).prediction == "v"


def test_inputs_are_told():
    assert [identify(FILES[n].header).inputs for n in ("sd1", "edit", "inpainting")] == [4, 8, 9]


@pytest.mark.parametrize("family", Family)
def test_a_header_s_word_counts_where_names_and_shapes_say_nothing(tmp_path, family):
    told = {SD1: "sd_v1", SD2: "sd_v2_v", SDXL: "sdxl_base_v1-0"}[family]
    shapes = lora("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 1280)
    path = sparse(tmp_path / "x.safetensors", shapes, {"ss_base_model_version": told})
    assert identify(read_header(path)).family is family
    shapes = lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768)
    path = sparse(tmp_path / "y.safetensors", shapes, {"ss_base_model_version": told})
    assert identify(read_header(path)).family is SD1


def test_loading_says_it_too(tmp_path):
    path = sparse(tmp_path / "x.safetensors", FILES["ip"].shapes)
    with pytest.raises(
        InputError, match=r"is an IP-Adapter for SD 1[.]x, not a model: give it with"
    ):
        load_weights(path)
    path.write_bytes(b"GGUF\3\0\0\0" + bytes(100))
    with pytest.raises(InputError, match=r"is GGUF.*: give the safetensors file"):
        load_weights(path)


def test_real_files():
    if REAL is None:
        pytest.skip("the real files are not here")
    for name, words in {
        "lora/analog": "a LoRA for SD 1.x",
        "lora/disney": "a LoRA for SD 1.x",
        "esrgan/realesr-animevideov3-x4": "an ESRGAN upscaler",
        "esrgan/realesrgan-x4plus-anime": "an ESRGAN upscaler",
    }.items():
        assert identify(read_header(REAL / f"{name}.safetensors")).words == words


def test_what_diffusers_and_transformers_write_is_told():
    """Their own names of tensors, of networks made small."""
    import diffusers as d
    import transformers as t

    levels = {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": 4,
    }
    deep = {"transformer_layers_per_block": 2, "cross_attention_dim": 2048}
    deep |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    deep |= {"projection_class_embeddings_input_dim": 80}
    ups = {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    t2i = {"in_channels": 3, "channels": [32, 64]}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 4}
    made = {
        "the UNet of an SD 1.x model alone": d.UNet2DConditionModel(
            **levels, **ups, cross_attention_dim=768
        ),
        "a ControlNet for SD 1.x": d.ControlNetModel(**levels, cross_attention_dim=768),
        "a ControlNet for SD 2.x": d.ControlNetModel(**levels, cross_attention_dim=1024),
        "a ControlNet for SDXL": d.ControlNetModel(**levels, **deep),
        "a union ControlNet for SDXL": d.ControlNetUnionModel(**levels, **deep),
        "a T2I-Adapter for SD 1.x": d.T2IAdapter(**t2i),
        "a T2I-Adapter for SDXL": d.T2IAdapter(
            adapter_type="full_adapter_xl", **t2i, downscale_factor=16
        ),
        "several T2I-Adapters in one file": d.MultiAdapter([d.T2IAdapter(**t2i)] * 2),
        "a VAE": d.AutoencoderKL(block_out_channels=(32,)),
        "a VAE of 16 channels": d.AutoencoderKL(block_out_channels=(32,), latent_channels=16),
        "a TAESD": d.AutoencoderTiny(),
        "a CLIP vision encoder": t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**vision)),
        "a text encoder alone": t.CLIPTextModel(t.CLIPTextConfig(vocab_size=64, **vision)),
    }
    for words, network in made.items():
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        assert identify(File("", None, None, shapes).header).words == words
    network = t.CLIPVisionModel(t.CLIPVisionConfig(**vision))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert identify(File("", None, None, shapes).header).words == "a CLIP vision encoder"


def full_size(family: Family) -> dict[str, tuple[int, ...]]:
    """All names and shapes of a UNet as diffusers makes it, under a single file's names."""
    from diffusers import UNet2DConditionModel

    from zs2.checkpoint.names import compvis_name
    from zs2.models.unet import UNetConfig

    kinds = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2)
    options = {
        SD1: {"cross_attention_dim": 768},
        SD2: {
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        SDXL: {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": kinds,
            "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    }[family]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**options)
    blocks = {k: options[k] for k in ("down_block_types", "up_block_types") if k in options}
    config = UNetConfig(**blocks)
    shapes = {}
    for key, tensor in unet.state_dict().items():
        if key.startswith("add_embedding"):
            name = UNET + key.replace("add_embedding.linear_1", "label_emb.0.0")
            name = name.replace("add_embedding.linear_2", "label_emb.0.2")
        else:
            name = compvis_name(key, config)
        shapes[name] = tuple(tensor.shape)
    return shapes | {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)} | TEXT[family]


@pytest.mark.parametrize("family", Family)
def test_a_model_of_full_size_is_told(family):
    entries = File("", None, None, full_size(family)).header
    assert identify(entries).words == f"an {family.value} model"
