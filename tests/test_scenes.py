"""The scenes of 128 pixels: a picture depends on its seed alone, and shows what it should."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from weights.recipe import scenes

SAID = scenes.sample(8, seed=3)


def test_a_picture_depends_on_its_seed_alone():
    together = scenes.draw(SAID, range(8))
    alone = torch.cat([scenes.draw([s], [i]) for i, s in enumerate(SAID)])
    # Rows of another number, so sums in another order.
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    assert not scenes.draw(SAID, range(1, 9)).equal(together)
    assert together.shape == (8, 3, 128, 128)
    assert -1 <= together.min() < -0.5
    assert 0.5 < together.max() <= 1


@pytest.mark.parametrize("thing", scenes.THINGS)
def test_copies_are_apart(thing):
    """What differs from the empty scene, as islands: one for each copy."""
    for number, count in enumerate(scenes.COUNTS, start=1):
        said = scenes.Scene(count, "", "red", thing, "over the sea")  # where none casts a shadow
        for seed in range(3):
            x = scenes.draw([said], [seed])[0]
            nothing = scenes._background([said], scenes.Chance([seed]), *axes())[0][0] * 2 - 1
            where = ((x - nothing.clamp(-1, 1)).abs().amax(0) > 0.1).float()
            columns = where.amax(0)  # copies stand side by side
            islands = int((columns.diff(prepend=torch.zeros(1)) > 0).sum())
            assert islands == number, (count, seed)


def axes(size=128):
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def test_captions():
    every = scenes.every()
    assert len(every) == 3 * 3 * 9 * 10 * 6
    assert len({s.caption for s in every}) == len(every)
    fish = scenes.Scene("two", "big", "orange", "fish", "over the sea")
    assert fish.caption == "two big orange fish over the sea"
    assert replace(fish, count="a", size="").caption == "an orange fish over the sea"
    held = Counter(s.held_out for s in every)
    assert held[True] / len(every) == pytest.approx(0.1, abs=0.01)
    assert not any(s.held_out for s in scenes.sample(200, 1))
    assert all(s.held_out for s in scenes.sample(20, 1, held_out=True))
