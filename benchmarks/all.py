"""Every benchmark of speed, one after the other, in ten minutes; resumable.

    python -m benchmarks.all --json benchmarks/results

What the folder already holds of this device and commit is not measured again. When the time is up,
what is under way is stopped; what was left out is named, and comes next time.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import device_name, environment, slug
from zs2.device import pick_device

SPEED = ("momentum", "layers", "noise", "growth", "sample")  # the longest last


def is_there(folder: Path, name: str) -> bool:
    """Whether a result of this device and commit, with nothing changed since, is in the folder."""
    path = folder / f"{slug(device_name())}.json"
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    commit = str(environment("")["commit"])
    known = commit != "unknown" and not commit.endswith("-dirty")
    found = results.get(name, {})
    return known and found.get("commit") == commit and not found.get("left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="folder of results")
    parser.add_argument("--minutes", type=float, default=10, help="in all")
    args = parser.parse_args()
    end, failed, left_out = time.monotonic() + 60 * args.minutes, [], []
    for name in SPEED:
        if is_there(args.json, name):
            print(f"== {name}: measured already", flush=True)
            continue
        left = end - time.monotonic()
        if left <= 0:
            left_out.append(name)
            continue
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(args.json)]
        if name == "sample" and pick_device().type == "cuda":
            command.append("--compile")
        process = subprocess.Popen(command, start_new_session=True)
        try:
            if process.wait(left):
                failed.append(name)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as ended:
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
            process.wait()
            if isinstance(ended, KeyboardInterrupt):
                raise
            left_out.append(name)
    if left_out:
        print(f"left out, for time: {', '.join(left_out)}; the same command goes on with them")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
