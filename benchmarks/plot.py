"""Line plots as SVG, readable on light and dark pages."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 360, 240  # of a panel, without the names of its lines
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 28, 40
ROW = 14  # of a name
APART = 32  # pixels between two ticks, so that their figures do not touch
COLOURS = ("#d1495b", "#3d7ea6", "#66a182", "#edae49", "#8d6a9f", "#7d8491", "#b5651d", "#2a9d8f")
DASHES = ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"')  # when all colours were used

Line = Sequence[tuple[float, float]]


def short(value: float) -> str:
    """A figure in three digits, or whole where it has more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def panel(title: str, unit: str, lines: Mapping[str, Line], left: int = 0) -> str:
    """Lines over one axis, from zero on, or from the lowest value below it.

    Args:
        title: what the horizontal axis counts. unit: what the vertical one does.
        lines: points by name, ascending.
    """
    points = [p for line in lines.values() for p in line]
    right, top = (max(p[axis] for p in points) or 1 for axis in (0, 1))
    low = min(0, *(p[1] for p in points))

    def x(value: float) -> str:
        return f"{LEFT + value / right * (WIDTH - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - BOTTOM - (value - low) / (top - low) * (HEIGHT - TOP - BOTTOM):.1f}"

    marks = [f'<g transform="translate({left})">', f'<text x="4" y="16">{unit}</text>']
    for value in sorted({low, 0, top / 2, top}):
        marks.append(f'<path class="grid" d="M{x(0)} {y(value)}H{x(right)}"/>')
        marks.append(
            f'<text x="{LEFT - 6}" y="{y(value)}" dy="4" class="end">{short(value)}</text>'
        )
    ticks = sorted({p[0] for p in points}, reverse=True)
    if any(value % 1 for value in ticks):  # no settings, but something measured
        ticks = [right, right / 2, 0]
    shown: list[float] = []
    for value in ticks:
        if not shown or float(x(shown[-1])) - float(x(value)) >= APART:
            shown.append(value)
    for value in shown:
        marks.append(f'<text x="{x(value)}" y="{HEIGHT - 22}" class="mid">{short(value)}</text>')
    marks.append(f'<text x="{x(right / 2)}" y="{HEIGHT - 5}" class="mid">{title}</text>')
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        dash = DASHES[i // len(COLOURS) % len(DASHES)]
        path = "L".join(f"{x(a)} {y(b)}" for a, b in line)
        marks.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"{dash}/>')
        marks += [f'<circle cx="{x(a)}" cy="{y(b)}" r="3" fill="{colour}"/>' for a, b in line]
        below = HEIGHT + ROW * (i + 1)
        marks.append(f'<text x="{LEFT}" y="{below}" style="fill:{colour}">{name}</text>')
    return "\n".join([*marks, "</g>"])


def svg(*panels: tuple[str, str, Mapping[str, Line]]) -> str:
    """Panels side by side, each as `panel` takes it."""
    drawn = [panel(*p, left=WIDTH * i) for i, p in enumerate(panels)]
    height = HEIGHT + ROW * (max(len(lines) for *_, lines in panels) + 1)
    style = (
        "text{font:12px sans-serif;fill:#888}.end{text-anchor:end}.mid{text-anchor:middle}"
        ".grid{stroke:#888;stroke-opacity:.3}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(panels)}" '
            f'height="{height}">',
            f"<style>{style}</style>",
            *drawn,
            "</svg>\n",
        ]
    )
