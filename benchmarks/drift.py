"""Does the noise of a late frame still come from N(0, I)? Both selection rules, measured.

    python -m benchmarks.drift --json benchmarks/results

64 clips of 64 frames at lambda 0.01 without inertia, whose correlation has a formula, for a
128-pixel clip (1024 values a frame) and a 512-pixel one (16384). The paper's rule takes the
candidate whose KL is nearest to lambda; ours the one with the smallest |b| (see zs2/noise.py).
"""

import argparse
from pathlib import Path
from typing import Literal

from benchmarks.environment import save
from zs2.noise import DependencyNoise, correlation, expected_correlation, realised_kl, sample_noise

SHAPES = {1024: (4, 16, 16), 16384: (4, 64, 64)}
RULES: tuple[Literal["unbiased", "paper"], ...] = ("unbiased", "paper")
FRAMES = (8, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure whether the noise stays normal.")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    at = [f - 1 for f in FRAMES]
    formula = expected_correlation(0.01, 64)[at].tolist()
    print(f"correlation of frame 1 with {FRAMES}: {[round(c, 3) for c in formula]} by the formula")
    rows = []
    for values, shape in SHAPES.items():
        for rule in RULES:
            noise = sample_noise(
                DependencyNoise(select=rule, inertia=0.0), list(range(args.clips)), 64, shape
            )
            last = noise[:, -1].double()
            centred = last - last.mean()
            row = {
                "values a frame": values,
                "rule": rule,
                "mean": last.mean().item(),
                "variance": last.var(correction=0).item(),
                "kurtosis": (centred**4).mean().item() / last.var(correction=0).item() ** 2,
                "correlation": correlation(noise).mean(0)[at].tolist(),
                "largest error of the KL": (realised_kl(noise) - 0.01).abs().max().item(),
            }
            rows.append(row)
            shown = "  ".join(f"{c:.3f}" for c in correlation(noise).mean(0)[at])
            print(
                f"{values:6} {rule:8}  mean {row['mean']:.4f}  variance {row['variance']:.4f}  "
                f"kurtosis {row['kurtosis']:.3f}  correlation {shown}"
            )
    if args.json:
        save(args.json, "drift", "fp32", {"formula": formula, "frame 64": rows})


if __name__ == "__main__":
    main()
