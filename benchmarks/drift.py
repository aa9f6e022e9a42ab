"""Does a late frame's noise still come from N(0, I), and how fast does it forget frame 1?

    python -m benchmarks.drift --json benchmarks/results

64 clips of 64 frames at lambda 0.01 without inertia, whose correlation has a formula, for a
128-pixel clip (1024 values a frame) and a 512-pixel one (16384). The paper's rule takes the
candidate whose KL is nearest to lambda; ours the one with the smallest |b| (see zs2/noise.py).

The decay is the correlation of frame 1's noise with each frame's, for four models whose neighbours
are equally close: alphas are those that move as lambda 0.01 does (the paper's Figures 14 to 16).
"""

import argparse
from pathlib import Path
from typing import Literal

from benchmarks.environment import save
from zs2.draws import NoiseModel
from zs2.metrics.normal import moments
from zs2.noise import (
    DependencyNoise,
    MixedNoise,
    ProgressiveNoise,
    correlation,
    expected_correlation,
    realised_kl,
    sample_noise,
)

SHAPES = {1024: (4, 16, 16), 16384: (4, 64, 64)}
RULES: tuple[Literal["unbiased", "paper"], ...] = ("unbiased", "paper")
FRAMES = (8, 16, 64)
LAM = 0.01
MODELS: dict[str, NoiseModel] = {
    "zs2": DependencyNoise(LAM),
    "dependency, no inertia": DependencyNoise(LAM, inertia=0),
    "progressive": ProgressiveNoise(),
    "mixed": MixedNoise(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure whether the noise stays normal.")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    at = [f - 1 for f in FRAMES]
    formula = expected_correlation(LAM, 64)[at].tolist()
    print(f"correlation of frame 1 with {FRAMES}: {[round(c, 3) for c in formula]} by the formula")
    rows = []
    for values, shape in SHAPES.items():
        for rule in RULES:
            noise = sample_noise(
                DependencyNoise(LAM, select=rule, inertia=0.0), list(range(args.clips)), 64, shape
            )
            row = {
                "values a frame": values,
                "rule": rule,
                **moments(noise[:, -1]),
                "correlation": correlation(noise).mean(0)[at].tolist(),
                "largest error of the KL": (realised_kl(noise) - LAM).abs().max().item(),
            }
            rows.append(row)
            shown = "  ".join(f"{c:.3f}" for c in correlation(noise).mean(0)[at])
            print(
                f"{values:6} {rule:8}  mean {row['mean']:.4f}  variance {row['variance']:.4f}  "
                f"kurtosis {row['kurtosis']:.3f}  correlation {shown}"
            )
    decay: dict[str, list[float]] = {}
    for name, model in MODELS.items():
        noise = sample_noise(model, list(range(args.clips)), 64, SHAPES[16384])
        decay[name] = [round(c, 4) for c in correlation(noise).mean(0).tolist()]
        print(f"{name:24}", "  ".join(f"{decay[name][i]:.3f}" for i in at))
    if args.json:
        result: dict[str, object] = {"formula": formula, "frame 64": rows, "decay": decay}
        save(args.json, "drift", "fp32", result)


if __name__ == "__main__":
    main()
