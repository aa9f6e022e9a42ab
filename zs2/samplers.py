"""Samplers: each a generator that is one published algorithm, in its paper's letters.

    for x, x0 in ddim(denoise, x, levels, fresh): ...

A sampler knows no network. It gets four things and keeps its history in local variables:

    denoise    (x, level) -> (x0, eps): what the model takes for the clean latents and the noise
    x          latents [B, F, C, h, w] at levels[0]
    levels     the levels to visit, the last is the clean picture (`zs2.schedule`)
    fresh      step -> noise like x, for samplers that add some; steps count from 1

and yields (x, x0) after every step: the latents at the next level, and the clean ones that the
step predicted. `fresh` draws from the clip's own noise model: what is added at a step is as alike
in neighbouring frames as the first noise is, and no frame flickers on its own.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from zs2.schedule import Level

Denoise = Callable[[Tensor, Level], tuple[Tensor, Tensor]]
Fresh = Callable[[int], Tensor]
Steps = Iterator[tuple[Tensor, Tensor]]
Sampler = Callable[[Denoise, Tensor, Sequence[Level], Fresh], Steps]


def ddim(denoise: Denoise, x: Tensor, levels: Sequence[Level], fresh: Fresh) -> Steps:
    """DDIM (Song et al. 2021), the paper's Eq. 5 with eta = 0. Levels that rise invert a clip."""
    for here, there in pairwise(levels):
        x0, eps = denoise(x, here)
        x = there.alpha_bar**0.5 * x0 + (1 - there.alpha_bar) ** 0.5 * eps
        yield x, x0


SAMPLERS: dict[str, Sampler] = {"ddim": ddim}
"""By the names that users know."""
