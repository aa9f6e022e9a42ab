"""What can be compared: a method's name, and what differs from its usual settings.

zs2                            zs2 at its defaults
zs2:lam=0.003,inertia=0.8      with other values
zs2:noise=mixed,alpha=0.99     with another noise model
paper                          the paper's: no inertia, its two searches
text2video-zero:motion=6       by how many 512ths of the picture it moves, to both sides
text2video-zero:mu=0.98        its motion, with momentum attention in place of cross-frame
ddim                           frame by frame
own:lam=0.003                  zs2 with attention or noise of another kind, see `tried`

A plan is several at once: table1, the paper's; ladders, its Figure 4; noises, its two ablations as
one grid of noise and attention; long, its Figures 14 to 16; coherence, what to read at equal
change; study, what was tried for more of it; finalists, what of that was worth more prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.evaluate.tried import TRIED, Look
from zs2.attention import FrameAttention
from zs2.errors import InputError
from zs2.noise import NOISES
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.text2video_zero import Text2VideoZero

PAPER = {"inertia": "0", "select": "paper", "search": "iterative"}
LAMS = (0.001, 0.003, 0.01, 0.03, 0.1)
STUDIED = (0.001, 0.003, 0.01, 0.03)
MOTIONS = (3, 6, 12, 24)
MUS = {"momentum": 0.98, "cross-frame": 1, "self": 0}
PLANS = {  # each method is compared with the first of its plan
    "table1": ["zs2", "paper", "text2video-zero", "ddim"],
    "ladders": [
        "paper:lam=0.01",
        *(f"paper:lam={lam}" for lam in (0, *LAMS) if lam != 0.01),
        *(f"paper:lam=0.01,mu={mu}" for mu in (0, 0.5, 0.8, 0.95, 1)),
    ],
    "noises": [
        f"{kind},mu={mu}"
        for kind in (
            *("zs2:lam=0.01", "paper:lam=0.01"),
            *("zs2:noise=progressive", "zs2:noise=mixed", "zs2:noise=independent"),
        )
        for mu in MUS.values()
    ],
    "coherence": [
        *(f"zs2:lam={lam}" for lam in LAMS),
        *(f"paper:lam={lam}" for lam in LAMS[1:]),
        *(f"text2video-zero:motion={motion}" for motion in MOTIONS),
        "ddim",
    ],
    # Neighbours' noise correlates alike, but for the paper's, whose search misses lam: the alphas
    # are by default those of lam = 0.01.
    "long": [
        *(f"{kind}:lam=0.01,mu=0.95" for kind in ("zs2", "paper")),
        *(f"zs2:noise={kind},mu=0.95" for kind in ("progressive", "mixed")),
    ],
    "study": [
        *(f"zs2:lam={lam}" for lam in STUDIED),
        *(f"zs2:lam={lam},inertia={inertia}" for inertia in (0, 0.5, 0.8, 1) for lam in STUDIED),
        *(f"zs2:lam={lam},mu={mu}" for mu in (0, 0.5, 0.9, 1) for lam in STUDIED),
        *(f"{kind}:lam={lam}" for kind in TRIED for lam in STUDIED),
        *(f"text2video-zero:motion={motion},mu=0.98" for motion in MOTIONS),
    ],
    "finalists": [
        f"{kind}:lam={lam}{but}"
        for kind, but in (("zs2", ""), ("zs2", ",inertia=1"), ("zs2", ",mu=0"), ("adain", ""))
        for lam in STUDIED
    ],
}


SMALL_MODEL = "the small model"


def result_name(plan: str, model: str) -> str:
    """By which results keep a plan's summary: other models' beside the small one's."""
    return f"evaluate {plan}" + (f" of {Path(model).name}" if model != SMALL_MODEL else "")


@dataclass(frozen=True)
class Method:
    """What a pipeline is asked for beside prompt, frames, steps, size and seed.

    Attributes:
        name: as it was given.
        asked: arguments of `Pipeline.shot`.
    """

    name: str
    asked: dict[str, Any]

    @property
    def settings(self) -> str:
        """All that it is, defaults too, so that clips of others are not taken for its own."""
        return repr(self.asked)

    @property
    def family(self) -> str:
        """The name without its values: one line in a plot."""
        kind, _, rest = self.name.partition(":")
        kept = [w for w in rest.split(",") if w and not w.startswith(("lam=", "motion="))]
        return ":".join([kind, ",".join(kept)]) if kept else kind

    @property
    def amount(self) -> float:
        """How much it is told to move, by which its family is in order."""
        for feature in self.asked.get("features", ()):
            if isinstance(feature, Text2VideoZero):
                return feature.motion[0]
        return float(getattr(self.asked.get("noise"), "lam", 0))


def planned(names: Sequence[str]) -> list[Method]:
    """Methods by their names and those of plans, each once.

    Raises:
        InputError: a name or a value is not known.
    """
    each = dict.fromkeys(one for name in names for one in PLANS.get(name, [name]))
    return [method(name) for name in each]


def method(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: the name or a value is not known.
    """
    kind, _, rest = name.partition(":")
    values = dict(word.partition("=")[::2] for word in rest.split(",") if word)
    try:
        if kind in ("zs2", "paper"):
            return Method(name, ours((PAPER if kind == "paper" else {}) | values))
        if kind in TRIED:
            return Method(name, {**ours(values), "features": [TRIED[kind]]})
        if kind == "text2video-zero":
            by = float(values.pop("motion", 12))
            mus = [float(values.pop("mu"))] if "mu" in values else []
            looks = [Look(FrameAttention(mu)) for mu in mus]
            check_empty(values)
            return Method(name, {"features": [Text2VideoZero(motion=(by, by)), *looks]})
        if kind == "ddim":
            check_empty(values)
            return Method(name, {"features": [FrameByFrame()]})
    except ValueError as error:
        raise InputError(f"method {name}: {error}") from error
    raise InputError(f"{kind} is no method: use zs2, paper, text2video-zero, ddim or a plan")


def check_empty(values: dict[str, str]) -> None:
    if values:
        raise ValueError(f"it has no {', '.join(values)}")


def ours(values: dict[str, str]) -> dict[str, Any]:
    """Noise model and attention of values by name."""
    values = dict(values)
    kind = NOISES.get(values.pop("noise", "dependency"))
    if kind is None:
        raise ValueError(f"noise is one of {', '.join(NOISES)}")
    usual: Any = getattr(kind, "MU", FrameAttention.mu)
    mu = float(values.pop("mu", usual))
    known = {f.name: f.type for f in fields(kind)}
    check_empty({name: value for name, value in values.items() if name not in known})
    given = {name: read(value) for name, value in values.items()}
    return {"noise": kind(**given), "attention": FrameAttention(mu)}


def read(text: str) -> Any:
    """A whole number, a number, or a word."""
    for as_kind in (int, float):
        try:
            return as_kind(text)
        except ValueError:
            continue
    return text
