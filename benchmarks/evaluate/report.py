"""Results as Markdown, and as one HTML page that opens from disk."""

import base64
import html as escape
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluate.folder import Folder, Row
from benchmarks.evaluate.methods import method
from benchmarks.evaluate.statistics import (
    BETTER,
    Estimate,
    at_change,
    difference,
    estimate,
    interval,
    means,
    verdict,
)
from benchmarks.plot import svg

CURVES = ("residual", "jumps", "tc", "ms_ssim", "appearance", "clip_score")
CHANGES = (5, 10, 15, 20, 30)
"""Differences of the last frame to the first, 0..255, at which methods are compared."""
NOTE = (
    "Differences are to the first method, paired by prompt and seed, with 95 % intervals. Where "
    "nothing differs, one word in twenty is wrong by chance: choose the figure that matters "
    "before you look, and do not count words."
)
Values = dict[tuple[str, int], float]
Table = tuple[str, list[list[str]]]
"""A title and lines of cells, the first of them the head."""


def by_method(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, Values]]:
    """Figures of clips by metric, method, and prompt with seed, in the order of `names`.

    Only prompts and seeds that all of these methods have, so that means are of the same.
    """
    found: dict[str, dict[str, Values]] = {}
    for row in rows:
        if row.frame is None:
            values = found.setdefault(row.metric, {name: {} for name in names})
            values[row.method][row.prompt, row.seed] = row.value
    for metric, of in found.items():
        common = set.intersection(*(set(values) for values in of.values()))
        found[metric] = {
            name: {key: value for key, value in values.items() if key in common}
            for name, values in of.items()
        }
    return {metric: of for metric, of in found.items() if all(of.values())}


def by_frame(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Means of each frame by metric and method, over the prompts and seeds that all have."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    common = set.intersection(
        *({(r.prompt, r.seed) for r in rows if r.method == name} for name in names)
    )
    for row in rows:
        if row.frame is not None and (row.prompt, row.seed) in common:
            frames = found.setdefault(row.metric, {name: {} for name in names})[row.method]
            frames.setdefault(row.frame, []).append(row.value)
    return {
        metric: {
            name: [sum(v) / len(v) for _, v in sorted(frames.items())]
            for name, frames in of.items()
        }
        for metric, of in found.items()
    }


def shown(found: Estimate) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} .. {found.high:.3f})"


def tables(rows: Sequence[Row], names: Sequence[str]) -> Iterator[Table]:
    """What is alike at equal change, and then every figure."""
    figures = by_method(rows, names)
    yield from equal_tables(figures)
    for metric, of in figures.items():
        base = next(iter(of))
        lines = [["method", "clips", "mean (95 %)", f"difference to {base}", ""]]
        for name, values in of.items():
            line = [name, str(len(values)), shown(estimate(values))]
            apart = difference(values, of[base]) if name != base else None
            line += ["", ""] if apart is None else [shown(apart), verdict(metric, apart)]
            lines.append(line)
        yield metric + direction(metric), lines


def direction(metric: str) -> str:
    words = {True: " (more is better)", False: " (less is better)", None: ""}
    return words[BETTER.get(metric)]


def equal_tables(figures: Mapping[str, dict[str, Values]]) -> Iterator[Table]:
    """Families of methods at equal change from the first to the last frame."""
    at = equal(figures)
    for metric in CURVES:
        found = {goal: of[metric] for goal, of in at.items() if metric in of}
        if not found:
            continue
        base = next(iter(next(iter(found.values()))))
        lines = [["net change", "methods", "mean (95 %)", f"difference to {base}", ""]]
        for goal, of in found.items():
            for family, (mean, apart) in of.items():
                line = [str(goal), family, shown(mean)]
                line += ["", ""] if apart is None else [shown(apart), verdict(metric, apart)]
                lines.append(line)
        yield f"{metric} at equal net change{direction(metric)}", lines


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Methods that differ in how much they move alone, by their family, from little to much."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(method(name).family, []).append(name)
    amount = {name: method(name).amount for name in names}
    return {family: sorted(group, key=amount.__getitem__) for family, group in found.items()}


Pair = tuple[Estimate, Estimate | None]
"""A mean, and its difference to the first family's."""


def equal(figures: Mapping[str, dict[str, Values]]) -> dict[int, dict[str, dict[str, Pair]]]:
    """Each figure at equal change: by change, metric and family, the first family before others.

    A change that the first family does not reach is left out: the others have nothing to differ
    from.
    """
    change = {name: means(values)[0] for name, values in figures.get("net_change", {}).items()}
    groups = [(f, group) for f, group in families([*change]).items() if len(group) > 1]
    found: dict[int, dict[str, dict[str, Pair]]] = {}
    for metric, of in figures.items():
        drawn = {name: means(of[name]) for _, group in groups for name in group}
        for goal in CHANGES if metric != "net_change" else ():
            first = None
            for i, (family, group) in enumerate(groups):
                values = [drawn[name][0] for name in group]
                prompts = drawn[group[0]][1]
                at = at_change([change[name] for name in group], values, goal)
                first = at if i == 0 else first
                if at is None or first is None:
                    continue
                apart = None if i == 0 else interval(at - first, prompts)
                row = found.setdefault(goal, {}).setdefault(metric, {})
                row[family] = (interval(at, prompts), apart)
    return {goal: found[goal] for goal in sorted(found)}


def summary(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Means and differences with their intervals, and families at the same change, for JSON."""
    figures = by_method(rows, names)
    base = names[0]
    each: dict[str, Any] = {name: {} for name in names}
    apart: dict[str, Any] = {name: {} for name in names if name != base}
    for metric, of in figures.items():
        for name in names:
            each[name][metric] = rounded(estimate(of[name]))
            if name != base:
                apart[name][metric] = rounded(difference(of[name], of[base]))
    at: dict[str, Any] = {}
    for goal, by_metric in equal(figures).items():
        for metric, pairs in by_metric.items():
            for family, (mean, off) in pairs.items():
                row = at.setdefault(str(goal), {}).setdefault(family, {})
                row[metric] = rounded(mean) + rounded(off)
    keys = figures["motion"][base]
    counts: dict[str, Any] = {
        "clips": len(keys),
        "prompts": len({prompt for prompt, _ in keys}),
        "seeds": sorted({seed for _, seed in keys}),
    }
    curves = {
        metric: {name: [float(f"{x:.4g}") for x in line] for name, line in of.items()}
        for metric, of in by_frame(rows, names).items()
    }
    return {**counts, "means": each, "differences": apart, "at change": at, "by frame": curves}


def rounded(found: Estimate | None) -> list[float]:
    """Mean and interval."""
    return [] if found is None else [float(f"{value:.4g}") for value in found[:3]]


def curves(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Figures over the change from first to last frame, a line for each family of methods; and
    those of frames over the frames."""
    of = by_method(rows, names)
    for metric in CURVES:
        if metric not in of or "net_change" not in of:
            continue
        x, y = of["net_change"], of[metric]
        lines = {
            family: [(estimate(x[name]).mean, estimate(y[name]).mean) for name in group]
            for family, group in families([*y]).items()
        }
        yield svg(("net change, 0..255", metric, lines))
    for metric, frames in by_frame(rows, names).items():
        yield svg(("frame", metric, {n: [*enumerate(line, 1)] for n, line in frames.items()}))


def markdown(rows: Sequence[Row], names: Sequence[str], settings: Mapping[str, object]) -> str:
    parts = [", ".join(f"{key} {value}" for key, value in settings.items()), NOTE]
    for title, lines in tables(rows, names):
        head, *body = ["| " + " | ".join(line) + " |" for line in lines]
        parts.append("\n".join([f"**{title}**", "", head, "| --- " * len(lines[0]) + "|", *body]))
    return "\n\n".join(parts) + "\n"


STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;
color:#222;background:#fff}table{border-collapse:collapse;margin:.5em 0 1.5em}
th,td{padding:.2em .9em .2em 0;text-align:left;border-bottom:1px solid #ddd;
font-variant-numeric:tabular-nums}h2{margin-top:2em}figure{display:inline-block;margin:.4em;
vertical-align:top;width:136px}figure img{width:136px;image-rendering:auto;border-radius:3px}
figcaption{font-size:12px;color:#666;overflow-wrap:anywhere}.better{color:#2a7d46}.worse{color:#b3372f}
@media (prefers-color-scheme: dark){body{color:#ddd;background:#181818}th,td{border-color:#444}}
"""


def html(
    rows: Sequence[Row],
    names: Sequence[str],
    settings: Mapping[str, object],
    folders: Sequence[Folder],
    prompts: Sequence[str],
) -> str:
    """The page: clips side by side, curves, tables."""
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>zs2: methods compared</title>',
        f'<link rel="icon" href="data:,"><style>{STYLE}</style>',
        f"<h1>Methods compared</h1><p>{escape.escape(told)}</p>",
        "<h2>Clips</h2>",
        *sheets(rows, names, folders, prompts),
        "<h2>Over motion</h2>",
        *curves(rows, names),
        f"<h2>Figures</h2><p>{NOTE}</p>",
    ]
    for title, lines in tables(rows, names):
        parts.append(f"<h3>{escape.escape(title)}</h3><table>")
        for i, line in enumerate(lines):
            kind = "td" if i else "th"
            word = line[-1] if line[-1] in ("better", "worse") else ""
            cells = [f"<{kind}>{escape.escape(cell)}</{kind}>" for cell in line[:-1]]
            cells.append(f'<{kind} class="{word}">{escape.escape(line[-1])}</{kind}>')
            parts.append(f"<tr>{''.join(cells)}</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def sheets(
    rows: Sequence[Row], names: Sequence[str], folders: Sequence[Folder], prompts: Sequence[str]
) -> Iterator[str]:
    """The clips of some prompts, those of a prompt side by side."""
    files: dict[tuple[int, int], dict[str, Path]] = {}
    for row in rows:
        for folder in folders:
            path = folder.path / "clips" / f"{row.clip}.webp"
            if row.prompt in prompts and path.exists():
                key = prompts.index(row.prompt), row.seed
                files.setdefault(key, {})[row.method] = path
    for (place, seed), clips in sorted(files.items()):
        yield f"<h3>{escape.escape(prompts[place])} <small>(seed {seed})</small></h3>"
        for name in names:
            if name in clips:
                data = base64.b64encode(clips[name].read_bytes()).decode()
                said = escape.escape(name)
                yield (
                    f'<figure><img alt="{said}" src="data:image/webp;base64,{data}">'
                    f"<figcaption>{said}</figcaption></figure>"
                )
