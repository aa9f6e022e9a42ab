"""Samplers: each a generator that is one published algorithm, in its paper's letters.

    for x, x0 in ddim(denoise, x, levels, fresh): ...

A sampler knows no network. It gets four things and keeps its history in local variables:

    denoise    (x, level) -> (x0, eps): what the model takes for the clean latents and the noise
    x          latents [B, F, C, h, w] at levels[0]
    levels     the levels to visit, the last is the clean picture (`zs2.schedule`)
    fresh      step -> unit noise like x, for samplers that add some; steps count from 1

and yields (x, x0) after every step: the latents at the next level, and the clean ones that the
step predicted. `fresh` draws from the clip's own noise model, so that what is added at a step is as
alike in neighbouring frames as the first noise is, and no frame flickers on its own. `levels` may
begin at any level, if x is a picture with that level's noise; only `ddim` takes levels that rise.

Latents outside are sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, of unit variance. k-diffusion
and those who follow it think in y = x0 + sigma eps, which is x times level.scale. Their step is

    h = lambda' - lambda, where lambda = -log sigma, and q = exp(-h) = sigma' / sigma

All but `ddim` end at exactly the clean picture, sigma 0.

The same picture as elsewhere: what a run starts from is unit noise. So it is in ComfyUI where the
levels begin at the model's noisiest (all its schedulers but ddim_uniform), in Forge and A1111 with
"SGM noise multiplier" on, and in diffusers, but for Euler and Euler a with linspace or trailing
spacing. The others start from sigma n in k-diffusion's latents where this is sqrt(sigma^2 + 1) n,
0.2 % more at Stable Diffusion's sigma of 14.6. Samplers that add noise make another program's
picture only with its random numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from zs2.schedule import Level

Denoise = Callable[[Tensor, Level], tuple[Tensor, Tensor]]
Fresh = Callable[[int], Tensor]
Steps = Iterator[tuple[Tensor, Tensor]]
Sampler = Callable[[Denoise, Tensor, Sequence[Level], Fresh], Steps]


def ddim(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """DDIM (Song et al. 2021), the paper's Eq. 5 with eta = 0. Levels that rise invert a clip.

    Ends at the last level's alpha_bar: Stable Diffusion's own DDIM leaves a little noise.
    """
    for here, there in pairwise(levels):
        x0, eps = denoise(x, here)
        x = there.alpha_bar**0.5 * x0 + (1 - there.alpha_bar) ** 0.5 * eps
        yield x, x0


def euler(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """Euler (Karras et al. 2022, Algorithm 1), without churn, as A1111, ComfyUI and diffusers.

    dy/dsigma = (y - x0) / sigma = eps, so a step is DDIM's; only the end differs.
    """
    for here, there in pairwise(levels):
        x0, eps = denoise(x, here)
        y = x0 + there.sigma * eps
        x = y / there.scale
        yield x, x0


def euler_ancestral(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """Euler a with eta = 1, as k-diffusion's (A1111, ComfyUI) and diffusers'.

    An Euler step down to less noise than sigma', and fresh noise back up to it. It is the ancestral
    step of DDPM (Ho et al. 2020, Eq. 7), written for sigma.
    """
    for step, (here, there) in enumerate(pairwise(levels), start=1):
        x0, eps = denoise(x, here)
        down = there.sigma**2 / here.sigma
        y = x0 + down * eps
        if there.sigma:
            up = (there.sigma**2 - down**2) ** 0.5
            y = y + up * fresh(step)
        x = y / there.scale
        yield x, x0


def dpm_2m(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2); the first and last step are of order 1.

    As k-diffusion's (A1111, ComfyUI) and diffusers' with final_sigmas_type zero.
    """
    last: tuple[Tensor, float] | None = None
    for here, there in pairwise(levels):
        x0, _ = denoise(x, here)
        q, d = there.sigma / here.sigma, x0
        if there.sigma:
            h = -math.log(q)
            if last:
                x0_last, h_last = last
                d = x0 + h / (2 * h_last) * (x0 - x0_last)
            last = x0, h
        x = (q * here.scale * x + (1 - q) * d) / there.scale
        yield x, x0


def dpm_2m_sde(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022), midpoint, eta = 1.

    As k-diffusion's (A1111, ComfyUI) and diffusers'. As 2M with h twice as long, and the noise that
    then lacks. k-diffusion draws it from a Brownian tree, unit noise for each step as here.
    """
    last: tuple[Tensor, float] | None = None
    for step, (here, there) in enumerate(pairwise(levels), start=1):
        x0, _ = denoise(x, here)
        q, d = there.sigma / here.sigma, x0
        if there.sigma:
            h = -math.log(q)
            if last:
                x0_last, h_last = last
                d = x0 + h / (2 * h_last) * (x0 - x0_last)
            last = x0, h
        y = q**2 * here.scale * x + (1 - q**2) * d
        if there.sigma:
            y = y + there.sigma * (1 - q**2) ** 0.5 * fresh(step)
        x = y / there.scale
        yield x, x0


def unipc(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """UniPC (Zhao et al. 2023), B_2(h), order 2; the first and last step are of order 1.

    As diffusers'. ComfyUI's and A1111's use order 3 and other levels. The corrector UniC needs no
    pass of its own: it mends a step with the prediction that the next step starts from.
    """
    y, final = levels[0].scale * x, len(levels) - 2
    m0, _ = denoise(x, levels[0])
    m1 = m0
    for i, (here, there) in enumerate(pairwise(levels)):
        q = there.sigma / here.sigma
        D1, rho1, rho2 = 0 * m0, 0.0, 0.5
        if 0 < i < final:
            hh = math.log(q)  # -h
            r = math.log(levels[i - 1].sigma / here.sigma) / hh
            D1 = (m1 - m0) / r
            phi = (q - 1) / hh - 1
            b1, b2 = phi / (q - 1), 2 * (phi / hh - 0.5) / (q - 1)
            rho1 = (b1 - b2) / (1 - r)  # rho1 + rho2 = b1, r rho1 + rho2 = b2
            rho2 = b1 - rho1
        x = (q * y + (1 - q) * (m0 + 0.5 * D1)) / there.scale  # UniP
        yield x, m0
        if i < final:
            m, _ = denoise(x, there)
            y = q * y + (1 - q) * (m0 + rho1 * D1 + rho2 * (m - m0))  # UniC
            m1, m0 = m0, m


def lcm(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """Latent consistency (Luo et al. 2023), as diffusers, for a model that was distilled to it.

    Every step jumps to the clean picture, and back to the next level with fresh noise. ComfyUI
    leaves out c_skip and c_out, unless told; at LCM's levels they are 0 and 1 within 1e-5.
    """
    for step, (here, there) in enumerate(pairwise(levels), start=1):
        x0, _ = denoise(x, here)
        c_skip = 0.25 / ((10 * here.t) ** 2 + 0.25)
        c_out = 10 * here.t / ((10 * here.t) ** 2 + 0.25) ** 0.5
        y = c_out * x0 + c_skip * x
        if there.sigma:
            y = y + there.sigma * fresh(step)
        x = y / there.scale
        yield x, x0


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "euler": euler,
    "euler-a": euler_ancestral,
    "dpm++2m": dpm_2m,
    "dpm++2m-sde": dpm_2m_sde,
    "unipc": unipc,
    "lcm": lcm,
}
"""By the names that users know."""

USUAL: dict[Sampler, str] = {
    euler: "normal",
    euler_ancestral: "normal",
    dpm_2m: "karras",
    dpm_2m_sde: "exponential",
    unipc: "sgm-uniform",
    lcm: "lcm",
}
"""The spacing that goes with a sampler: A1111's automatic, and for UniPC as diffusers."""


def usual_steps(sampler: Sampler, own: int) -> int:
    """Steps for a run that names none: the model's `own`, but few where more would do harm."""
    return min(own, 8) if sampler is lcm else own


def usual_spacing(sampler: Sampler, own: str) -> str:
    """The spacing for a run that asks for none, where `own` is the model's `timestep_spacing`.

    A model with trailing levels was trained for them and keeps them. Leading and linspace come from
    the samplers that models were released with, so that they say little of another sampler.
    """
    kept = own == "trailing" and sampler is not lcm
    return own if kept else USUAL.get(sampler, own)
