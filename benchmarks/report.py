"""Writes docs/results.md and the README's section "Measured" from benchmarks/results.

So neither can drift. The README has the figures that matter most, docs/results.md all of them.

python -m benchmarks.report            # rewrite it
python -m benchmarks.report --check    # say whether it is up to date
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import slug
from benchmarks.plot import short, svg

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- begin: python -m benchmarks.report -->", "<!-- end -->"

Result = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(result: Result) -> str:
    """What a figure was measured on, small print under its table."""
    torch = result["versions"]["torch"]
    count = result["threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if "cpu" in torch else ""
    return (
        f"<sub>{result['device']}{threads}, {result['dtype']}, torch {torch}, "
        f"commit {result['commit']}, {result['date']}</sub>"
    )


def judge(result: Result) -> str:
    head = [
        "its own CLIP names the",
        "in pictures made",
        "with shuffled prompts",
        "in drawn scenes",
    ]
    rows = [
        [name, *(f"{100 * result[name][kind]:.0f} %" for kind in ("made", "shuffled", "drawn"))]
        for name in ("colour", "place", "thing")
    ]
    return (
        "**How good the small model is**: 120 prompts, half of them combinations that were never "
        f"trained on.\n\n{table(head, rows)}"
    )


def motion(result: Result) -> str:
    parts = [
        "**What λ and μ do** (small model, inertia 0, "
        f"{len(result['prompts'])} prompts, {result['frames']} frames, {result['steps']} steps): "
        "motion is the mean absolute difference of adjacent frames, 0 to 255; appearance the "
        "distance of colour histograms to frame 1, 0 when kept."
    ]
    for name, ladder in result["ladders"].items():
        rungs = ladder["rungs"]
        rows = [
            [kind, *(f"{sum(r[kind]) / len(r[kind]):.2f}" for r in rungs.values())]
            for kind in ("motion", "appearance")
        ]
        parts.append(table([name, *rungs], rows))
    defaults = result["defaults"]
    parts.append(
        f"At the defaults its CLIP names the prompted colour and thing in every frame of "
        f"{100 * defaults['colour and thing in every frame']:.0f} % of the clips, which move by "
        f"{defaults['motion']:.1f}."
    )
    return "\n\n".join(parts)


def inertia(result: Result) -> str:
    figures = {"adjacent difference": 1, "residual": 1, "jumps": 3, "persistence": 2}  # decimals

    def cell(row: Result, name: str, decimals: int) -> str:
        low, high = row[name]["difference"]
        mean = f"{row[name]['mean']:.{decimals}f}"
        return f"{mean} ({low:+.{decimals}f} .. {high:+.{decimals}f})" if low != high else mean

    rows = [
        [
            goal,
            f"{kind} (λ {row['lam']['mean']:.2g})",
            *(cell(row, name, decimals) for name, decimals in figures.items()),
        ]
        for goal, kinds in result["at change"].items()
        for kind, row in kinds.items()
    ]
    intro = (
        "**What inertia does** at the same change from first to last frame (small model, "
        f"{len(result['prompts'])} prompts, {result['frames']} frames, {result['steps']} steps; "
        "each row is read off the straight line through two λ, at the λ in brackets). "
        "The residual is what optical flow leaves of the adjacent difference, 0 to 255; jumps the "
        "share of pairs with a residual above 10; persistence the cosine of successive differences "
        "of latents. In brackets the 95 % interval of the difference to inertia 0, the paper's "
        "walk, paired by prompt."
    )
    others = [
        [
            str(row["frames"]),
            f"{row['inertia']:g} (λ {row['lam']:g})",
            *(f"{row[name]:.{decimals}f}" for name, decimals in figures.items()),
            f"{row['change']:.1f}",
            f"{100 * row['right']:.0f} %",
        ]
        for row in result["other lengths"]
    ]
    return "\n\n".join(
        [
            intro,
            table(["change", "inertia", *figures], rows),
            "Other lengths, and how many of their clips show the prompted colour and thing in "
            "every frame:",
            table(["frames", "inertia", *figures, "change", "colour and thing"], others),
        ]
    )


def drift(result: Result) -> str:
    head = ["values a frame", "rule", "mean", "variance", "kurtosis", "correlation 8, 16, 64"]
    rows = [
        [
            str(row["values a frame"]),
            "smallest \\|b\\| (ours)" if row["rule"] == "unbiased" else "paper's",
            *(f"{row[kind]:.3f}" for kind in ("mean", "variance", "kurtosis")),
            ", ".join(f"{c:.3f}" for c in row["correlation"]),
        ]
        for row in result["frame 64"]
    ]
    formula = ", ".join(f"{c:.3f}" for c in result["formula"])
    return (
        "**Noise stays noise**: frame 64 at the defaults, which should be N(0, 1) and correlate "
        f"with frame 1 as the formula says ({formula} at frames 8, 16, 64).\n\n{table(head, rows)}"
    )


def momentum(result: Result) -> str:
    head = ["tokens x channels", "frames", "dtype", "", "time", "share of copy speed", "error"]
    largest = max(row["tokens"] for row in result["rows"])
    rows = [
        [
            f"{row['tokens']} x {row['channels']}",
            str(row["frames"]),
            row["dtype"],
            row["contender"],
            f"{short(row['ms'])} ms",
            f"{row['share of copy speed']:.2f}",
            "" if row["error"] is None else f"{row['error']:.1e}",
        ]
        for row in result["rows"]
        if row["tokens"] == largest and row["contender"] not in ("reference", "norm alone")
    ]
    return (
        "**The momentum scan** of K and V at the largest layer, two guidance branches, in memory "
        "that was used before; the error is relative to float64.\n\n" + table(head, rows)
    )


def noise(result: Result) -> str:
    head = ["frames", "candidates", "", "time", "KL off by"]
    rows = [
        [
            str(row["frames"]),
            str(row["candidates"]),
            row["contender"],
            f"{short(row['ms'])} ms",
            "NaN"
            if row["median error of the KL"] is None
            else f"{row['median error of the KL']:.1g}",
        ]
        for row in result["rows"]
    ]
    return "**The noise search** for 512 pixels, λ 0.01.\n\n" + table(head, rows)


def sample(result: Result) -> str:
    frames = result["frames"]
    figures = result["by dtype"].values()
    first = next(iter(figures))
    clip = first["clip"]
    intro = (
        f"**A clip and its parts**: {result['model']}, {result['size']} pixels. A UNet step of "
        f"{frames} frames with guidance (in brackets its share of this machine's matrix-product "
        f"rate); {frames} frames in {clip['steps']} steps from prompt to pixels (in brackets the "
        "time of a frame); and the peak of a process that makes 8 frames in 2 steps (in brackets "
        "what zs2 estimates before)."
    )
    rows = [
        [
            f"step, {name}",
            *(
                f"{seconds(f['UNet step, s'][name])} ({f['share of the product rate'][name]:.0%})"
                for f in figures
            ),
        ]
        for name in first["UNet step, s"]
    ]
    rows += [
        [f"{name}, once a clip", *(seconds(f["parts, s"][name]) for f in figures)]
        for name in first["parts, s"]
    ]
    rows += [
        [
            f"clip, {name}",
            *(
                f"{seconds(f['clip']['s'][name])} ({f['clip']['s'][name] / frames:.2g})"
                for f in figures
            ),
        ]
        for name in clip["s"]
    ]
    taken = [f["8 frames, 2 steps"] for f in figures]
    rows += [[f"memory, {name}", *(memory(clips[name]) for clips in taken)] for name in taken[0]]
    return f"{intro}\n\n{table(['', *result['by dtype']], rows)}"


def seconds(time: float) -> str:
    return f"{time:.3g} s" if time >= 0.1 else f"{1000 * time:.3g} ms"


def memory(clip: Result) -> str:
    estimate = clip["estimate, MB"]
    return f"{clip['peak, MB']:.0f} MB" + (f" ({estimate:.0f})" if estimate else "")


def growth(result: Result) -> str:
    return (
        f"**Growth** of a UNet step with guidance ({result['model']}).\n\n"
        f"![Time over frames and over size]({Path(plot_path(result)).name})"
    )


def growth_plot(result: Result) -> str:
    def lines(axis: str) -> dict[str, list[tuple[float, float]]]:
        rows = [row for row in result["rows"] if row["axis"] == axis]
        return {
            name: [(row[axis], 1000 * row["seconds"][name]) for row in rows]
            for name in rows[0]["seconds"]
        }

    usual = next(row["size"] for row in result["rows"] if row["axis"] == "frames")
    return svg(
        (f"frames of {usual}x{usual}", "ms a step", lines("frames")),
        ("pixels a side, 8 frames", "ms a step", lines("size")),
    )


def plot_path(result: Result) -> str:
    return f"docs/growth-{slug(result['device'])}.svg"


def inertia_in_brief(result: Result) -> str:
    goal, kinds = max(result["at change"].items(), key=lambda item: float(item[0]))
    names = {"adjacent difference": 1, "residual": 1, "jumps": 3, "persistence": 2}  # decimals
    rows = [
        [said, *(f"{kinds[kind][name]['mean']:.{d}f}" for name, d in names.items())]
        for kind, said in {"0": "the paper's walk, `--inertia 0`", "0.95": "inertia 0.95"}.items()
    ]
    head = ["", "adjacent difference", "not explained by flow", "jumps", "persistence"]
    return (
        f"**Smooth motion**: {len(result['prompts'])} prompts, {result['frames']} frames, at the "
        f"same change of {goal} from first to last frame.\n\n{table(head, rows)}"
    )


def sample_in_brief(result: Result) -> str:
    first = next(iter(result["by dtype"].values()))
    names = ("zs2", "diffusers' UNet and DDIM", "Text2Video-Zero")
    rows = [
        [
            name,
            *(seconds(f["clip"]["s"][name]) for f in result["by dtype"].values()),
            *(
                f"{f['8 frames, 2 steps'][name]['peak, MB']:.0f} MB"
                for f in result["by dtype"].values()
            ),
        ]
        for name in names
    ]
    dtypes = list(result["by dtype"])
    head = ["", *(f"clip, {d}" for d in dtypes), *(f"memory, {d}" for d in dtypes)]
    return (
        f"**Speed and memory on a CPU**: {result['model']}, {result['size']} pixels, "
        f"{result['frames']} frames in {first['clip']['steps']} steps from prompt to pixels; the "
        f"peak of 8 frames.\n\n{table(head, rows)}"
    )


def between(result: Result) -> str:
    names = {"zs2": "zs2", "repeated": "the frame before", "blended": "the mean of both"}
    names["whole"] = "what was left out"
    figures = {"distance": 2, "sharpness": 3, "warping error": 2, "largest step": 1}  # decimals
    rows = [
        [said, *(f"{sum(v) / len(v):.{d}f}" for f, d in figures.items() for v in [rows[f]])]
        for name, said in names.items()
        for rows in [result["rows"][name]]
    ]
    return (
        f"**Frames between** ({len(result['prompts'])} prompts, 15 frames, λ {result['lam']}): "
        "every second frame is left out and made of its neighbours. Distance to what was left out, "
        "sharpness relative to it, what optical flow leaves between neighbours that differ, and "
        f"the largest step from frame to frame.\n\n{table(['between', *figures], rows)}"
    )


METHODS = {
    "coherence": "Methods over motion",
    "table1": "The paper's Table 1, in figures",
    "noises": "The paper's ablations as one grid, noise by attention",
    "ladders": "The paper's Figure 4: more λ, more μ",
    "long": "The paper's Figures 14 to 16: long clips",
    "study": "What was tried for more coherence",
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
    rows = []
    for name, row in result["means"].items():
        cells = [f"`{name}`"]
        for figure, decimals in FIGURES.items():
            mean, low, high = row[figure]
            cells.append(f"{mean:.{decimals}f} ± {(high - low) / 2:.{decimals}f}")
        rows.append(cells)
    plan = result["plan"]
    told = (
        f"**{METHODS[plan]}** ({result['model']}, {result['prompts']} prompts, "
        f"{result['frames']} frames, {result['steps']} steps; half the width of the 95 % interval "
        "behind each mean).\n\n"
        + table(["method", *(figure.replace("_", " ") for figure in FIGURES)], rows)
    )
    near = [
        [goal, f"`{family}`", *(at_change(row[f], d) for f, d in FIGURES.items() if f in row)]
        for goal, kinds in result["at change"].items()
        if len(kinds) > 1
        for family, row in sorted(kinds.items(), key=lambda kind: len(kind[1]["motion"]))
    ]
    if not near:
        return told
    head = ["net change", "method", *(f.replace("_", " ") for f in FIGURES if f != "net_change")]
    return (
        f"{told}\n\nThe same at equal net change, read off the straight line through the two "
        "methods around it; in brackets the 95 % interval of the difference to the first, paired "
        f"by prompt.\n\n{table(head, near)}"
    )


def coherence_in_brief(result: Result) -> str:
    """All families at one change, the largest that all reach."""
    goals = result["at change"]
    goal = max(goals, key=lambda g: (len(goals[g]), float(g)))
    figures = ("residual", "jumps", "ms_ssim", "clip_score")
    names = {"paper": "the paper's noise", "text2video-zero": "Text2Video-Zero"}
    rows = [
        [names.get(family, family), *(f"{row[f][0]:.{FIGURES[f]}f}" for f in figures)]
        for family, row in goals[goal].items()
    ]
    return (
        f"**Coherence at equal motion** (small model, {result['prompts']} prompts): where the "
        f"last frame differs from the first by {goal} of 255, what optical flow leaves of the "
        "steps from frame to frame, the share of steps where that is above 10, MS-SSIM of "
        "neighbours, and CLIP score. [What was compared](docs/coherence.md)."
        "\n\n" + table(["", *(f.replace("_", " ") for f in figures)], rows)
    )


def at_change(found: list[float], decimals: int) -> str:
    """A mean, and how far it may be from the first family's."""
    mean, _, _, *apart = found
    if not apart:
        return f"{mean:.{decimals}f}"
    _, low, high = apart
    return f"{mean:.{decimals}f} ({low:+.{decimals}f} .. {high:+.{decimals}f})"


def search(result: Result) -> str:
    at = (0, 4, 9, 14)  # steps
    rows = [
        [name, *(f"{found['error'][i]:.2g}" for i in at), f"{100 * found['still']:.0f} %"]
        for name, found in result["convergence"].items()
    ]
    head = ["search", *(f"after {i + 1}" for i in at), "still clips"]
    decimals = {"mean": 3, "variance": 2, "kurtosis": 2, "seeds differ by": 1, "motion": 1}
    kinds = [
        [name, *(f"{row[figure]:.{d}f}" for figure, d in decimals.items())]
        for name, row in result["rows"].items()
    ]
    return (
        f"**The paper's Figure 17**: how far the KL is from λ {result['lam']} after as many steps "
        f"of the search (the median of {result['clips']} clips), and in how many clips nothing "
        f"moves at its end.\n\n{table(head, rows)}\n\nWhat the candidates are for "
        f"({len(result['prompts'])} prompts of the small model, inertia 0): how normal the noise "
        f"of frame {result['frames']} is (0, 1 and 3), how much its pictures differ from seed to "
        f"seed, and motion, both 0 to 255.\n\n{table(['', *decimals], kinds)}\n\n"
        "Section 3.1's pointwise solution, p - λ / exp(p), which needs no search, grows without "
        f"bound: of as many clips, the largest value of frame 3 is "
        f"{result['analytic']['largest value of frame 3']:.2g}, and some are infinite by frame "
        f"{result['analytic']['first infinite frame']}."
    )


def segments(result: Result) -> str:
    figures = {"first step": 2, "at seams": 2, "elsewhere": 2, "colour distance": 3}  # decimals
    rows = [
        [name, *(f"{sum(rows[f]) / len(rows[f]):.{d}f}" for f, d in figures.items())]
        for name, rows in result["rows"].items()
    ]
    return (
        f"**The steps of a clip** ({len(result['prompts'])} prompts, {result['frames']} frames, "
        f"λ {result['lam']}): the mean difference of neighbours from frame 1 to 2, where the "
        "paper's segments (`--segment`) end, whose attention begins anew, and elsewhere; and how "
        f"far the later frames' colours are from the first's.\n\n{table(['', *figures], rows)}"
    )


def camera(result: Result) -> str:
    def median(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    rows = []
    for method, row in result["rows"].items():
        pairs = zip(row["angle"], row["size"], strict=True)
        asked = sum(angle <= 20 and 0.5 <= size <= 2 for angle, size in pairs)
        rows.append(
            [
                method,
                f"{median(row['angle']):.0f}°",
                f"{median(row['size']):.2f}",
                f"{asked} of {len(row['angle'])}",
                f"{median(row['adjacent difference']):.1f}",
            ]
        )
    return (
        f"**A camera** that pans by {result['pixels']} pixels a frame of 64, in four directions (8 "
        "frames, λ 0 unless told). How far the flow at the picture's edges is off the direction, "
        "and how long it is, as a share of what was asked (medians); clips within 20° and a factor "
        "of 2; and the mean difference between neighbours.\n\n"
        + table(["", "off by", "size", "as asked", "adjacent difference"], rows)
    )


def devices(result: Result) -> str:
    rows = [
        [
            str(row["processes"]),
            f"{row['s']:.1f} s",
            f"{result['rows'][0]['s'] / row['s']:.2f}",
            f"{row['reckoned']:.2f}",
        ]
        for row in result["rows"]
    ]
    return (
        f"**One clip by several processes** of one thread each (small model, {result['frames']} "
        f"frames in chunks of {result['chunk']}, {result['steps']} steps).\n\n"
        + table(["processes", "clip", "times as fast", "reckoned"], rows)
    )


def memory_taken(result: Result) -> str:
    return (
        "**Memory over the length of a clip** (the small model, with all that a process takes; "
        f"clips are written as mp4).\n\n![Memory over frames]({Path(memory_path(result)).name})"
    )


def estimates(result: Result) -> str:
    rows = [
        [
            f"`{row['setting']}`",
            f"{row['estimate'] / 1e6:.0f} MB",
            f"{row['peak'] / 1e6:.0f} MB",
            f"{row['estimate'] / row['peak'] - 1:+.0%}",
        ]
        for row in result["rows"]
    ]
    return (
        "**Memory that is told before** a clip is made, beside the model (SD 1.5's shapes).\n\n"
        + table(["setting", "estimate", "peak", "difference"], rows)
    )


def memory_path(result: Result) -> str:
    return f"docs/memory-{slug(result['device'])}.svg"


def memory_plot(result: Result) -> str:
    lines = {
        name: [(n, size / 1e6) for n, size in sizes] for name, sizes in result["lengths"].items()
    }
    return svg(("frames", "MB", lines))


BRIEF = {
    "judge": judge,
    "evaluate coherence": coherence_in_brief,
    "inertia": inertia_in_brief,
    "sample": sample_in_brief,
}
SECTIONS = {
    "judge": judge,
    "motion": motion,
    "inertia": inertia,
    "drift": drift,
    "momentum": momentum,
    "noise": noise,
    "sample": sample,
    "growth": growth,
    "memory": memory_taken,
    "estimates": estimates,
    "search": search,
    "segments": segments,
    "evaluate": evaluate,
    "between": between,
    "camera": camera,
    "devices": devices,
}


TITLE = """\
# Results

All that was measured, losing rows too. Written by `python -m benchmarks.report` from
`benchmarks/results`; each table names the device, the versions and the commit it is of."""


def files() -> dict[Path, str]:
    """What the README, docs/results.md and the plots should hold."""
    readme = ROOT / "README.md"
    brief, full, made = [], [TITLE], {}
    machines = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    for section, write in SECTIONS.items():
        for results in machines:
            for name in sorted(results):
                if name.split()[0] == section:  # "sample", and "sample tiny"
                    full.append(f"{write(results[name])}\n\n{source(results[name])}")
                    if name in BRIEF:
                        brief.append(f"{BRIEF[name](results[name])}\n\n{source(results[name])}")
    for results in machines:
        if "growth" in results:
            made[ROOT / plot_path(results["growth"])] = growth_plot(results["growth"])
        if "memory" in results:
            made[ROOT / memory_path(results["memory"])] = memory_plot(results["memory"])
    before, rest = readme.read_text("utf-8").split(BEGIN)
    made[readme] = "\n\n".join([before + BEGIN, *brief, END + rest.split(END)[1]])
    made[ROOT / "docs/results.md"] = "\n\n".join(full) + "\n"
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if outdated")
    args = parser.parse_args()
    for path, text in files().items():
        if not args.check:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            sys.exit(f"{path.name} is out of date: run python -m benchmarks.report")


if __name__ == "__main__":
    main()
