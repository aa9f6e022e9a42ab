"""What the method does: sections about motion, noise and pictures."""

from benchmarks.plot import svg
from benchmarks.report.tables import Result, image, plus_minus, table


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
        + "\n\nWhat the VAE gives back of drawn scenes is off by {error:.4f}, of 1, the "
        "differences between neighbours by {edges off:.4f}, where they are {edges:.4f}.".format(
            **result["vae"]
        )
    )


def defaults(result: Result) -> str:
    rows = [
        [f"{row['steps']}", f"{row['cfg']:g}", f"{row['clip']:.0%}", f"{row['judge']:.0%}"]
        for row in result["rows"]
    ]
    return (
        f"**Steps and guidance of the small model**: of {result['prompts']} prompts, those of "
        "which all is right. Its own are {steps} and {cfg:g}.\n\n".format(**result["usual"])
        + table(["steps", "guidance", "by its own CLIP", "by a judge"], rows)
    )


FAMILY = {  # what is told, and its columns in order
    "edges": (
        "**Control by edges**: F1 of the clip's own edges and those asked for, within 2 pixels, "
        "and the share of clips that move as these do",
        ("F1", "follows"),
    ),
    "editor": (
        "**Edits by instruction**: the share of frames in which a judge sees what the instruction "
        "says, and of all else that it saw before",
        ("edit seen", "the rest kept"),
    ),
    "lora": (
        "**The LoRA that teaches teal**: the share of pictures that show it, and in which a judge "
        "sees the rest of the prompt. It has never seen teal itself, and where that is asked for "
        "it misses things more often, without the LoRA too",
        ("teal", "thing", "place", "count"),
    ),
    "upscaler": (
        "**The upscaler**: decibels of scenes of 512 pixels made from 128, as drawn, and as the "
        "VAE gives them back, from which the model's own pictures come",
        ("drawn, dB", "decoded, dB"),
    ),
}


def family(result: Result) -> str:
    rows: dict[str, dict[str, float]] = result["rows"]
    said, columns = FAMILY[result["part"]]

    def cell(column: str, value: float) -> str:
        if column.endswith("dB"):
            return f"{value:.1f}"
        return f"{value:.2f}" if column == "F1" else f"{value:.0%}"

    lines = [[way, *(cell(c, row[c]) for c in columns)] for way, row in rows.items()]
    return f"{said} ({result['clips']} each, the small model).\n\n" + table(["", *columns], lines)


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
        + "\n\nHow the noise forgets frame 1: its correlation with each frame's, of four models "
        "whose neighbours are equally close. Without inertia dependency noise is progressive "
        "noise whose share is found instead of told: one line. With it, noise goes past what has "
        "nothing of frame 1 and turns; mixed noise never leaves it.\n\n"
        + image("drift", result, "Correlation with frame 1 over frames")
    )


def decay_plot(result: Result) -> str:
    lines = {name: [*enumerate(values, start=1)] for name, values in result["decay"].items()}
    return svg(("frame", "correlation", lines))


def search(result: Result) -> str:
    at = (0, 4, 9, 14)  # rounds
    rows = [
        [name, *(f"{found['error'][i]:.2g}" for i in at), f"{100 * found['still']:.0f} %"]
        for name, found in result["convergence"].items()
    ]
    head = ["search", *(f"after {i + 1}" for i in at), "still clips"]
    decimals = {"mean": 3, "variance": 2, "kurtosis": 2}
    shown = sorted(next(iter(result["rows"].values()))["mean"], key=int)  # frames
    kinds = [
        [
            name.replace("|", r"\|"),
            *(", ".join(f"{row[f][i]:.{d}f}" for i in shown) for f, d in decimals.items()),
            *(plus_minus(row[f], 1) for f in ("seeds differ by", "motion")),
        ]
        for name, row in result["rows"].items()
    ]
    head_of_kinds = ["", *decimals, "seeds differ by", "motion"]
    return (
        f"**The paper's Figure 17**: how far the KL is from λ {result['lam']} after as many rounds "
        f"of the search (the median of {result['clips']} clips), and in how many clips nothing "
        f"moves at its end.\n\n{table(head, rows)}\n\nWhat the candidates are for: how normal the "
        f"noise of frames {', '.join(shown)} is (0, 1 and 3), of {result['clips']} clips without "
        f"inertia; how much the last of {result['frames']} frames of the small model differs from "
        f"seed to seed, and motion, both 0 to 255 ({len(result['prompts'])} prompts, "
        f"{result['seeds']} seeds, "
        "half the width of the 95 % interval behind each).\n\n"
        f"{table(head_of_kinds, kinds)}\n\n"
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
        f"**A camera** that pans by {result['pixels']} pixels a frame of {result['side']}, in four "
        "directions (8 frames, λ 0 unless told). How far the flow at the picture's edges is off "
        "the direction, and how long it is, as a share of what was asked (medians); clips within "
        "20° and a factor of 2; and the mean difference between neighbours.\n\n"
        + table(["", "off by", "size", "as asked", "adjacent difference"], rows)
    )
