"""A small Stable Diffusion folder to load and to break."""

import json
from pathlib import Path

import pytest

from zs2.checkpoint.load import load_weights
from zs2.errors import InputError

UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
VAE_KEYS = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "eos_token_id": 513,
    "bos_token_id": 512,
}
# SDXL's two text encoders; their widths and a pooled prompt of 24 are those of SMALL_SDXL.
TEXT_L = {**TEXT, "hidden_size": 16, "num_hidden_layers": 2, "eos_token_id": 2}
TEXT_G = {**TEXT_L, "hidden_size": 24, "hidden_act": "gelu", "projection_dim": 24}
SDXL_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def write_tokenizer(folder: Path, size: int = 514) -> None:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    words[-2:-2] = [f"filler{i}</w>" for i in range(size - len(words))]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(path: Path, message: str, **options: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_weights(path, **options)
    assert "\n" not in str(caught.value)
