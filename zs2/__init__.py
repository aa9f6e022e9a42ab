"""zs2: training-free text-to-video from any Stable Diffusion checkpoint.

    import zs2

    pipe = zs2.load()              # the small model; or a folder, a single file, a hub id
    clip = pipe("a small red ball on green grass", frames=8, lam=0.01, mu=0.98, seed=1)
    clip.save("ball.mp4")

The method is the paper's (ZS^2: Zero-Shot Video Sampling from Image, arXiv 2407.21475). Its two
ideas are `zs2.noise` (section 3) and `zs2.attention` (section 4); `zs2.pipeline` is Algorithm 1.

Letters, in code and in shape comments:

    B   clips in a batch                    lam        KL target between neighbouring frames
    G   guidance branches                   mu         momentum of attention, one a frame
    F   frames (the paper's m)              alpha      share of noise kept from the frame before
    C   channels                            alpha_bar  the diffusion's share of signal at step t
    N   positions, height x width           K          candidates of the noise search
    D   width of a prompt embedding         inertia    how long a direction of the noise lasts
    V   values of a frame's latent, C*h*w   t          diffusion step, 999 is noise, 0 nearly clean

Words:

    shot       what is to be made: a model, a start, branches of guidance, noise levels (`zs2.shot`)
    feature    changes a shot: a picture to start from, prompt travel, .. (`zs2.shots`)
    order      runs a shot: all frames step by step (`zs2.denoise`), or a chunk of them through all
               steps, then the next (`zs2.stream`)
    share      how frames share attention in one pass (`zs2.attention`)

Rows of the UNet are frames: B clips with F frames are [B*F, C, h, w], frames the fast part.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from zs2.version import __version__

if TYPE_CHECKING:
    from zs2.denoise import Whole
    from zs2.errors import InputError, NumericalError
    from zs2.pipeline import Pipeline, load
    from zs2.shot import Clip
    from zs2.stream import Stream

_LAZY = {
    "Clip": "shot",
    "InputError": "errors",
    "NumericalError": "errors",
    "Pipeline": "pipeline",
    "Stream": "stream",
    "Whole": "denoise",
    "load": "pipeline",
}
"""Where each name is; imported at first use, so that `import zs2.noise` pulls in only torch."""

__all__ = [
    "Clip",
    "InputError",
    "NumericalError",
    "Pipeline",
    "Stream",
    "Whole",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f"zs2.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'zs2' has no attribute {name!r}")
