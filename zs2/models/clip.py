"""CLIP: the text encoder that conditions the UNet, and the image encoder that scores its pictures.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision; attribute
names are the keys of the Hugging Face layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zs2.resize import covering


@dataclass(frozen=True)
class CLIPTextConfig:
    """The fields of `text_encoder/config.json` that shape the network; defaults are SD 1.x's."""

    vocab_size: int = 49408
    max_position_embeddings: int = 77
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 2
    projection_dim: int = 768

    OMITTED: ClassVar[dict[str, object]] = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
        "projection_dim": 512,
    }
    """What a key that a file leaves out means to transformers, where our default is another."""


@dataclass(frozen=True)
class CLIPVisionConfig:
    """The image encoder's fields of a CLIP `config.json`; the defaults are transformers'."""

    image_size: int = 224
    patch_size: int = 32
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512


def embedding(rows: int, width: int) -> nn.Embedding:
    # Drawing first values, even on the meta device, would import a second and a half of torch.
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} attention heads do not divide {width} channels")
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(h.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        if activation not in ("quick_gelu", "gelu"):
            raise ValueError(f"unknown CLIP activation {activation}")
        self.quick = activation == "quick_gelu"
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class EncoderLayer(nn.Module):
    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.self_attn = Attention(width, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, causal: bool) -> list[Tensor]:
        """What goes into each layer and, at the end, what comes out of the last."""
        hidden = [x]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], causal))
        return hidden


Spliced = tuple[int, int, Tensor]
"""A row, a column and what stands there in place of a token's own vector [D]."""


class TextEmbeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor, own: Sequence[Spliced] = ()) -> Tensor:
        x = self.token_embedding(ids)
        for row, column, vector in own:
            x[row, column] = vector
        return x + self.position_embedding.weight[: ids.shape[1]]


class TextTransformer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def layers(self, ids: Tensor, own: Sequence[Spliced] = ()) -> list[Tensor]:
        """Token ids [B, 77] to what goes into each layer and comes out of the last, [B, 77, D]."""
        return self.encoder(self.embeddings(ids, own), causal=True)

    def forward(self, ids: Tensor) -> Tensor:
        return self.final_layer_norm(self.layers(ids)[-1])


def end_of(ids: Tensor, eos: int) -> Tensor:
    """Where each text [B, 77] ends, [B]."""
    # Older configurations say 2 for an end token whose id is in truth the vocabulary's highest.
    return ids.argmax(-1) if eos == 2 else (ids == eos).int().argmax(-1)


class CLIPText(nn.Module):
    """A text encoder of a Stable Diffusion checkpoint.

    Args:
        projected: with the projection that SDXL's second one has.
    """

    def __init__(self, config: CLIPTextConfig, projected: bool = False) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTransformer(config)
        if projected:
            self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    @property
    def device(self) -> torch.device:
        return self.text_model.final_layer_norm.weight.device

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [B, 77] to embeddings [B, 77, D], after the final norm."""
        return self.text_model(ids)

    def pooled(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """The last layer's output [B, 77, D] at each text's end, normed and projected: [B, P]."""
        end = end_of(ids, self.config.eos_token_id)
        normed = self.text_model.final_layer_norm(hidden[torch.arange(len(ids)), end])
        return self.text_projection(normed)


class VisionEmbeddings(nn.Module):
    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = embedding((config.image_size // patch) ** 2 + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class VisionTransformer(nn.Module):
    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(  # name fixed by the checkpoint
            config.hidden_size, config.layer_norm_eps
        )
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """Normed pixels [B, 3, S, S] to what goes into each layer and comes out of the last."""
        return self.encoder(self.pre_layrnorm(self.embeddings(pixels)), causal=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.post_layernorm(self.layers(pixels)[-1][:, 0])


MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def normed(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in 0..1 as CLIP was trained on them."""
    mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (pixels - mean) / std


class CLIPVision(nn.Module):
    """The image encoder alone: what it sees can be a prompt (`zs2.models.ip_adapter`)."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def prepare(self, frames: Tensor) -> Tensor:
        """Frames uint8 [B, H, W, 3], cropped to a square, as the pixels [B, 3, S, S] it knows."""
        side, weight = self.config.image_size, self.visual_projection.weight
        square = covering(frames, side, side).permute(0, 3, 1, 2)
        return normed(square.to(weight.device) / 255).to(weight.dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] to vectors [B, P]."""
        return self.visual_projection(self.vision_model(pixels))

    def hidden(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] to what goes into the last layer, [B, N + 1, D]."""
        return self.vision_model.layers(pixels)[-2]


class CLIP(nn.Module):
    """Both towers of a contrastive CLIP, for scoring pictures against prompts."""

    def __init__(self, text: CLIPTextConfig, vision: CLIPVisionConfig, projection: int) -> None:
        super().__init__()
        self.text_config, self.vision_config = text, vision
        self.text_model = TextTransformer(text)
        self.vision_model = VisionTransformer(vision)
        self.text_projection = nn.Linear(text.hidden_size, projection, bias=False)
        self.visual_projection = nn.Linear(vision.hidden_size, projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [B, 77] to unit vectors [B, P], taken at each text's end token."""
        hidden = self.text_model(ids)
        end = end_of(ids, self.text_config.eos_token_id)
        return F.normalize(self.text_projection(hidden[torch.arange(len(ids)), end]), dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in -1..1, of any size, to unit vectors [B, P]."""
        size = self.vision_config.image_size
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        pixels = normed((pixels.clamp(-1, 1) + 1) / 2)
        return F.normalize(self.visual_projection(self.vision_model(pixels)), dim=-1)
