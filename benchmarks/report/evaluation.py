"""Methods compared by `benchmarks.evaluate`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluate.methods import result_name
from benchmarks.plot import svg
from benchmarks.report.tables import Result, image, plus_minus, table

METHODS = {
    "coherence": "Methods over motion",
    "table1": "The paper's Table 1, in figures",
    "noises": "The paper's ablations as one grid, noise by attention",
    "ladders": "The paper's Figure 4: more λ, more μ",
    "long": "The paper's Figures 14 to 16: long clips",
    "study": "What was tried for more coherence",
    "finalists": "What of it was worth more prompts",
}
FIGURES = {  # decimals
    "motion": 1,
    "net_change": 1,
    "residual": 2,
    "jumps": 3,
    "tc": 3,
    "ms_ssim": 3,
    "appearance": 2,
    "clip_score": 1,
}


def evaluate(result: Result) -> str:
    means, apart = result["means"], result["differences"]
    (base,) = means.keys() - apart.keys()
    figures = {figure: decimals for figure, decimals in FIGURES.items() if figure in means[base]}
    near = [
        [goal, f"`{family}`", *(at_change(row[f], d) for f, d in FIGURES.items() if f in row)]
        for goal, kinds in result["at change"].items()
        if len(kinds) > 1
        for family, row in by_distance(kinds)
    ]
    rows = [
        [
            f"`{name}`",
            *(
                plus_minus(row[f], d) + ("" if near or name == base else arrow(apart[name][f]))
                for f, d in figures.items()
            ),
        ]
        for name, row in sorted(means.items(), key=lambda item: by_number(item[0]))
    ]
    plan, model = result["plan"], Path(result["model"]).name
    arrows = f"; ↑ ↓: above or below `{base}`, paired by prompt, with an interval free of 0"
    told = (
        f"**{METHODS[plan]}** ({model}, {result['prompts']} prompts, "
        f"{result['frames']} frames, {result['steps']} steps; half the width of the 95 % interval "
        f"behind each mean{'' if near else arrows}).\n\n"
        + table(["method", *(figure.replace("_", " ") for figure in figures)], rows)
    )
    if plan == "long":
        told += "\n\nHow far each frame's colours are from frame 1's.\n\n"
        told += image(result_name(plan, model), result, "Distance of colours over frames")
    if not near:
        return told
    head = ["net change", "method", *(f.replace("_", " ") for f in figures if f != "net_change")]
    return (
        f"{told}\n\nThe same at equal net change, read off the straight line through the two "
        "methods around it; in brackets the 95 % interval of the difference to the first, paired "
        f"by prompt.\n\n{table(head, near)}"
    )


def arrow(apart: Sequence[float]) -> str:
    """Whether a difference's interval lies above 0 or below."""
    _, low, high = apart
    return " ↑" if low > 0 else " ↓" if high < 0 else ""


def drift_plot(result: Result) -> str:
    lines = {
        name: [*enumerate(values, start=1)] for name, values in result["by frame"]["drift"].items()
    }
    return svg(("frame", "distance, 0..2", lines))


def coherence_in_brief(result: Result) -> str:
    """All families at the changes that several of them reach."""
    figures = ("residual", "jumps", "ms_ssim", "clip_score")
    names = {"paper": "the paper's noise", "text2video-zero": "Text2Video-Zero"}
    rows = [
        [goal, names.get(family, family), *(f"{row[f][0]:.{FIGURES[f]}f}" for f in figures)]
        for goal, families in result["at change"].items()
        if len(families) > 1
        for family, row in by_distance(families)
    ]
    head = ["change", "", *(f.replace("_", " ") for f in figures)]
    return (
        f"**Coherence at equal net change** (small model, {result['prompts']} prompts): where the "
        "last frame differs from the first by as much, of 255, what optical flow leaves of the "
        "steps from frame to frame, the share of steps where that is above 10, MS-SSIM of "
        "neighbours, and CLIP score. [What was compared](docs/coherence.md)."
        "\n\n" + table(head, rows)
    )


def by_distance(families: dict[str, Any]) -> list[tuple[str, Any]]:
    """The first family, which differs from nothing, before those that differ from it."""
    return sorted(families.items(), key=lambda family: len(family[1]["motion"]))


def by_number(name: str) -> list[tuple[float, str]]:
    """A method's name to sort by, with lam=0.01 after lam=0.003."""
    parts = re.split(r"(\d+\.?\d*)", name)
    return [(float(x), "") if x[:1].isdigit() else (0.0, x) for x in parts]


def at_change(found: list[float], decimals: int) -> str:
    """A mean, and how far it may be from the first family's."""
    mean, _, _, *apart = found
    if not apart:
        return f"{mean:.{decimals}f}"
    _, low, high = apart
    return f"{mean:.{decimals}f} ({low:+.{decimals}f} .. {high:+.{decimals}f})"
