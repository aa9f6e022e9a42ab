"""One clip by one process and by several, on CPUs: how near the wavefront comes to its reckoning.

    python -m benchmarks.devices --json benchmarks/results

N processes, of one thread each, take K chunks through S steps in about ceil(K / N) S + N - 1 times
the time of a step, where one takes K S. Seconds are what the command itself reports, from the first
noise to the last frame.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.environment import save

PROMPT = "two big blue stars at night"


def seconds(processes: int, frames: int, chunk: int, steps: int) -> float:
    """Of a clip by so many processes."""
    words = [PROMPT, "--frames", frames, "--chunk", chunk, "--steps", steps, "--seed", 1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    begin = [sys.executable] if processes == 1 else torchrun
    with tempfile.TemporaryDirectory() as folder:
        command = [*begin, "-m", "zs2.sample", *map(str, words), "--stream", "-o", "x.mp4"]
        root = Path(__file__).parents[1]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        made = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=True
        )
    found = re.search(r"([0-9.]+) s,", made.stdout)
    assert found, made.stdout
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    chunks = math.ceil(args.frames / args.chunk)
    rows = []
    for n in args.processes:
        times = [seconds(n, args.frames, args.chunk, args.steps) for _ in range(2)]
        reckoned = chunks * args.steps / (math.ceil(chunks / n) * args.steps + n - 1)
        rows.append({"processes": n, "s": min(times), "reckoned": reckoned})
        print(rows[-1], f"{rows[0]['s'] / rows[-1]['s']:.2f} times as fast", flush=True)
    if args.json:
        words = {"frames": args.frames, "chunk": args.chunk, "steps": args.steps}
        save(args.json, "devices", "auto", {**words, "rows": rows})


if __name__ == "__main__":
    main()
