"""Results as Markdown, and as one HTML page that opens from disk."""

import base64
import html as escape
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.evaluate.folder import Folder, Row
from benchmarks.evaluate.methods import method
from benchmarks.evaluate.statistics import (
    BETTER,
    Estimate,
    at_change,
    difference,
    estimate,
    interval,
    verdict,
)
from benchmarks.plot import svg

CURVES = ("residual", "jumps", "tc", "ms_ssim", "appearance", "clip_score")
CHANGES = (5, 10, 15, 20, 30)
"""Differences of the last frame to the first, 0..255, at which methods are compared."""
Values = dict[tuple[str, int], float]


def by_method(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, Values]]:
    """Values by metric, method, and prompt with seed; only of these methods, in their order."""
    found: dict[str, dict[str, Values]] = {}
    for row in rows:
        if row.method in names:
            values = found.setdefault(row.metric, {}).setdefault(row.method, {})
            values[row.prompt, row.seed] = row.value
    return {
        metric: {name: of[name] for name in names if name in of} for metric, of in found.items()
    }


def shown(found: Estimate) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} .. {found.high:.3f})"


def tables(rows: Sequence[Row], names: Sequence[str]) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and lines of cells, the first of them the head, for every metric."""
    for metric, of in by_method(rows, names).items():
        base = next(iter(of))
        lines = [["method", "clips", "mean (95 %)", f"difference to {base}", ""]]
        for name, values in of.items():
            line = [name, str(len(values)), shown(estimate([*values.values()]))]
            apart = difference(values, of[base]) if name != base else None
            line += ["", ""] if apart is None else [shown(apart), verdict(metric, apart)]
            lines.append(line)
        direction = {True: " (more is better)", False: " (less is better)", None: ""}
        yield metric + direction[BETTER.get(metric)], lines


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Methods that differ in how much they move alone, by their family."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(method(name).family, []).append(name)
    return found


def summary(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Means and differences with their intervals, and families at the same change, for JSON."""
    of = by_method(rows, names)
    names = [name for name in names if name in of.get("motion", {})]
    base, *_ = names
    keys = sorted(set.intersection(*({*of["motion"][name]} for name in names)))
    means: dict[str, Any] = {name: {} for name in names}
    apart: dict[str, Any] = {name: {} for name in names if name != base}
    at: dict[str, Any] = {}
    groups = {family: group for family, group in families(names).items() if len(group) > 1}
    for metric, values in of.items():
        if metric == "seconds":
            continue
        for name in names:
            means[name][metric] = rounded(estimate([*values[name].values()]))
            if name != base:
                apart[name][metric] = rounded(difference(values[name], values[base]))
        for goal in CHANGES:
            first: Tensor | None = None
            for family, group in groups.items():
                change = {name: of["net_change"][name] for name in group}
                found = at_change(change, {name: values[name] for name in group}, keys, goal)
                if found is None or metric == "net_change":
                    continue
                row = at.setdefault(str(goal), {}).setdefault(family, {})
                row[metric] = rounded(interval(found))
                if first is None:
                    first = found
                else:
                    row[metric] += rounded(interval(found - first))
    counts = {"clips": len(keys), "prompts": len({prompt for prompt, _ in keys})}
    return {**counts, "means": means, "differences": apart, "at change": at}


def rounded(found: Estimate | None) -> list[float]:
    return [] if found is None else [float(f"{value:.4g}") for value in found]


def curves(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Figures over the change from first to last frame, a line for each family of methods."""
    of = by_method(rows, names)
    for metric in CURVES:
        if metric not in of or "net_change" not in of:
            continue
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, values in of[metric].items():
            change = of["net_change"][name]
            point = (estimate([*change.values()]).mean, estimate([*values.values()]).mean)
            lines.setdefault(method(name).family, []).append(point)
        ordered = {family: sorted(points) for family, points in lines.items()}
        yield svg(("net change, 0..255", metric, ordered))


def markdown(rows: Sequence[Row], names: Sequence[str], settings: Mapping[str, object]) -> str:
    parts = [", ".join(f"{key} {value}" for key, value in settings.items())]
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
    prompts: int,
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
        "<h2>Figures</h2>",
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
    rows: Sequence[Row], names: Sequence[str], folders: Sequence[Folder], prompts: int
) -> Iterator[str]:
    """The clips of the first prompts, those of a prompt side by side."""
    files: dict[tuple[str, int], dict[str, Path]] = {}
    for row in rows:
        for folder in folders:
            path = folder.path / "clips" / f"{row.clip}.webp"
            if row.method in names and path.exists():
                files.setdefault((row.prompt, row.seed), {})[row.method] = path
    for (prompt, seed), clips in sorted(files.items())[:prompts]:
        yield f"<h3>{escape.escape(prompt)} <small>(seed {seed})</small></h3>"
        for name in names:
            if name in clips:
                data = base64.b64encode(clips[name].read_bytes()).decode()
                said = escape.escape(name)
                yield (
                    f'<figure><img alt="{said}" src="data:image/webp;base64,{data}">'
                    f"<figcaption>{said}</figcaption></figure>"
                )
