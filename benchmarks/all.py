"""Every benchmark of speed, one after the other: under ten minutes on a GPU.

python -m benchmarks.all --json benchmarks/results
"""

import argparse
import subprocess
import sys

from zs2.device import pick_device

SPEED = ("sample", "momentum", "noise", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", required=True, help="folder of results")
    args = parser.parse_args()
    failed = []
    for name in SPEED:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", args.json]
        if name == "sample" and pick_device().type == "cuda":
            command.append("--compile")
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
