"""The paper's Figure 17: does its search converge, and what are its candidates for?

    python -m benchmarks.search --json benchmarks/results

Convergence is how far the KL of frame 2 is from lambda after each step, the median of 64 clips:
Algorithm 1 as printed, with the guard that zs2 adds, and in closed form. Then K = 1 and 10
candidates by both rules: how normal each frame's noise is, and how much clips of different seeds
differ; and how far section 3.1's eps = p - lambda / exp(p) comes, which needs no search.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zs2
from benchmarks.environment import save
from benchmarks.evaluate.statistics import Of, estimate
from weights.recipe.scenes import sample
from zs2.device import name_of
from zs2.draws import Draws, NoiseModel
from zs2.metrics.differences import apart, motion
from zs2.metrics.normal import moments
from zs2.noise import (
    DependencyNoise,
    exact_search,
    iterative_search,
    kl_of_mix,
    random_search,
    sample_noise,
)
from zs2.pipeline import Pipeline

LAM = 0.01
SHAPE = (4, 16, 16)
CLIPS, FRAMES = 64, 16
ROUNDS = 15  # of the search
STEPS = 8  # of sampling
SHOWN = (2, 4, 8, 16)  # frames


MODELS: dict[str, NoiseModel] = {
    "K 1": DependencyNoise(LAM, candidates=1, inertia=0),
    "K 10, smallest |b|": DependencyNoise(LAM, candidates=10, inertia=0),
    "K 10, the paper's rule": DependencyNoise(LAM, candidates=10, select="paper", inertia=0),
    "K 10, the paper's rule and search": DependencyNoise(
        LAM, candidates=10, select="paper", search="iterative", inertia=0
    ),
}


def literal_search(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Algorithm 1, lines 10-17, as printed: alpha after each step, [ROUNDS, B]."""
    alpha, delta = torch.zeros_like(a), torch.full_like(a, 0.1)
    path = []
    for _ in range(ROUNDS):
        trial = (alpha + delta).clamp(max=1)
        improves = (kl_of_mix(a, b, trial) - lam).abs() < (kl_of_mix(a, b, alpha) - lam).abs()
        alpha, delta = torch.where(improves, trial, alpha), torch.where(improves, delta, delta / 2)
        path.append(alpha)
    return torch.stack(path)


def convergence() -> dict[str, object]:
    draws = Draws(torch.arange(CLIPS), 4 * 16 * 16)
    _, a, b = random_search(draws(0)[:, 0], draws(1, 10), LAM, "paper")
    paths = {
        "as printed": literal_search(a, b, LAM),
        "guarded": iterative_search(a, b, LAM, ROUNDS),
        "closed form": exact_search(a, b, LAM).expand(ROUNDS, -1),
    }
    found: dict[str, object] = {}
    for name, alpha in paths.items():
        error = (kl_of_mix(a, b, alpha) - LAM).abs().median(dim=1).values
        found[name] = {
            "error": [float(f"{e:.3g}") for e in error.tolist()],
            "still": float((alpha[-1] == 1).double().mean()),
        }
    return found


def analytic() -> dict[str, float]:
    """Section 3.1's pointwise solution of KL = lam: what its frames become."""
    noise = Draws(torch.arange(CLIPS), 4 * 16 * 16)(0)[:, 0].double()
    largest = []
    while noise.isfinite().all():
        noise = noise - LAM / noise.exp()
        largest.append(float(noise.abs().max()))
    found = {f"largest value of frame {i}": largest[i - 2] for i in (2, 3)}
    return {**found, "first infinite frame": len(largest) + 1}


def normality(model: NoiseModel) -> dict[str, dict[int, float]]:
    """Moments of some frames' noise, of all clips together."""
    noise = sample_noise(model, list(range(CLIPS)), FRAMES, SHAPE)
    found = {frame: moments(noise[:, frame - 1]) for frame in SHOWN}
    return {
        name: {frame: round(of[name], 3) for frame, of in found.items()}
        for name in ("mean", "variance", "kurtosis")
    }


def diversity(pipe: Pipeline, model: NoiseModel, prompts: list[str], seeds: int) -> dict[str, Of]:
    """Of each prompt, how far the last frames of its seeds lie apart, and how clips move."""
    found: dict[str, dict[tuple[str, int], float]] = {"seeds differ by": {}, "motion": {}}
    for prompt in prompts:
        each: dict[str, Any] = {
            "frames": FRAMES,
            "seed": list(range(seeds)),
            "steps": STEPS,
            "noise": model,
        }
        clips = pipe.film(pipe.shot([prompt] * seeds, **each))
        last = combinations([clip.frames[-1] for clip in clips], 2)
        found["seeds differ by"] |= {(prompt, i): apart(*two) for i, two in enumerate(last)}
        found["motion"] |= {(prompt, i): motion(clip.frames) for i, clip in enumerate(clips)}
    return {**found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    pipe = zs2.load()
    prompts = [scene.caption for scene in sample(args.prompts, seed=17)]
    told = {"steps": STEPS, "lam": LAM, "clips": CLIPS, "frames": FRAMES, "seeds": args.seeds}
    result: dict[str, object] = {**told, "prompts": prompts}
    result |= {"convergence": convergence(), "analytic": analytic()}
    print(result["convergence"], result["analytic"])
    rows: dict[str, dict[str, object]] = {}
    for name, model in MODELS.items():
        found = diversity(pipe, model, prompts, args.seeds)
        means = {f: [round(v, 2) for v in estimate(of)[:3]] for f, of in found.items()}
        rows[name] = {**normality(model), **means}
        print(name, rows[name], flush=True)
    if args.json:
        save(args.json, "search", name_of(pipe.dtype), {**result, "rows": rows})


if __name__ == "__main__":
    main()
