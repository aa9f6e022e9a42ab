"""The signs that tell files apart: names of their tensors, as data for `zs2.checkpoint.identity`.

A row is: signs, what a file with one of them is, and what that is for, or what to do instead. The
first row that fits counts. Signs stand apart by spaces; one fits if each of its parts, joined by &,
is in some tensor's name. ^ and $ are a name's ends, ! is before what must be in none.
"""

from zs2.checkpoint.kinds import Role

OTHER = "give one for Stable Diffusion 1, 2 or XL"
WHOLE = "give the folder, or the single file, that it belongs to"
INTO_FOLDER = "give its model's folder, with it as unet/diffusion_pytorch_model.safetensors"
PLAIN = "give a plain model of the family"

SIGNS: tuple[tuple[str, str, Role | str], ...] = (
    # Other models' parts, and what is made for them.
    ("double_blocks single_blocks single_transformer_blocks", "a part of Flux", OTHER),
    ("joint_blocks joint_transformer_blocks add_k_proj", "a part of SD 3", OTHER),
    (".cross_attn.norm_k.", "a part of Wan", OTHER),
    (".SelfAttention. .wi_0.", "a T5 text encoder", OTHER),
    ("scale_shift_table", "a part of a diffusion transformer", OTHER),
    (
        "temporal_transformer_blocks. .time_stack. .temp_attentions.",
        "a model trained on video",
        "give the model of pictures that it was made of",
    ),
    ("^concept_embeds$", "a safety checker", "zs2 needs none"),
    (
        "controlnet_cond_embedding.&motion_modules.",
        "a SparseCtrl of AnimateDiff",
        "give a ControlNet",
    ),
    ("motion_modules.", "an AnimateDiff motion module", "zs2 moves without: see --lam"),
    # What steers a model by pictures.
    ("^lllite_unet_", "a ControlNet-LLLite", "give a ControlNet or a Control-LoRA"),
    ("^lora_controlnet$", "a Control-LoRA", Role.CONTROL),
    ("^style_embedding$", "a T2I style adapter", "give an IP-Adapter with --ip-adapter"),
    (
        "^task_embedding ^control_add_embedding. ^transformer_layes.",
        "a union ControlNet",
        "give one that is made for a single kind of map",
    ),
    ("^control_to_base_for_conv_in. .ctrl_to_base.", "a ControlNet-XS", "give a ControlNet"),
    ("^adapters.1.", "several T2I-Adapters in one file", "give each alone"),
    ("^difference$", "a difference ControlNet", Role.CONTROL),
    (
        "^control_model. controlnet_cond_embedding. controlnet_mid_block. "
        "^input_hint_block. ^zero_convs.",
        "a ControlNet",
        Role.CONTROL,
    ),
    ("adapter.body. ^body.0.block1. ^body.0.in_conv.", "a T2I-Adapter", Role.CONTROL),
    (
        "^ip_adapter.&_lora. ^image_proj.perceiver_resampler. "
        "^image_proj.proj.0.&!^image_proj.proj.3.",
        "a FaceID IP-Adapter",
        "it needs a face recogniser: give a plain or a Plus one",
    ),
    ("^image_proj.proj.3.", "a full-face IP-Adapter", Role.IP_ADAPTER),
    ("^image_proj.latents$", "an IP-Adapter Plus", Role.IP_ADAPTER),
    ("^image_proj. ^ip_adapter.", "an IP-Adapter", Role.IP_ADAPTER),
    (
        "^conv_first. .RDB1. .rdb1. ^body.0.weight$&^body.1.weight$",
        "an ESRGAN upscaler",
        Role.UPSCALER,
    ),
    # What changes a model's weights.
    (".oft_R. .ia3_l$", "an OFT or IA3 of PEFT", "give LyCORIS' form of it, or a LoRA"),
    (".hada_w", "a LoHa", Role.LORA),
    (".lokr_w", "a LoKr", Role.LORA),
    (".oft_blocks$ .oft_diag$", "an OFT", Role.LORA),
    (".on_input$", "an IA3", Role.LORA),
    (".a1.weight$&.b1.weight$", "a GLoRA", Role.LORA),
    (".dora_scale$ lora_magnitude_vector", "a DoRA", Role.LORA),
    (
        "lora_down lora_up .lora_A .lora_B .lora.down. .lora.up. _lora.down. _lora.up. "
        ".lora_linear_layer. ^unet:0:down$ ^text_encoder:0:down$",
        "a LoRA",
        Role.LORA,
    ),
    (".diff$ .diff_b$ .w_norm$ .set_weight$", "a LoRA of full differences", Role.LORA),
    # Models, unless a part is missing or `VARIANTS` names them.
    (
        "^model.diffusion_model. ^input_blocks. ^down_blocks. ^unet.down_blocks.",
        "a model",
        Role.MODEL,
    ),
    # Their parts.
    (
        "^encoder.1.conv.&^decoder.3.conv. ^encoder.layers.1.conv.&^decoder.layers.3.conv.",
        "a TAESD",
        Role.VAE,
    ),
    (
        "^1.weight$&^3.conv. ^decoder.3.conv. ^decoder.layers.3.conv.",
        "a TAESD decoder",
        Role.VAE,
    ),
    (
        "^0.weight$&^1.conv. ^encoder.1.conv. ^encoder.layers.1.conv.",
        "a TAESD encoder",
        "give its decoder, or a file with both",
    ),
    (
        "^encoder.conv_in.&^decoder.conv_in. "
        "^first_stage_model.encoder.&^first_stage_model.decoder.",
        "a VAE",
        Role.VAE,
    ),
    ("^first_stage_model. ^encoder.conv_in. ^decoder.conv_in.", "half a VAE", WHOLE),
    (
        "^vision_model.&^text_model. ^visual.&^transformer.resblocks.",
        "a CLIP that scores pictures",
        "it is no part of a model: zs2.checkpoint.load.load_clip reads its folder",
    ),
    (
        "^vision_model. ^visual. ^embeddings.class_embedding$",
        "a CLIP vision encoder",
        Role.IMAGE_ENCODER,
    ),
    (
        "text_model. token_embedding. ^transformer.resblocks. ^cond_stage_model. ^conditioner.",
        "a text encoder alone",
        WHOLE,
    ),
)


def _shallow(depth: int) -> str:
    """The sign of an SDXL whose third level is so deep, not 10, under both of its names."""
    levels = (
        "input_blocks.7.1.transformer_blocks.",
        "down_blocks.2.attentions.0.transformer_blocks.",
    )
    return " ".join(f"{level}{depth - 1}.&!{level}{depth}." for level in levels)


VARIANTS: tuple[tuple[str, str, str], ...] = (
    # Of models; what it is stands behind the family's name.
    ("^edm_", "model of continuous noise levels (EDM)", PLAIN),
    (
        "input_blocks.4.1.transformer_blocks.2. down_blocks.1.attentions.0.transformer_blocks.2.",
        "refiner",
        "give the base model: it makes whole pictures",
    ),
    (f"{_shallow(5)} {_shallow(6)}", "model made smaller (KOALA)", PLAIN),
    (_shallow(4), "model made smaller (SSD-1B)", PLAIN),
    (_shallow(2), "model made smaller (Vega)", PLAIN),
    (
        "input_blocks.1.1.&!middle_block.1. input_blocks.1.1.&!input_blocks.2.1. "
        "down_blocks.0.attentions.0.&!mid_block.attentions.0. "
        "down_blocks.0.attentions.0.&!down_blocks.0.attentions.1.",
        "model made smaller",
        PLAIN,
    ),
    (
        "^noise_augmentor. ^embedder.model. label_emb.&^cond_stage_model.model.",
        "unCLIP model",
        PLAIN,
    ),
)
