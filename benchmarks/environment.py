"""What a result was measured on: stands at the head of every file in benchmarks/results."""

import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def environment(dtype: str) -> dict[str, object]:
    """Device, versions, dtype, commit and date."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("triton", "diffusers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "versions": versions,
        "commit": commit or "unknown",
        "date": date.today().isoformat(),
    }


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    ):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
