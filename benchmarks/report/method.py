"""What the method does: sections about motion, noise and pictures."""

from benchmarks.report.tables import Result, table


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


def pictures(result: Result) -> str:
    kinds = {"made": "pictures made", "shuffled": "shuffled prompts", "drawn": "drawn scenes"}
    whose = {"clip": "its own CLIP", "judge": "a judge that shares nothing with it"}
    names = ["colour", "place", "thing", "count", "all"]
    rows = [
        [said, judge, *(f"{100 * result['judges'][who][kind][name]:.0f} %" for name in names)]
        for kind, said in kinds.items()
        for who, judge in whose.items()
    ]
    return (
        f"**How good the small model is**: of {result['prompts']} prompts, half of them "
        "combinations that were never trained on, what is named right.\n\n"
        + table(["in", "by", *names], rows)
    )


def family(result: Result) -> str:
    asked = {
        "control": "edges of a panned camera: F1 within 2 pixels, and how many clips pan along",
        "editor": "an instruction: frames where a judge sees the edit, and what it did not name",
        "lora": "a LoRA of a colour: pictures that show it",
        "upscaler": "4x: against scenes drawn at that size",
    }
    rows = [
        [what, name, ", ".join(f"{figure} {value:.3g}" for figure, value in row.items())]
        for part, what in asked.items()
        for name, row in result["rows"][part].items()
    ]
    return (
        f"**What goes with the small model** ({result['clips']} clips, pictures or edits each).\n\n"
        + table(["", "", "measured"], rows)
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
        "**Noise stays noise**: frame 64 at λ 0.01 and inertia 0, which should be N(0, 1) and "
        f"correlate with frame 1 as the formula says ({formula} at frames 8, 16, 64).\n\n"
        + table(head, rows)
    )


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


def steps(result: Result) -> str:
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
