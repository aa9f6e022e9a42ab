"""Every kind of file, as its header has it: a few of the names and shapes of real ones."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zs2.checkpoint.header import Entry, Header
from zs2.checkpoint.kinds import Family, Role

Shapes = Mapping[str, tuple[int, ...]]


def sparse(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file whose tensors are holes: as large as told, and nothing on the disk."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": [*shape], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


@dataclass(frozen=True)
class File:
    """A file's tensors and header, and what zs2 should say that it is."""

    words: str
    role: Role | None
    family: Family | None
    shapes: Shapes
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def header(self) -> Header:
        shapes = self.shapes.items()
        found = Header({k: Entry(Path("x.safetensors"), k, "F16", shape) for k, shape in shapes})
        found.metadata = self.metadata
        return found


SD1, SD2, SDXL = Family
WIDTH = {SD1: 768, SD2: 1024, SDXL: 2048}
UNET = "model.diffusion_model."
ATTN = "1.transformer_blocks.0.attn2.to_k.weight"


def unet(family: Family, inputs: int = 4, depth: int = 10, first: int = 320) -> dict:
    """Of a UNet in the CompVis layout: its first convolution, attentions and middle."""
    width = WIDTH[family]
    shapes = {
        "input_blocks.0.0.weight": (first, inputs, 3, 3),
        "time_embed.0.weight": (1280, first),
    }
    if family is not SDXL:
        places = ("input_blocks.1.", "input_blocks.2.", "input_blocks.7.", "middle_block.")
        return shapes | {f"{p}{ATTN}": (320, width) for p in places}
    shapes |= {f"input_blocks.{i}.{ATTN}": (640, width) for i in (4, 5, 7, 8)}
    more = (f"input_blocks.7.1.transformer_blocks.{i}.attn2.to_k.weight" for i in range(1, depth))
    shapes |= dict.fromkeys(more, (1280, width))
    shapes |= {"label_emb.0.0.weight": (1280, 2816)}
    return shapes | ({f"middle_block.{ATTN}": (1280, width)} if depth == 10 else {})


TEXT = {
    SD1: {
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768)
    },
    SD2: {"cond_stage_model.model.token_embedding.weight": (49408, 1024)},
    SDXL: {
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
        "conditioner.embedders.1.model.ln_final.weight": (1280,),
    },
}
VAE = {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)}


def model(family: Family, unet_of: Shapes | None = None) -> dict:
    return {
        **{UNET + key: shape for key, shape in (unet_of or unet(family)).items()},
        **{f"first_stage_model.{key}": shape for key, shape in VAE.items()},
        **TEXT[family],
    }


def lora(
    layer: str, width: int = 768, up: str = ".lora_up.weight", down: str = ".lora_down.weight"
) -> dict:
    return {layer + down: (4, width), layer + up: (320, 4)}


KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
KOHYA_XL = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"
DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
PEFT = {"up": ".lora_B.weight", "down": ".lora_A.weight"}
CONTROL = {k: v for k, v in unet(SD1).items() if "output" not in k}
HINT = {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)}
DIFFUSERS_CONTROL = {
    "conv_in.weight": (320, 4, 3, 3),
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    "add_embedding.linear_1.weight": (1280, 2816),
}
TAESD_DECODER = {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}
TAESD_ENCODER = {"0.weight": (64, 3, 3, 3), "1.conv.0.weight": (64, 64, 3, 3)}

FILES: dict[str, File] = {
    # Models.
    "sd1": File("an SD 1.x model", Role.MODEL, SD1, model(SD1)),
    "sd2": File("an SD 2.x model", Role.MODEL, SD2, model(SD2)),
    "sdxl": File("an SDXL model", Role.MODEL, SDXL, model(SDXL)),
    "edit": File(
        "an SD 1.x Instruct-Pix2Pix model", Role.MODEL, SD1, model(SD1, unet(SD1, inputs=8))
    ),
    "inpainting": File(
        "an inpainting model with 9 input channels", None, SDXL, model(SDXL, unet(SDXL, 9))
    ),
    "depth": File("a depth model with 5 input channels", None, SD2, model(SD2, unet(SD2, 5))),
    "upscaler": File(
        "an upscaler model with 7 input channels", None, SD2, model(SD2, unet(SD2, 7))
    ),
    "odd": File("a UNet with 6 input channels", None, SD1, model(SD1, unet(SD1, 6))),
    "cosxl-edit": File(
        "an SDXL Instruct-Pix2Pix model", None, SDXL, model(SDXL, unet(SDXL, inputs=8))
    ),
    "cosxl": File(
        "an SDXL model of continuous noise levels (EDM)",
        None,
        SDXL,
        {**model(SDXL), "edm_vpred.sigma_max": (1,)},
    ),
    "refiner": File(
        "an SDXL refiner",
        None,
        SDXL,
        {
            f"{UNET}input_blocks.0.0.weight": (384, 4, 3, 3),
            **{
                f"{UNET}input_blocks.4.1.transformer_blocks.{i}.attn2.to_k.weight": (768, 1280)
                for i in range(4)
            },
            f"{UNET}label_emb.0.0.weight": (1536, 2560),
            "conditioner.embedders.0.model.ln_final.weight": (1280,),
            "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
        },
    ),
    "ssd": File(
        "an SDXL model made smaller (SSD-1B)", None, SDXL, model(SDXL, unet(SDXL, depth=4))
    ),
    "vega": File("an SDXL model made smaller (Vega)", None, SDXL, model(SDXL, unet(SDXL, depth=2))),
    "koala": File("an SDXL model made smaller (KOALA)", None, SDXL, unet(SDXL, depth=6)),
    "tiny": File(
        "an SD 1.x model made smaller",
        None,
        SD1,
        {k: v for k, v in model(SD1).items() if "middle_block" not in k},
    ),
    "unclip": File(
        "an SD 2.x unCLIP model",
        None,
        SD2,
        {**model(SD2), f"{UNET}label_emb.0.0.weight": (1280, 2048)},
    ),
    "lcm": File(
        "an SD 1.x model",
        Role.MODEL,
        SD1,
        {**model(SD1), f"{UNET}time_embed.cond_proj.weight": (320, 256)},
    ),
    # A model's parts.
    "no vae": File(
        "an SD 1.x model without its vae (first_stage_model.*)",
        None,
        SD1,
        {k: v for k, v in model(SD1).items() if "first_stage" not in k},
    ),
    "no text": File(
        "an SD 1.x model without its text_encoder (cond_stage_model.*)",
        None,
        SD1,
        {k: v for k, v in model(SD1).items() if "cond_stage" not in k},
    ),
    "unet": File(
        "the UNet of an SDXL model alone", None, SDXL, {UNET + k: v for k, v in unet(SDXL).items()}
    ),
    "diffusers unet": File(
        "the UNet of an SD 2.x model alone",
        None,
        SD2,
        {
            "conv_in.weight": (320, 4, 3, 3),
            f"{DOTTED}.weight": (320, 1024),
            "down_blocks.0.attentions.1.norm.weight": (320,),
            "mid_block.attentions.0.norm.weight": (1280,),
        },
    ),
    "vae": File("a VAE", Role.VAE, None, {f"first_stage_model.{k}": v for k, v in VAE.items()}),
    "diffusers vae": File("a VAE", Role.VAE, None, VAE),
    "flux vae": File(
        "a VAE of 16 channels", None, None, {**VAE, "decoder.conv_in.weight": (512, 16, 3, 3)}
    ),
    "half a vae": File("half a VAE", None, None, {"decoder.conv_in.weight": (512, 4, 3, 3)}),
    "taesd decoder": File("a TAESD decoder", Role.VAE, None, TAESD_DECODER),
    "taesd encoder": File("a TAESD encoder", None, None, TAESD_ENCODER),
    "taesd": File(
        "a TAESD",
        Role.VAE,
        None,
        {
            **{f"decoder.layers.{k}": v for k, v in TAESD_DECODER.items()},
            **{f"encoder.layers.{k}": v for k, v in TAESD_ENCODER.items()},
        },
    ),
    "taesd3": File(
        "a TAESD decoder of 16 channels",
        None,
        None,
        {**TAESD_DECODER, "1.weight": (64, 16, 3, 3)},
    ),
    "clip-l": File(
        "a text encoder alone",
        None,
        None,
        {"text_model.embeddings.token_embedding.weight": (49408, 768)},
    ),
    "clip": File(
        "a CLIP that scores pictures",
        None,
        None,
        {
            "text_model.embeddings.token_embedding.weight": (49408, 768),
            "vision_model.embeddings.class_embedding": (1024,),
            "logit_scale": (),
        },
    ),
    "clip vision": File(
        "a CLIP vision encoder",
        Role.IMAGE_ENCODER,
        None,
        {
            "vision_model.embeddings.class_embedding": (1280,),
            "visual_projection.weight": (1024, 1280),
        },
    ),
    # LoRA and its relatives.
    "kohya": File("a LoRA for SD 1.x", Role.LORA, SD1, {**lora(KOHYA), f"{KOHYA}.alpha": ()}),
    "kohya sd2": File("a LoRA for SD 2.x", Role.LORA, SD2, lora(KOHYA, 1024)),
    "kohya sdxl": File("a LoRA for SDXL", Role.LORA, SDXL, lora(KOHYA_XL, 640)),
    "kohya text": File(
        "a LoRA for SD 2.x",
        Role.LORA,
        SD2,
        lora("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024),
    ),
    "kohya text sdxl": File(
        "a LoRA for SDXL",
        Role.LORA,
        SDXL,
        lora("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280),
    ),
    "told": File(
        "a LoRA for SD 2.x",
        Role.LORA,
        SD2,
        lora("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 1280),
        {"ss_base_model_version": "sd_v2_v"},
    ),
    "untold": File(
        "a LoRA",
        Role.LORA,
        None,
        lora("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 1280),
    ),
    "old diffusers": File(
        "a LoRA for SD 1.x",
        Role.LORA,
        SD1,
        lora(
            f"unet.{DOTTED.replace('.to_k', '.processor.to_k')}",
            up="_lora.up.weight",
            down="_lora.down.weight",
        ),
    ),
    "new diffusers": File("a LoRA for SDXL", Role.LORA, SDXL, lora(f"unet.{DOTTED}", 2048, **PEFT)),
    "peft": File("a LoRA for SD 1.x", Role.LORA, SD1, lora(f"base_model.model.{DOTTED}", **PEFT)),
    "cloneofsimo": File(
        "a LoRA for SD 1.x",
        Role.LORA,
        SD1,
        {
            **lora("unet:0", 320, up=":up", down=":down"),
            **lora("unet:9", 768, up=":up", down=":down"),
            "<s1>": (768,),
        },
        {"unet:0:rank": "4"},
    ),
    "locon": File(
        "a LoRA for SD 1.x",
        Role.LORA,
        SD1,
        {
            **lora(KOHYA),
            "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3),
            "lora_unet_conv_in.lora_up.weight": (320, 4, 1, 1),
        },
    ),
    "loha": File(
        "a LoHa for SD 1.x",
        Role.LORA,
        SD1,
        {
            **{f"{KOHYA}.hada_{w}_a": (320, 4) for w in ("w1", "w2")},
            **{f"{KOHYA}.hada_{w}_b": (4, 768) for w in ("w1", "w2")},
        },
    ),
    "lokr": File(
        "a LoKr for SDXL",
        Role.LORA,
        SDXL,
        {
            f"{KOHYA}.lokr_w1": (8, 16),
            f"{KOHYA}.lokr_w2_a": (80, 4),
            f"{KOHYA}.lokr_w2_b": (4, 128),
        },
    ),
    "glora": File(
        "a GLoRA for SD 2.x",
        Role.LORA,
        SD2,
        {
            f"{KOHYA}.a1.weight": (1024, 4),
            f"{KOHYA}.a2.weight": (4, 1024),
            f"{KOHYA}.b1.weight": (320, 4),
            f"{KOHYA}.b2.weight": (4, 1024),
        },
    ),
    "old glora": File(
        "a GLoRA for SD 1.x",
        Role.LORA,
        SD1,
        {
            f"{KOHYA}.a1.weight": (4, 768),
            f"{KOHYA}.a2.weight": (768, 4),
            f"{KOHYA}.b1.weight": (4, 768),
            f"{KOHYA}.b2.weight": (320, 4),
        },
    ),
    "oft": File("an OFT for SDXL", Role.LORA, SDXL, {f"{KOHYA_XL}.oft_blocks": (4, 160, 160)}),
    "ia3": File(
        "an IA3 for SD 1.x",
        Role.LORA,
        SD1,
        {f"{KOHYA}.weight": (320,), f"{KOHYA}.on_input": ()},
        {"modelspec.architecture": "stable-diffusion-v1/lora"},
    ),
    "dora": File(
        "a DoRA for SD 1.x", Role.LORA, SD1, {**lora(KOHYA), f"{KOHYA}.dora_scale": (320, 1)}
    ),
    "full": File(
        "a LoRA of full differences for SD 1.x", Role.LORA, SD1, {f"{KOHYA}.diff": (320, 768)}
    ),
    "peft ia3": File(
        "an OFT or IA3 of PEFT for SD 1.x",
        None,
        SD1,
        {f"base_model.model.{DOTTED}.ia3_l": (320, 1)},
        {"ss_base_model_version": "sd_v1"},
    ),
    # Control.
    "controlnet": File(
        "a ControlNet for SD 1.x",
        Role.CONTROL,
        SD1,
        {f"control_model.{k}": v for k, v in {**CONTROL, **HINT}.items()},
    ),
    "bare controlnet": File("a ControlNet for SD 2.x", Role.CONTROL, SD2, {**unet(SD2), **HINT}),
    "diffusers controlnet": File("a ControlNet for SDXL", Role.CONTROL, SDXL, DIFFUSERS_CONTROL),
    "small controlnet": File(
        "a ControlNet for SDXL",
        Role.CONTROL,
        SDXL,
        {k: v for k, v in DIFFUSERS_CONTROL.items() if "attn2" not in k},
    ),
    "difference": File(
        "a difference ControlNet for SD 1.x",
        Role.CONTROL,
        SD1,
        {"difference": (), **{f"control_model.{k}": v for k, v in {**CONTROL, **HINT}.items()}},
    ),
    "union": File(
        "a union ControlNet for SDXL",
        None,
        SDXL,
        {**DIFFUSERS_CONTROL, "task_embedding": (6, 320)},
    ),
    "control-lora": File(
        "a Control-LoRA for SDXL",
        Role.CONTROL,
        SDXL,
        {
            "lora_controlnet": (),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (128, 2048),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.up": (640, 128),
            **HINT,
        },
    ),
    "lllite": File(
        "a ControlNet-LLLite for SDXL",
        None,
        SDXL,
        {
            "lllite_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.down.0.weight": (64, 640),
            "lllite_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.conditioning1.0.weight": (
                *(16, 3, 4, 4),
            ),
        },
    ),
    "t2i": File(
        "a T2I-Adapter for SD 1.x",
        Role.CONTROL,
        SD1,
        {"conv_in.weight": (320, 192, 3, 3), "body.0.block1.weight": (320, 320, 3, 3)},
    ),
    "diffusers t2i": File(
        "a T2I-Adapter for SDXL",
        Role.CONTROL,
        SDXL,
        {
            "adapter.conv_in.weight": (320, 768, 3, 3),
            "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3),
        },
    ),
    "light t2i": File(
        "a T2I-Adapter for SD 1.x",
        Role.CONTROL,
        SD1,
        {"body.0.in_conv.weight": (320, 192, 1, 1), "body.0.body.0.block1.weight": (80, 80, 3, 3)},
    ),
    "style": File("a T2I style adapter", None, None, {"style_embedding": (1, 8, 1024)}),
    # Pictures as conditions.
    "ip": File(
        "an IP-Adapter for SD 1.x",
        Role.IP_ADAPTER,
        SD1,
        {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)},
    ),
    "ip plus": File(
        "an IP-Adapter Plus for SDXL",
        Role.IP_ADAPTER,
        SDXL,
        {
            "image_proj.latents": (1, 16, 1280),
            "image_proj.proj_in.weight": (1280, 1280),
            "ip_adapter.1.to_k_ip.weight": (640, 2048),
        },
    ),
    "ip full face": File(
        "a full-face IP-Adapter for SD 1.x",
        Role.IP_ADAPTER,
        SD1,
        {
            "image_proj.proj.0.weight": (1280, 1280),
            "image_proj.proj.3.weight": (768,),
            "ip_adapter.1.to_k_ip.weight": (320, 768),
        },
    ),
    "faceid": File(
        "a FaceID IP-Adapter for SD 1.x",
        None,
        SD1,
        {
            "image_proj.proj.0.weight": (1024, 512),
            "ip_adapter.0.to_q_lora.down.weight": (128, 320),
            "ip_adapter.1.to_k_ip.weight": (320, 768),
        },
    ),
    "faceid plus": File(
        "a FaceID IP-Adapter for SDXL",
        None,
        SDXL,
        {
            "image_proj.perceiver_resampler.proj_in.weight": (768, 1280),
            "ip_adapter.1.to_k_ip.weight": (640, 2048),
        },
    ),
    # Words.
    "embedding": File("a textual inversion for SD 1.x", Role.EMBEDDING, SD1, {"<cat>": (768,)}),
    "a1111 embedding": File(
        "a textual inversion for SD 2.x", Role.EMBEDDING, SD2, {"emb_params": (8, 1024)}
    ),
    "small embedding": File("a textual inversion", Role.EMBEDDING, None, {"<cat>": (2, 32)}),
    "named embedding": File(
        "a textual inversion for SD 1.x", Role.EMBEDDING, SD1, {"cat": (2, 768)}
    ),
    "sdxl embedding": File(
        "a textual inversion for SDXL",
        Role.EMBEDDING,
        SDXL,
        {"clip_l": (4, 768), "clip_g": (4, 1280)},
    ),
    # What zs2 has no use for.
    "motion": File(
        "an AnimateDiff motion module",
        None,
        None,
        {
            "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,),
            "mid_block.motion_modules.0.temporal_transformer.norm.weight": (1280,),
        },
    ),
    "video": File(
        "a model trained on video for SD 2.x",
        None,
        SD2,
        {
            f"{UNET}input_blocks.1.{ATTN}": (320, 1024),
            f"{UNET}input_blocks.1.1.time_stack.0.norm1.weight": (320,),
        },
    ),
    "flux": File(
        "a part of Flux", None, None, {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}
    ),
    "flux lora": File(
        "a part of Flux", None, None, lora("lora_unet_single_blocks_0_linear1", 3072)
    ),
    "sd3": File(
        "a part of SD 3",
        None,
        None,
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)},
    ),
    "t5": File(
        "a T5 text encoder",
        None,
        None,
        {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
    ),
    "esrgan": File(
        "an ESRGAN upscaler", Role.UPSCALER, None, {"body.0.rdb1.conv1.weight": (32, 64, 3, 3)}
    ),
    "compact esrgan": File(
        "an ESRGAN upscaler",
        Role.UPSCALER,
        None,
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3)},
    ),
    "foreign": File(
        "of a kind that zs2 does not know (it holds bert.weight)",
        None,
        None,
        {"bert.weight": (3, 3)},
    ),
    "foreign rows": File(
        "of a kind that zs2 does not know (it holds rows)", None, None, {"rows": (3, 512)}
    ),
    "foreign layer": File(
        "of a kind that zs2 does not know (it holds dense.kernel and dense.bias)",
        None,
        None,
        {"dense.kernel": (3, 768), "dense.bias": (768,)},
    ),
    "empty": File("of a kind that zs2 does not know (it holds nothing)", None, None, {}),
}
