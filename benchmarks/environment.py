"""Results: one file a device in benchmarks/results, each figure with what it was measured on."""

import json
import os
import platform
import re
import shutil
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def save(folder: Path, name: str, dtype: str, result: dict[str, object]) -> Path:
    """Put a benchmark's result into the device's file, in place of its last one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug(device_name())}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {**environment(dtype), **result}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    os.replace(part, path)
    return path


def slug(device: str) -> str:
    """A device's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def environment(dtype: str) -> dict[str, object]:
    """Device, versions, dtype, commit and date."""
    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", ":/", ":!/benchmarks/results")
    if commit and changed.returncode == 1:
        commit += "-dirty"
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
        "commit": commit or os.environ.get("COMMIT", "unknown"),  # a copy without its history
        "date": date.today().isoformat(),
    }


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """What git says; nothing where there is no git."""
    command = ["git", *words] if shutil.which("git") else ["false"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    ):
        if line.startswith("model name"):
            # Cloud machines name several generations alike.
            return f"{line.split(':')[1].strip()} ({torch.backends.cpu.get_cpu_capability()})"
    return platform.processor() or platform.machine()
