"""What `inspect` says of every kind of file: what it fits, what is in it, how it is used."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from headers import FILES, KOHYA, SDXL, UNET, File, lora, model, sparse

from zs2 import inspect, media
from zs2.checkpoint.identity import identify
from zs2.checkpoint.kinds import Role
from zs2.cli.describe_file import details, use
from zs2.cli.options import TABLE, build_parser


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """The lines about a file: its head, and a dictionary of the others by their first words."""
    monkeypatch.chdir(tmp_path)

    def told(file, path="x.safetensors"):
        if file:
            sparse(Path(path), file.shapes, file.metadata)
        assert inspect.main([path]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        return head, {line[:15].rstrip(): line[15:] for line in lines}

    return told


ADAPTERS = [name for name, file in FILES.items() if file.role is not Role.MODEL]


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_kind_says_what_it_is_and_what_to_do(told, name):
    file = FILES[name]
    head, lines = told(file)
    assert head.startswith(f"x.safetensors: {file.words}, ")
    if file.role is None:
        assert lines["instead"]
        assert not {"use", "fits"} & lines.keys()
        return
    command = shlex.split(lines["use"])
    if file.role is Role.UPSCALER:
        assert command == ["python", "-m", "zs2.enhance", "CLIP", "--esrgan", "x.safetensors"]
        return
    assert command[:3] == ["python", "-m", "zs2.sample"]
    assert file.role.option in command
    assert any(word.startswith("x.safetensors") for word in command)
    if {word[2:] for word in command if word.startswith("--")} <= {o.name for o in TABLE}:
        build_parser().parse_args(command[3:])
    assert ("fits" in lines) == (file.family is None)


def test_models_say_how_they_are_used(told):
    assert told(FILES["sd1"])[1]["use"] == 'python -m zs2.sample "PROMPT" -m x.safetensors'
    command = 'python -m zs2.sample "INSTRUCTION" -m x.safetensors --edit VIDEO'
    assert told(FILES["edit"])[1]["use"] == command


def test_a_lora_is_counted(told):
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    shapes = {
        **lora(KOHYA),
        f"{KOHYA}.alpha": (),
        **{key: (16, *shape[1:]) for key, shape in lora(text).items()},
        "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3),
        "lora_unet_conv_in.lora_up.weight": (320, 4, 1, 1),
        "lora_unet_conv_norm_out.w_norm": (320,),
        "lora_unet_conv_norm_out.b_norm": (320,),
    }
    file = File("", None, None, shapes)
    _, lines = told(file)
    assert lines["layers"] == "3 of the UNet, 1 of the text encoder"
    assert lines["of these"] == "2 LoRA, 1 LoCon, 1 norm"
    assert lines["rank"] == "4 to 16"


@pytest.mark.parametrize("name", ["old diffusers", "new diffusers", "peft", "loha", "dora"])
def test_every_naming_is_counted(told, name):
    _, lines = told(FILES[name])
    assert (lines["layers"], lines["rank"]) == ("1 of the UNet", "4")
    assert "of these" not in lines


@pytest.mark.parametrize("name", ["lokr", "glora", "oft", "ia3", "full"])
def test_what_has_no_single_rank_is_counted(told, name):
    assert told(FILES[name])[1]["layers"] == "1 of the UNet"


def test_what_a_header_says_is_told(told):
    metadata = {
        "ss_base_model_version": "sd_v1",
        "ss_network_alpha": "8.0",
        "ss_clip_skip": "None",
        "modelspec.encoder_layer": "2",
        "modelspec.trigger_phrase": "a tok",
        "modelspec.usage_hint": "long " * 100,
    }
    _, lines = told(File("", None, None, lora(KOHYA), metadata))
    assert lines["trained on"] == "sd_v1"
    assert lines["alpha"] == "8.0"
    assert lines["clip skip"] == "2"
    assert lines["trigger words"] == "a tok"
    assert lines["hint"].endswith(" ...")
    assert len(lines["hint"]) < 210


def test_cloneofsimo_s_own_words_are_told(told):
    assert told(FILES["cloneofsimo"])[1]["words"] == "<s1>"


def test_controls_say_what_they_read(told):
    assert told(FILES["controlnet"])[1]["reads"] == "frames in colour"
    assert told(FILES["t2i"])[1]["reads"] == "frames in colour"
    assert told(FILES["diffusers t2i"])[1]["reads"] == "frames in colour"
    grey = {**FILES["t2i"].shapes, "conv_in.weight": (320, 64, 3, 3)}
    assert told(File("", None, None, grey))[1]["reads"] == "frames of 1 channels"
    assert "adds to" not in told(FILES["controlnet"])[1]
    assert told(FILES["difference"])[1]["adds to"].startswith("the weights of the model")
    assert told(FILES["control-lora"])[1]["adds to"].startswith("the weights of the model")


def test_image_prompts_name_their_encoder(told):
    for name, words, encoder in (
        ("ip", "4", "CLIP ViT-H/14"),
        ("ip plus", "16", "CLIP ViT-H/14"),
        ("ip full face", None, "CLIP ViT-H/14"),
    ):
        _, lines = told(FILES[name])
        assert lines["encoder"] == encoder
        assert lines.get("reads") == (words and f"a picture as {words} words")
    plain = {
        "image_proj.proj.weight": (8192, 1280),
        "ip_adapter.1.to_k_ip.weight": (640, 2048),
    }
    _, lines = told(File("", None, None, plain))
    assert (lines["reads"], lines["encoder"]) == ("a picture as 4 words", "CLIP ViT-bigG/14")
    assert told(FILES["clip vision"])[1]["encoder"] == "CLIP ViT-H/14"


def test_an_embedding_is_written_into_the_prompt(told):
    head, lines = told(FILES["embedding"])
    assert head.endswith(", 768 values, 1.5 kB, F16")
    assert lines["length"] == "1 of the prompt's 75 tokens"
    assert "'a picture of <cat>'" in lines["use"]
    _, lines = told(FILES["a1111 embedding"], "my cat.safetensors")
    assert lines["length"] == "8 of the prompt's 75 tokens"
    assert lines["use"].endswith("'a picture of my cat' -m MODEL --embedding 'my cat.safetensors'")
    assert "'a picture of x'" in told(FILES["sdxl embedding"])[1]["use"]


def test_folders_of_one_network(told, tmp_path):
    for name, folder, stem, config in (
        ("diffusers controlnet", "control", "diffusion_pytorch_model", {}),
        ("diffusers t2i", "t2i", "diffusion_pytorch_model.fp16", {}),
        ("diffusers vae", "vae", "diffusion_pytorch_model", {}),
        ("taesd", "taesd", "diffusion_pytorch_model", {}),
        ("clip vision", "vision", "model", {}),
        ("diffusers unet", "unet", "diffusion_pytorch_model", {}),
        ("clip-l", "text", "model.fp16", {}),
        ("new diffusers", "loras", "pytorch_lora_weights", None),
    ):
        (tmp_path / folder).mkdir()
        if config is not None:
            (tmp_path / folder / "config.json").write_text("{}")
        sparse(tmp_path / folder / f"{stem}.safetensors", FILES[name].shapes)
        head, lines = told(None, folder)
        assert head.startswith(f"{folder}: {FILES[name].words}, ")
        assert ("instead" in lines) == (FILES[name].role is None)


def test_a_folder_of_peft(told, tmp_path):
    values = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "a/b"}
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft/adapter_config.json").write_text(json.dumps(values))
    sparse(tmp_path / "peft/adapter_model.safetensors", FILES["peft"].shapes)
    head, lines = told(None, "peft")
    assert head.startswith("peft: a LoRA for SD 1.x, ")
    assert (lines["rank"], lines["alpha"], lines["base model"]) == ("4", "8", "a/b")
    assert lines["use"].endswith("-m MODEL --lora peft:1")


def test_of_several_files_one_is_asked_for(tmp_path, capsys):
    for name in ("a", "b"):
        sparse(tmp_path / f"{name}.safetensors", FILES["kohya"].shapes)
    assert inspect.main([str(tmp_path)]) == 2
    assert "holds 2 safetensors files: give one of them" in capsys.readouterr().err


def without_torch(path: Path) -> bool:
    """Whether `inspect` tells all that it says of a file without torch, which takes seconds."""
    code = (
        f"import sys; from zs2.inspect import main; status = main([{str(path)!r}]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode == 0


@pytest.mark.parametrize("name", ["kohya", "controlnet", "ip", "embedding", "refiner", "vae"])
def test_no_torch_is_needed(tmp_path, name):
    assert without_torch(sparse(tmp_path / "x.safetensors", FILES[name].shapes))


def test_nor_is_it_for_a_clip(tmp_path):
    media.save(tmp_path / "x.png", torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 8, {"prompt": "a"})
    assert without_torch(tmp_path / "x.png")


def test_a_model_is_named_before_torch_is_imported(tmp_path, monkeypatch):
    path = sparse(tmp_path / "x.safetensors", model(SDXL))
    monkeypatch.setitem(sys.modules, "zs2.cli.describe_model", None)  # whoever imports it, fails
    lines = inspect.describe_path(path)
    assert "an SDXL model" in next(lines)
    assert "use " in next(lines)
    with pytest.raises(ImportError):
        list(lines)


def test_names_that_mean_something_to_terminals_are_only_shown(tmp_path, capsys):
    shapes = {f"{UNET}\x1b[31m": (4,)}
    assert inspect.main([str(sparse(tmp_path / "a b.safetensors", shapes))]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(), (3,), (0, 0), (1, 1, 1, 1, 1)])
def test_no_shape_is_a_traceback(shape):
    """A damaged or invented header may hold any shape under any name."""
    for file in FILES.values():
        entries = File("", None, None, dict.fromkeys(file.shapes, shape)).header
        kind = identify(entries)
        list(details(Path("x"), entries, kind))
        use(Path("x"), entries, kind)
