"""The command as a user waits for it: its start, a clip, and a clip on a busy machine.

    python -m benchmarks.command --json benchmarks/results

The first clip of the README, of the small model; each figure is the median of runs in processes of
their own. The busy processes multiply matrices with as many threads as torch takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import zs2
from benchmarks.environment import save

PROMPT = "a small red ball on green grass"
BUSY = "import torch\na = torch.randn(1024, 1024)\nwhile True: a @ a"


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def clip(runs: int, beside: int) -> float:
    """Seconds of the command, with some busy processes on the same cores."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(beside)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "zs2.sample", PROMPT, "--seed", "1", "--overwrite"]
            command += ["-o", str(Path(folder) / "clip.gif")]
            return median(seconds(command) for _ in range(runs))
    finally:
        for process in busy:
            process.kill()
            process.wait()


def steps() -> float:
    """Seconds that all steps of the same clip take."""
    pipe, ends = zs2.load(device="cpu"), []
    pipe(PROMPT, seed=1, progress=lambda *_: ends.append(time.perf_counter()))
    return (ends[-1] - ends[0]) * len(ends) / (len(ends) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    if args.steps:
        print(steps())
        return
    print(f"{os.cpu_count()} cores")
    shown = [sys.executable, "-m", "zs2.sample", "--help"]
    alone = [sys.executable, "-m", "benchmarks.command", "--steps"]
    passive = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # as the commands do
    found = {
        "help": median(seconds(shown) for _ in range(args.runs)),
        "steps": median(
            float(subprocess.run(alone, check=True, capture_output=True, env=passive).stdout)
            for _ in range(args.runs)
        ),
        **{f"clip, {n} beside": clip(args.runs, n) for n in (0, 1, 2)},
    }
    print(found)
    if args.json:
        save(args.json, "command", "auto", {"s": found})


if __name__ == "__main__":
    main()
