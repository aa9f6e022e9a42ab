"""Writes the tables of README and docs/results.md from benchmarks/results.

So neither can drift: what stands between their marks is written anew. The README has the figures
that matter most, docs/results.md all of them.

    python -m benchmarks.report            # rewrite it
    python -m benchmarks.report --check    # say whether it is up to date
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.report import costs, evaluation, method
from benchmarks.report.tables import plot_path, source

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- begin: python -m benchmarks.report -->", "<!-- end -->"


BRIEF = {
    "pictures": method.pictures,
    "evaluate coherence": evaluation.coherence_in_brief,
    "sample": costs.sample_in_brief,
}
SECTIONS = {
    "pictures": method.pictures,
    "defaults": method.defaults,
    "family": method.family,
    "drift": method.drift,
    "momentum": costs.momentum,
    "layers": costs.layers,
    "noise": costs.noise,
    "sample": costs.sample,
    "command": costs.command,
    "deepcache": costs.deepcache,
    "int8": costs.int8,
    "growth": costs.growth,
    "memory": costs.memory_taken,
    "estimates": costs.estimates,
    "search": method.search,
    "steps": method.steps,
    "evaluate": evaluation.evaluate,
    "between": method.between,
    "camera": method.camera,
    "devices": costs.devices,
}
PLOTS = {
    "drift": method.decay_plot,
    "growth": costs.growth_plot,
    "memory": costs.memory_plot,
    "evaluate long": evaluation.drift_plot,
}


def files() -> dict[Path, str]:
    """What the README, docs/results.md and the plots should hold."""
    brief, full, made = [], [], {}
    machines = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    for section, write in SECTIONS.items():
        for results in machines:
            for name in sorted(results):
                if name.split()[0] == section:  # "evaluate", and "evaluate study"
                    full.append(f"{write(results[name])}\n\n{source(results[name])}")
                    if name in BRIEF:
                        brief.append(f"{BRIEF[name](results[name])}\n\n{source(results[name])}")
    for results in machines:
        for name, result in results.items():
            kind = name.partition(" of ")[0]  # "evaluate long", of whichever model
            if kind in PLOTS:
                made[ROOT / plot_path(name, result)] = PLOTS[kind](result)
    for path, parts in ((ROOT / "README.md", brief), (ROOT / "docs/results.md", full)):
        before, rest = path.read_text("utf-8").split(BEGIN)
        made[path] = "\n\n".join([before + BEGIN, *parts, END + rest.split(END)[1]])
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
