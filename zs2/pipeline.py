"""Algorithm 1: a prompt becomes a clip.

noise   eps^1..eps^F from the dependency noise model      zs2.noise
sample  DDIM over the UNet, with momentum attention       zs2.denoise, zs2.samplers, zs2.attention
decode  latents to pixels                                 zs2.models.vae

pipe = zs2.load()
clip = pipe("a small red ball on green grass", frames=8, lam=0.01, mu=0.98, seed=1)
clip.save("ball.mp4")
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import Unpack

from zs2 import settings
from zs2.asked import Asked, either, prompts_of, seeds, sides
from zs2.attention import FrameAttention
from zs2.checkpoint.load import load_weights
from zs2.clip_file import OWN
from zs2.condition import Condition
from zs2.denoise import WHOLE, Order
from zs2.device import pick_device, pick_dtype
from zs2.draws import RNG, NoiseModel
from zs2.errors import NumericalError
from zs2.noise import DependencyNoise
from zs2.samplers import Sampler, ddim, usual_spacing, usual_steps
from zs2.shot import Clip, Noise, Shot, built_in, guidance
from zs2.timeline import PerFrame, plain, whole
from zs2.weights import SMALL, Adapter, Weights

Feature = Callable[["Pipeline", Shot], Shot]
"""What changes a shot before it is run: see `zs2.shots`."""
Progress = Callable[[int, int, Tensor], object]
"""Told (step, steps, clean latents [B, F, C, h, w] as predicted) after each step."""


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
        order: Order = WHOLE,
        progress: Progress | None = None,
        **asked: Unpack[Asked],
    ) -> "Clip | list[Clip]":
        """Sample one clip, or one for each of several prompts (section 5, Algorithm 1).

        Args:
            prompt, asked: what is to be made, see `shot`.
            order: how the shot is run: the same clip in less memory, or faster.
            progress: told (step, steps, the clean latents predicted so far) after each step.

        Returns:
            A clip for a string, a list of clips for a sequence of prompts.

        Raises:
            ValueError: a value out of range.
            NumericalError: NaN or Inf appeared; the step is named.
        """
        clips = self.film(self.shot(prompt, **asked), order, progress)
        return clips[0] if isinstance(prompt, str) else clips

    @torch.inference_mode()
    def shot(
        self,
        prompt: str | Sequence[str],
        *,
        negative: str | None = None,
        frames: int = 8,
        size: int | tuple[int, int] | None = None,
        steps: int | None = None,
        cfg: PerFrame | None = None,
        seed: int | Sequence[int] | None = None,
        lam: PerFrame | None = None,
        mu: PerFrame | None = None,
        noise: NoiseModel | None = None,
        latents: Tensor | None = None,
        attention: FrameAttention | None = None,
        sampler: Sampler = ddim,
        spacing: str | None = None,
        rng: RNG = "zs2",
        features: Sequence[Feature] = (),
    ) -> Shot:
        """What `film` and `run` make a clip of, or one for each of several prompts.

        Args:
            negative: what to steer away from, where guidance is on; None is what the model learnt
                for no prompt: of SDXL zeros, as in diffusers. "" is the empty prompt, as in A1111.
            frames: F, at least 1; 1 makes a still, and frame 1 of a clip is that still.
            size: (width, height) in pixels, or one side, multiples of `self.multiple`.
            steps, cfg: steps and guidance scale; None takes the model's own. 1 is no guidance.
            seed: one for all prompts, or one for each; None draws one.
            lam, mu: short for noise=DependencyNoise(lam) and attention=FrameAttention(mu).
            noise, attention: how the frames' first noises, and their keys and values, depend on
                each other.
            latents: the first noise itself, [F, C, h, w] or [B, F, C, h, w].
            sampler: see `zs2.samplers`.
            spacing: where the noise levels lie, see `zs2.schedule.SPACINGS`; None takes the usual
                ones of the sampler and model.
            rng: whose noise frame 1 starts from: "zs2", "cpu" (ComfyUI, diffusers) or "cuda"
                (A1111), so that it is the picture that this seed makes there.
            features: what changes the shot before it is run, in this order: see `zs2.shots`.

        Raises:
            ValueError: a value out of range.
        """
        prompts = prompts_of(prompt, negative)
        frames = whole("frames", frames, 1)
        defaults, schedule = self.weights.defaults, self.weights.schedule
        size = defaults.size if size is None else size
        steps = usual_steps(sampler, defaults.steps) if steps is None else steps
        steps = whole("steps", steps, 1, schedule.num_train_timesteps)
        cfg = defaults.cfg if cfg is None else cfg
        if not callable(sampler):
            raise ValueError(f"sampler is a function, as zs2.samplers.euler, not {sampler!r}")
        noise = either("lam", lam, "noise", noise, DependencyNoise)
        if mu is None and attention is None:
            mu = getattr(noise, "MU", FrameAttention.mu)
        attention = either("mu", mu, "attention", attention, FrameAttention)

        shape = self.latent_shape(size)
        eps = Noise(noise, seeds(seed, len(prompts)), frames, shape, self.device, rng, latents)
        said = self.encode(prompts, size)
        if distilled := self.weights.unet.config.time_cond_proj_dim:
            if negative is not None:
                raise ValueError("this model has its guidance built in: it takes no negative")
            branches = built_in(cfg, frames, said, distilled)
        else:
            branches = guidance(cfg, frames, said, self._against(negative, len(prompts), size))
        spacing = spacing or usual_spacing(sampler, schedule.timestep_spacing)
        told = {
            **settings.of_model(self.weights, self.dtype),
            **settings.of_method(noise, attention, sampler),
            "negative": negative if len(branches) > 1 else None,
            "frames": frames,
            "size": "{}x{}".format(*sides(size)),
            "steps": steps,
            "cfg": plain(cfg),
            "schedule": spacing,
            "rng": rng,
            "latents": None if latents is None else OWN,
        }
        shot = Shot(
            model=self.weights.unet,
            schedule=schedule,
            frames=frames,
            start=eps,
            branches=branches,
            levels=tuple(schedule.levels(steps, spacing)),
            attention=attention,
            sampler=sampler,
            noise=eps,
            settings=tuple(
                {"prompt": text, "seed": own, **told}
                for text, own in zip(prompts, eps.seeds, strict=True)
            ),
        )
        for feature in features:
            shot = feature(self, shot)
        return shot

    @torch.inference_mode()
    def run(
        self, shot: Shot, order: Order = WHOLE, progress: Progress | None = None
    ) -> Iterator[Tensor]:
        """Latents [B, f, C, h, w] of the next frames of a shot, on the CPU, as they are finished.

        Raises:
            ValueError: a graph without a CUDA device, or a model that edits without frames to edit.
            NumericalError: NaN or Inf appeared; the step is named.
        """
        for moment in order(shot):
            if progress:
                progress(moment.step, moment.steps, moment.x0)
            if moment.finished:
                yield moment.x.cpu()

    @torch.inference_mode()
    def film(
        self, shot: Shot, order: Order = WHOLE, progress: Progress | None = None
    ) -> list[Clip]:
        """Run a shot and decode its B clips.

        Raises:
            ValueError, NumericalError: as `run`; a frame that cannot be decoded is named.
        """
        parts = list(self.run(shot, order, progress))
        with torch.inference_mode(False):  # tensors that may be changed and learnt from
            kept = torch.cat(parts, dim=1).clone()
        return [
            Clip(self.decode(x), x, {**told, **order.settings}, r, shot.shared)
            for told, x, r in zip(shot.settings, kept, shot.correlation(), strict=True)
        ]

    @property
    def multiple(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.weights.vae.config.factor

    def latent_shape(self, size: int | tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of a frame's latent for (width, height) in pixels.

        Raises:
            ValueError: a side that is not a positive multiple of `self.multiple`.
        """
        for side in sides(size):
            if side % self.multiple:
                raise ValueError(f"sides must be multiples of {self.multiple} pixels, got {side}")
        width, height = (side // self.multiple for side in sides(size))
        return self.weights.vae.config.latent_channels, height, width

    def pixels(self, shot: Shot) -> tuple[int, int]:
        """(width, height) of a shot's frames."""
        _, height, width = shot.noise.shape
        return width * self.multiple, height * self.multiple

    @torch.inference_mode()
    def encode(
        self, prompts: Sequence[str], size: int | tuple[int, int] | None = None
    ) -> Condition:
        """What B prompts say, for pictures of (width, height) pixels, or of the model's own."""
        size = self.weights.defaults.size if size is None else size
        return self.weights.text(prompts, sides(size))

    def _against(self, negative: str | None, clips: int, size: int | tuple[int, int]) -> Condition:
        """What guidance steers away from."""
        if negative is None:
            return self.weights.text.nothing(clips, sides(size))
        return self.encode([negative] * clips, size)

    @torch.inference_mode()
    def picture(self, frames: Tensor) -> Tensor:
        """Frames uint8 [F, H, W, 3] to the latents that the UNet knows, [F, C, h, w] float32.

        The mode of the VAE's posterior, one frame at a time.
        """
        pixels = frames.permute(0, 3, 1, 2).to(self.device) / 127.5 - 1  # (F, 3, H, W)
        vae = self.weights.vae
        means = [vae.encode(one[None].to(vae.dtype))[0].float() for one in pixels]
        return torch.cat(means) * vae.config.scaling_factor

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
            z = (latent / vae.config.scaling_factor).to(vae.dtype)
            pixels = vae.decode(z[None])[0].float()  # (3, H, W)
            if not pixels.isfinite().all():
                raise NumericalError(f"while decoding frame {i + 1}", vae.dtype)
            frames[i] = ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
        return frames


def load(
    model: str | Path = SMALL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prediction: str | None = None,
    tokenizer: str | Path | None = None,
    adapters: Sequence[Adapter] = (),
    compile: bool = False,
) -> Pipeline:
    """A pipeline from a checkpoint: a folder, a single file, or a hub id; by default the small one.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: auto, fp32, bf16 or fp16. auto is the fastest that is safe, on a CPU bf16 for what
            would fill half of the memory in fp32.
        prediction: epsilon or v, in place of what the checkpoint says.
        tokenizer: a folder with CLIP's vocabulary, for single files.
        adapters: what changes the checkpoint, in this order.
        compile: let torch.compile make the UNet faster. The first clip of each shape waits for it.

    Raises:
        InputError: the checkpoint, device or dtype cannot be used.
    """
    chosen = pick_device(device)
    kind = None if dtype == "auto" else pick_dtype(dtype, chosen)
    weights = load_weights(
        model, device=chosen, dtype=kind, prediction=prediction, tokenizer=tokenizer
    )
    for adapter in adapters:
        weights = adapter(weights)
    if compile:
        weights.unet.compile()
    return Pipeline(weights, chosen, weights.unet.conv_in.weight.dtype)
