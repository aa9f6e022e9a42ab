"""What the parity tests share: real configurations, thoroughly random weights, and the error.

The oracles are diffusers and transformers, built from the same configuration.
"""

import torch
from torch import Tensor, nn

# Float32 sums in another order: 1e-6 or so. Any wrong padding or activation is over this.
TOLERANCE = 1e-5
# Both in float64: 1e-15, and 1.5e-7 where attention is cast to float32. One norm with the wrong
# epsilon, 1e-6 for 1e-5, makes 1.2e-6 or more.
EXACT = 5e-7

SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD21_UNET = {
    **SD15_UNET,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SMALL_UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
SMALL_SD15 = {
    **SD15_UNET,
    "block_out_channels": (32, 32, 64, 64),
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
SMALL_SD21 = {
    **SD21_UNET,
    "block_out_channels": (32, 32, 64, 64),
    "cross_attention_dim": 40,
    "attention_head_dim": (2, 4, 8, 8),
}
SMALL_SDXL = {
    **SDXL_UNET,
    "block_out_channels": (32, 32, 64),
    "cross_attention_dim": 40,
    "attention_head_dim": (2, 4, 8),
    "transformer_layers_per_block": (1, 2, 3),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24 + 6 * 8,
}
SD15_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "eos_token_id": 2,
}
SDXL_TEXT_2 = {
    **SD15_TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
SD21_TEXT = {
    **SD15_TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random values for all parameters, so that no bias is 0 and no norm's weight 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
    return model.eval()


def error(ours: Tensor, theirs: Tensor) -> float:
    """Relative root mean square error."""
    return float((ours - theirs).norm() / theirs.norm())
