"""What memory clips take: over their length, and against what zs2 estimates before it makes them.

    python -m benchmarks.memory --json benchmarks/results

Each clip is made by a process of its own, whose peak is counted. Lengths are of the small model,
written as mp4; the estimates are of SD 1.5's shapes with random weights, on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import save
from benchmarks.models import load, random_network
from zs2 import media
from zs2.checkpoint.tiles import Tiles
from zs2.denoise import WHOLE, Whole
from zs2.device import DTYPES, peak_memory
from zs2.estimate import clip_memory
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.pipeline import Feature, Pipeline
from zs2.shots.control import Control
from zs2.stream import Stream
from zs2.weights import SMALL

PROMPT = "a small red ball on green grass"
LENGTHS = {
    "all frames at once": (100, 250),
    "chunks of 8": (100, 500),
    "a stream of chunks of 8": (100, 500, 2000),
}
ORDERS: dict[str, Whole | Stream] = {
    "all frames at once": Whole(),
    "chunks of 8": Whole(8),
    "a stream of chunks of 8": Stream(8),
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """A clip of SD 1.5's shapes, in two steps."""

    dtype: str
    size: int
    frames: int
    order: Whole | Stream = WHOLE
    control: bool = False
    tile: int | None = None
    cfg: float = 7.5
    steps: int = 2

    @property
    def words(self) -> str:
        order = self.order
        said = [f"--frames {self.frames} --size {self.size} --dtype {self.dtype}"]
        said += ["--stream"] if isinstance(order, Stream) else []
        said += [f"--chunk {order.chunk}"] if order.chunk else []
        said += [] if order.together else ["--split-guidance"]
        said += ["--control"] if self.control else []
        said += [f"--tile {self.tile}"] if self.tile else []
        said += ["--cfg 1"] if self.cfg == 1 else []
        return " ".join([*said, f"--steps {self.steps}"])


SETTINGS = (
    Setting("fp32", 256, 8),
    Setting("fp32", 256, 8, Whole(2)),
    Setting("fp32", 256, 8, Whole(2, together=False)),
    Setting("fp32", 256, 8, cfg=1),
    Setting("fp32", 256, 8, Stream(2), steps=4),
    Setting("fp32", 512, 1),
    Setting("bf16", 256, 8),
    Setting("bf16", 256, 16),
    Setting("bf16", 256, 8, control=True),
    Setting("bf16", 512, 4),
    Setting("bf16", 512, 2, Whole(1, together=False)),
    Setting("bf16", 512, 2, Whole(1, together=False), tile=256),
)


def length(order: Whole | Stream, frames: int) -> int:
    """Bytes at the peak of a clip of the small model, written as it is made."""
    pipe = load(SMALL, CPU, torch.float32)
    shot = pipe.shot(PROMPT, frames=frames, seed=1, steps=1)
    parts = (pipe.decode(latents[0]) for latents in pipe.run(shot, order))
    with tempfile.TemporaryDirectory() as folder:
        media.record(Path(folder) / "clip.mp4", parts, frames, 8, {})
    return peak_memory(CPU) or 0


def compared(setting: Setting) -> tuple[int, int]:
    """Bytes beside the model of a clip, as estimated before and at the peak."""
    dtype = DTYPES[setting.dtype]
    pipe = load(None, CPU, dtype)
    if setting.tile:
        pipe = Pipeline(Tiles(setting.tile)(pipe.weights), CPU, dtype)
    features: list[Feature] = []
    if setting.control:
        net = random_network(ControlNet, ControlNetConfig(), CPU, dtype)
        side = setting.size
        features = [Control(net, torch.zeros(1, side, side, 3, dtype=torch.uint8))]
    before = peak_memory(CPU) or 0
    estimate = clip_memory(
        pipe.weights,
        dtype,
        CPU,
        setting.frames,
        pipe.latent_shape(setting.size),
        setting.order,
        1 if setting.cfg == 1 else 2,
        int(setting.control),
        setting.steps,
    )
    pipe(
        PROMPT,
        frames=setting.frames,
        size=setting.size,
        steps=setting.steps,
        cfg=setting.cfg,
        seed=1,
        features=features,
        order=setting.order,
    )
    return estimate, (peak_memory(CPU) or 0) - before


def alone(*words: str) -> Any:
    """What this program prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", *words]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--length", nargs=2, metavar=("ORDER", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["lengths", "estimates"])
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    if args.length:
        print(length(ORDERS[args.length[0]], int(args.length[1])))
        return
    if args.setting is not None:
        print(json.dumps(compared(SETTINGS[args.setting])))
        return

    if args.only != "estimates":
        lengths: dict[str, list[list[int]]] = {}
        for name, counts in LENGTHS.items():
            lengths[name] = [[n, alone("--length", name, str(n))] for n in counts]
            print(name, *(f"{size / 1e6:.0f} MB" for _, size in lengths[name]), flush=True)
        if args.json:
            save(args.json, "memory", "fp32", {"lengths": lengths})
    if args.only != "lengths":
        rows = []
        for i, setting in enumerate(SETTINGS):
            estimate, peak = alone("--setting", str(i))
            rows.append({"setting": setting.words, "estimate": estimate, "peak": peak})
            found = f"{estimate / 1e6:.0f} MB estimated, {peak / 1e6:.0f} MB taken"
            print(f"{setting.words}: {found}", flush=True)
        if args.json:
            save(args.json, "estimates", "fp32, bf16", {"rows": rows})


if __name__ == "__main__":
    main()
