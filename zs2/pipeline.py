"""Algorithm 1: a prompt becomes a clip.

noise   eps^1..eps^F from the dependency noise model      zs2.noise
sample  DDIM over the UNet, with momentum attention       zs2.denoise, zs2.attention
decode  latents to pixels                                 zs2.models.vae

pipe = zs2.load()
clip = pipe("a small red ball on green grass", frames=8, lam=0.01, mu=0.98, seed=1)
clip.save("ball.mp4")
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zs2
from zs2 import media
from zs2.attention import FrameAttention
from zs2.denoise import denoising_steps
from zs2.device import DTYPES, pick_device, pick_dtype
from zs2.errors import NumericalError
from zs2.metrics import flicker, motion
from zs2.noise import (
    DependencyNoise,
    IndependentNoise,
    MixedNoise,
    NoiseModel,
    PerFrame,
    ProgressiveNoise,
    correlation,
    sample_noise,
)
from zs2.weights import SMALL, Weights, load_weights


@dataclass
class Clip:
    """Frames, and the settings that made them.

    Attributes:
        frames: uint8 RGB [F, H, W, 3].
        latents: float32 [F, C, h, w], what the frames were decoded from.
        settings: named as the command line's options; `save` stores them in the file.
        correlation: of frame 1's noise with the last frame's.
        shared: whether frames shared their attention.
    """

    frames: Tensor
    latents: Tensor
    settings: dict[str, object]
    correlation: float
    shared: bool
    fps: float = 8.0

    @property
    def motion(self) -> float:
        """Mean absolute difference of adjacent frames, 0..255."""
        return motion(self.frames)

    @property
    def flicker(self) -> float:
        """Temporal flickering score, 1 for a still clip."""
        return flicker(self.frames)

    def save(self, path: str | Path, fps: float | None = None, overwrite: bool = False) -> Path:
        """Write the clip as .mp4, .gif, .webp or .png, its settings inside (`zs2.media.save`).

        Returns:
            What was written: the path, or a folder for several frames and .png.
        """
        fps = self.fps if fps is None else fps
        return media.save(Path(path), self.frames, fps, {**self.settings, "fps": fps}, overwrite)


def noise_model(
    kind: str, lam: PerFrame = 0.01, alpha: PerFrame | None = None, candidates: int = 10
) -> NoiseModel:
    """A noise model by its name; `alpha` is for mixed and progressive noise only.

    Raises:
        ValueError: an unknown name, a value out of range, or an alpha that has no use.
    """
    if alpha is not None and kind not in ("mixed", "progressive"):
        raise ValueError(f"alpha is for mixed and progressive noise: {kind} noise has none")
    if kind == "dependency":
        return DependencyNoise(lam, candidates)
    if kind == "independent":
        return IndependentNoise()
    if kind == "mixed":
        return MixedNoise() if alpha is None else MixedNoise(alpha)
    if kind == "progressive":
        return ProgressiveNoise() if alpha is None else ProgressiveNoise(alpha)
    raise ValueError(f"noise is dependency, independent, mixed or progressive, not {kind!r}")


def frame_attention(kind: str, mu: float | Sequence[float], frames: int) -> FrameAttention:
    """How frames share attention, by name.

    Raises:
        ValueError: an unknown name, or a mu out of range.
    """
    if kind == "momentum":
        return FrameAttention.momentum(mu, frames)
    if kind == "self":
        return FrameAttention.self_attention(frames)
    if kind == "cross-frame":
        return FrameAttention.cross_frame(frames)
    raise ValueError(f"attention is momentum, self or cross-frame, not {kind!r}")


def _plain(value: Any) -> Any:
    """Python's own numbers for those of torch and numpy, as settings are stored."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, int | float):
        return value
    return tuple(v.tolist() if hasattr(v, "tolist") else v for v in value)


class Pipeline:
    """A Stable Diffusion checkpoint that samples clips."""

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self.weights = weights
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative: str = "",
        frames: int = 8,
        size: tuple[int, int] | None = None,
        steps: int | None = None,
        cfg: float | None = None,
        seed: int | Sequence[int] | None = None,
        lam: PerFrame = 0.01,
        mu: PerFrame = 0.98,
        alpha: PerFrame | None = None,
        candidates: int = 10,
        noise: str = "dependency",
        attention: str = "momentum",
        chunk: int | None = None,
        split_guidance: bool = False,
        graph: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> "Clip | list[Clip]":
        """Sample one clip, or one for each of several prompts (section 5, Algorithm 1).

        Args:
            negative: what to steer away from, where guidance is on.
            frames: F, at least 1; 1 makes a still, and frame 1 of a clip is that still.
            size: (width, height) in pixels, multiples of `self.multiple`.
            steps, cfg: DDIM steps and guidance scale; None takes the model's own. 1 is no guidance.
            seed: one for all prompts, or one for each; None draws one.
            lam, alpha, candidates, noise: the noise model, see `noise_model`.
            mu, attention: how frames share attention, see `frame_attention`.
            chunk: frames computed at a time: the same clip in less memory.
            split_guidance: run the guidance branches one after the other: less memory again.
            graph: on a CUDA device, record a step's launches once and replay them.
            progress: called with (step, steps) after each step.

        Returns:
            A clip for a string, a list of clips for a sequence of prompts.

        Raises:
            ValueError: a value out of range.
            NumericalError: NaN or Inf appeared; the step is named.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        lam, mu, alpha, cfg, seed = map(_plain, (lam, mu, alpha, cfg, seed))
        defaults = self.weights.sample
        steps = defaults.steps if steps is None else steps
        cfg = defaults.cfg if cfg is None else cfg
        size = size or (defaults.size, defaults.size)
        if seed is None:
            seed = secrets.randbelow(2**32)
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give 1 or as many")
        if graph and self.device.type != "cuda":
            raise ValueError(f"graph needs a CUDA device, and this is {self.device}: leave it out")

        sharing = frame_attention(attention, mu, frames)
        latents = sample_noise(
            noise_model(noise, lam, alpha, candidates),
            seeds,
            frames,
            self.latent_shape(size),
            self.device if self.device.type == "cuda" else "cpu",  # an MPS device has no float64
        )
        realised = correlation(latents[:, [0, -1]])[:, -1].tolist()
        sampling = denoising_steps(
            self.weights.unet,
            self.weights.ddim,
            latents.to(self.device),
            self.encode(prompts),
            self.encode([negative] * len(prompts)) if cfg != 1 else None,
            self.weights.ddim.timesteps(steps),
            cfg=cfg,
            attention=sharing,
            chunk=chunk,
            split_guidance=split_guidance,
            graph=graph,
        )
        for step, latents in enumerate(sampling, start=1):
            if progress:
                progress(step, steps)

        settings = {
            "zs2": zs2.__version__,
            "negative": negative if cfg != 1 else "",
            "model": self.weights.name,
            "tokenizer": self.weights.vocabulary,
            "frames": frames,
            "size": f"{size[0]}x{size[1]}",
            "steps": steps,
            "cfg": cfg,
            "lam": lam if noise == "dependency" else None,
            "mu": mu if attention == "momentum" else None,
            "alpha": alpha,
            "candidates": candidates if noise == "dependency" else None,
            "noise": noise,
            "attention": attention,
            "chunk": chunk,
            "split-guidance": split_guidance,
            "dtype": next(name for name, dtype in DTYPES.items() if dtype == self.dtype),
            "prediction": self.weights.ddim.prediction_type.removesuffix("_prediction"),
        }
        with torch.inference_mode(False):  # tensors that may be changed and learnt from
            kept = latents.cpu().clone()
        clips = [
            Clip(self.decode(x), x, {"prompt": p, "seed": s, **settings}, r, sharing.active)
            for p, s, x, r in zip(prompts, seeds, kept, realised, strict=True)
        ]
        return clips[0] if isinstance(prompt, str) else clips

    @property
    def multiple(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.weights.vae.config.factor

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of a frame's latent for (width, height) in pixels.

        Raises:
            ValueError: a side that is not a positive multiple of `self.multiple`.
        """
        for side in size:
            if side < 1 or side % self.multiple:
                raise ValueError(f"sides must be multiples of {self.multiple} pixels, got {side}")
        width, height = (side // self.multiple for side in size)
        return self.weights.unet.config.in_channels, height, width

    def memory(
        self,
        frames: int = 8,
        size: tuple[int, int] | None = None,
        chunk: int | None = None,
        split_guidance: bool = False,
    ) -> int:
        """About how many bytes a clip takes beside the model; a gigabyte is right to a third.

        The larger of one UNet pass with guidance and the decoding of one frame, each counted in
        activations of its widest level as measured, and the gaps that a pass leaves in the heap:
        those of large tensors go back to the system.
        """
        width, height = size or (self.weights.sample.size,) * 2
        channels, h, w = self.latent_shape((width, height))
        rows = min(frames, chunk or frames) * (1 if split_guidance else 2)
        widest = self.weights.unet.config.block_out_channels[0]
        activation = rows * h * w * widest * self.dtype.itemsize
        # A GPU's feed-forward is not in parts: counted, not yet measured.
        live = 14 if self.device.type == "cpu" else 20
        unet = live * activation + min(26 * activation, 256 << 20)
        vae = 9 * height * width * self.weights.vae.config.block_out_channels[0]
        kept = frames * (3 * height * width + 4 * 5 * channels * h * w)  # uint8; float32
        return max(unet, vae * self.dtype.itemsize) + kept

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to embeddings [B, 77, D]."""
        ids = self.weights.tokenizer.encode(list(prompts)).to(self.device)
        return self.weights.text_encoder(ids)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [F, C, h, w] to frames uint8 [F, H, W, 3] on the CPU, one frame at a time.

        Raises:
            NumericalError: NaN or Inf appeared.
        """
        vae = self.weights.vae
        height, width = (side * vae.config.factor for side in latents.shape[-2:])
        with torch.inference_mode(False):
            frames = torch.empty(len(latents), height, width, 3, dtype=torch.uint8)
        for i, latent in enumerate(latents.to(self.device)):
            z = (latent / vae.config.scaling_factor).to(self.dtype)
            pixels = vae.decode(z[None])[0].float()
            if not pixels.isfinite().all():
                raise NumericalError(f"while decoding frame {i + 1}", self.dtype)
            frames[i] = ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
        return frames


def load(
    model: str | Path = SMALL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    compile: bool = False,
) -> Pipeline:
    """A pipeline from a checkpoint: a folder, a single file, or a hub id; by default the small one.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: auto, fp32, bf16 or fp16.
        prediction: epsilon or v, in place of what the checkpoint says.
        tokenizer: a folder with CLIP's vocabulary, for single files.
        compile: let torch.compile make the UNet faster. The first clip of each shape waits for it.

    Raises:
        InputError: the checkpoint, device or dtype cannot be used.
    """
    chosen = pick_device(device)
    kind = pick_dtype(dtype, chosen)
    weights = load_weights(
        model, device=chosen, dtype=kind, prediction=prediction, tokenizer=tokenizer
    )
    if compile:
        weights.unet.compile()
    return Pipeline(weights, chosen, kind)
