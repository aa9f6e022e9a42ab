"""The one training loop of the recipe: seeded by step, resumable, averaged, logged."""

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger("recipe")

Loss = Callable[[torch.Generator], Tensor]
M = TypeVar("M", bound=nn.Module)


def fit(
    name: str,
    model: M,
    loss: Loss,
    folder: Path,
    *,
    steps: int,
    lr: float,
    muon: float = 0,
    seed: int = 0,
    save_every: int = 100,
) -> M:
    """Train `model` for `steps` steps and return the running average of its weights.

    The average is of the last tenth of the steps, about, and of the last thousand at most.

    Step n draws all its randomness from a generator seeded by (seed, n), so a run that was
    interrupted goes on from `folder/name.pt` and ends as if it had not been.

    Args:
        loss: computes the loss of one batch, drawn with the generator it is given.
        lr: AdamW's highest learning rate: 2 % of the steps lead up to it, a cosine leads down to 0.
        muon: its highest rate, if the matrices inside `layers` are to be trained by Muon.
    """
    path = folder / f"{name}.pt"
    averaged = copy.deepcopy(model)
    learnt = {key: p for key, p in model.named_parameters() if p.requires_grad}
    hidden = [p for key, p in learnt.items() if muon and p.ndim == 2 and ".layers." in key]
    ids = {id(p) for p in hidden}
    rest = [p for p in learnt.values() if id(p) not in ids]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    ]
    if hidden:
        optimizers.append(torch.optim.Muon(hidden, lr=muon, weight_decay=0.01))
    highest = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    start = 0
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model"])
        averaged.load_state_dict(saved["averaged"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=False):
            optimizer.load_state_dict(state)
        start = saved["step"]
        log.info("%s: resumed at step %d of %d", name, start, steps)

    model.train()
    recent, began = [], time.monotonic()
    for step in range(start, steps):
        warmup = min(1.0, (step + 1) / (0.02 * steps))
        share = warmup * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, top in zip(groups, highest, strict=True):
            group["lr"] = top * share
        value = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        model.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        keep = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 1 - keep)

        recent.append(float(value.detach()))
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - began) / (step + 1 - start)
            log.info("%s %6d  loss %.4f  %.2f s a step", name, step + 1, sum(recent) / 50, pace)
            recent.clear()
        if (step + 1) % save_every == 0 or step + 1 == steps:
            done = step + 1 == steps
            state = {
                "model": model.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizers": [] if done else [o.state_dict() for o in optimizers],
                "step": step + 1,
            }
            torch.save(state, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
    return averaged.eval()
