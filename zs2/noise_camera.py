"""Noise for a camera that moves: what is kept from the frame before moves with the picture.

    eps^i = sqrt(alpha) W(eps^{i-1}) + sqrt(1 - alpha) m,   KL(eps^i, W(eps^{i-1})) = lam (Eq. 1).

W moves whole values, so that noise stays noise: to interpolate would smooth it. Each cell remembers
by how much less or more than a cell its value should have moved, and a value steps when a whole one
is due: a pan of 2 pixels a frame moves latents of 8 pixels a side at every fourth frame. A cell
takes the value whose place is nearest to it; where none is near, it gets a fresh one. n cells that
take the same value v get v / sqrt(n) + (z_j - mean(z)), z fresh: they are independent, and together
still hold v (Chang et al., How I Warped Your Noise, 2024; Burgert et al., Go-with-the-Flow, 2025).
So every frame is N(0, I), and the chain's direction m, which moves alike, stays independent of it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zs2.draws import Draws
from zs2.noise import DependencyNoise

FRESH = 2**30
"""Added to the step in the address of what fills uncovered cells: no sampler has so many."""

HALF = 1e-6
"""A value half-way between two cells is still in its own."""


@dataclass(frozen=True)
class Move:
    """How the picture moves from one frame to the next, about its middle.

    Attributes:
        x, y: to the right and down, in cells.
        zoom: by this factor; above 1 things come nearer.
        roll: clockwise, in degrees.
    """

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    roll: float = 0.0

    def __call__(self, places: Tensor, height: int, width: int) -> Tensor:
        """Where places (.., 2), row and column, of a picture of h x w cells are moved to."""
        turn, middle, by = self.parts(height, width)
        return (places - middle) @ turn.T + middle + by

    def back(self, places: Tensor, height: int, width: int) -> Tensor:
        """Which places are moved to these."""
        turn, middle, by = self.parts(height, width)
        return (places - middle - by) @ turn / self.zoom**2 + middle

    def parts(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """What turns and zooms, about where, and the pan."""
        cos = self.zoom * math.cos(math.radians(self.roll))
        sin = self.zoom * math.sin(math.radians(self.roll))
        turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)  # rows go down
        middle = torch.tensor([(height - 1) / 2, (width - 1) / 2], dtype=torch.float64)
        return turn, middle, torch.tensor([self.y, self.x], dtype=torch.float64)


class Cells:
    """Where the values of a picture of h x w cells are, as they are moved again and again."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        axes = [torch.arange(n, dtype=torch.float64) for n in (height, width)]
        self.grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (h, w, 2)
        self.off = torch.zeros_like(self.grid)  # how far from its cell each value should be

    def moved(self, move: Move) -> Tensor:
        """Which cell each cell takes its value from, (h, w), counted row by row; -1 for none."""
        h, w = self.height, self.width
        # What comes to a cell was where the move back leads, but for how far values are off there.
        guess = (move.back(self.grid, h, w) + HALF).round()
        near = guess.clamp(min=0).minimum(torch.tensor([h - 1, w - 1])).long().unbind(-1)
        guess = (move.back(self.grid, h, w) - self.off[near] + HALF).round()
        # A zoom or a roll leaves gaps between values, where the ones beside them are taken twice.
        reach = 0.5 + HALF if move.zoom == 1 and move.roll % 360 == 0 else 0.6
        best = torch.full((h, w), math.inf, dtype=torch.float64)
        source, off = torch.full((h, w), -1), torch.zeros_like(self.off)
        for step in range(25):
            found = guess + torch.tensor([step // 5 - 2, step % 5 - 2])
            inside = ((found >= 0) & (found < torch.tensor([h, w]))).all(-1)
            row, column = found.long().clamp(min=0).unbind(-1)
            row, column = row.clamp(max=h - 1), column.clamp(max=w - 1)
            # Values beyond the border, which are none, lie as those at the border do.
            away = move(found + self.off[row, column], h, w) - self.grid
            # Of two that are as near, the one that goes the common way.
            astray = (step // 5 - 2) ** 2 + (step % 5 - 2) ** 2
            distance = (away - HALF).square().sum(-1) + 0.01 * astray
            nearer = (distance < best) & (away.abs().amax(-1) <= reach)
            best = torch.where(nearer, distance, best)
            source = torch.where(nearer, (row * w + column).where(inside, -1), source)
            off = torch.where(nearer[..., None], away, off)
        self.off = off
        return source


@dataclass(frozen=True)
class CameraNoise:
    """The chain of `DependencyNoise`, in a picture that moves.

    Attributes:
        chain: lam, inertia and the rest; a lam of 0 only moves.
        moves: how each frame moves from the one before, F of them; the first is unused.
        shape: (C, h, w) of a frame.
    """

    chain: DependencyNoise
    moves: tuple[Move, ...]
    shape: tuple[int, int, int]

    def generate(self, draws: Draws, frames: int) -> Iterator[Tensor]:
        cells = Cells(*self.shape[1:])
        fresh = replace(draws, step=draws.step + FRESH, rng="zs2")

        def moved(noise: Tensor, turned: Tensor | None, frame: int) -> tuple[Tensor, Tensor | None]:
            source = cells.moved(self.moves[frame]).to(noise.device)
            drawn = fresh(frame, candidates=2)  # (B, 2, V)
            noise = self.warped(noise, drawn[:, 0], source)
            return noise, None if turned is None else self.warped(turned, drawn[:, 1], source)

        return self.chain.frames(draws, frames, moved)

    def warped(self, values: Tensor, fresh: Tensor, source: Tensor) -> Tensor:
        """Values (B, V) as they are moved: see above."""
        flat = source.flatten()
        v, z = (x.unflatten(1, self.shape).flatten(2) for x in (values, fresh))  # (B, C, h*w)
        taken = flat.clamp(min=0)
        covered = flat >= 0
        n = torch.zeros(len(flat), dtype=v.dtype, device=v.device)
        n = n.index_add(0, taken, covered.to(v.dtype)).clamp(min=1)
        sums = torch.zeros_like(z).index_add(2, taken, z * covered)
        shared = v[..., taken] / n[taken].sqrt() + (z - sums[..., taken] / n[taken])
        once = n[taken] == 1  # a value that is taken once is copied to the bit
        made = torch.where(once, v[..., taken], shared)
        return torch.where(covered, made, z).flatten(1)
