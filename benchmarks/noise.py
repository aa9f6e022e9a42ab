"""The noise search against the paper's Listing 1, made to run.

python -m benchmarks.noise --json benchmarks/results
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.environment import save
from benchmarks.timing import alternate
from zs2.device import pick_device
from zs2.noise import DependencyNoise, realised_kl, sample_noise

SHAPE = (4, 64, 64)  # the latent of 512 pixels
LAM = 0.01


def listing_1(batch: int, frames: int, lam: float, candidates: int, device: torch.device) -> Tensor:
    """Listing 1 with the fixes without which it does not run, and none besides: [B, F, C, H, W].

    The two lambdas get names of their own, the KL is not averaged over clips, square roots are
    taken of tensors, and the kept candidate is a copy.
    """
    ones = [1] * len(SHAPE)

    def follow(previous: Tensor) -> Tensor:
        def error(noise: Tensor) -> Tensor:
            kl = torch.nn.functional.kl_div(noise, previous, log_target=True, reduction="none")
            return (kl.mean(dim=[1, 2, 3]) - lam).abs()

        def compose(noise: Tensor, alpha: Tensor) -> Tensor:
            alpha = alpha.view(-1, *ones)
            return alpha.sqrt() * previous + (1 - alpha).sqrt() * noise

        noise = torch.randn(batch, *SHAPE, device=device)
        chosen, bound = noise.clone(), torch.full((batch,), torch.inf, device=device)
        for _ in range(candidates):
            miss = error(noise)
            index = miss < bound
            chosen[index] = noise[index]
            bound[index] = miss[index]
            noise = torch.randn(batch, *SHAPE, device=device)
        alpha, step = (torch.full((batch,), 0.1, device=device) for _ in range(2))
        for _ in range(15):
            miss = error(compose(chosen, alpha))
            index = miss <= bound
            worse = ~index
            alpha[index] = alpha[index] + step[index]
            alpha[worse] = alpha[worse] - 0.8 * step[worse]
            step[worse] = step[worse] * 0.2
            bound[index] = miss[index]
        return compose(chosen, alpha)

    made = [torch.randn(batch, *SHAPE, device=device)]
    for _ in range(1, frames):
        made.append(follow(made[-1]))
    return torch.stack(made, dim=1)


def median_error(noise: Tensor) -> float | None:
    """Median distance of the realised KL from its target; None where most of it is NaN."""
    miss = (realised_kl(noise) - LAM).abs().flatten()
    return None if miss.isnan().float().mean() > 0.5 else float(miss.nanmedian())


def main() -> None:
    device = pick_device()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--json", type=Path, help="folder of results")
    args = parser.parse_args()
    rows = []
    for frames in args.frames:
        for k in args.candidates:
            calls = {
                "zs2": partial(sample_noise, DependencyNoise(LAM, k), [1], frames, SHAPE, device),
                "Listing 1": partial(listing_1, 1, frames, LAM, k, device),
            }
            times = alternate(calls, device, seconds=1.0)
            for name, seconds in times.items():
                miss = median_error(calls[name]())
                rows.append(
                    {
                        "frames": frames,
                        "candidates": k,
                        "contender": name,
                        "ms": round(1000 * seconds, 3),
                        "median error of the KL": miss,
                    }
                )
                print(
                    f"F {frames:3}  K {k:4}  {name:10} {1000 * seconds:9.2f} ms  KL off by {miss}"
                )
    if args.json:
        save(args.json, "noise", "fp32", {"values a frame": 16384, "rows": rows})


if __name__ == "__main__":
    main()
