"""What lies beside the small model does what it is for; `benchmarks.family` says how well."""

from pathlib import Path

import pytest

import zs2
from benchmarks.family import SEED, edges_of, f1, panned
from weights.recipe.scenes import Scene
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.shots.control import Control

WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="module")
def pipe():
    return zs2.load(device="cpu", dtype="fp32")


def test_things_follow_edges(pipe):
    net = load_control(WEIGHTS / "edges", pipe.weights)
    drawn = panned(Scene("two", "big", "yellow", "star", "at night"), SEED, frames=4)
    maps = canny(drawn, 100, 200)
    found = {}
    for name, features in {"with": [Control(net, maps)], "without": []}.items():
        said = "two big red stars on green grass"
        clip = pipe(said, frames=4, steps=10, seed=1, features=features)
        found[name] = f1(edges_of(clip.frames), maps[..., 0].float() / 255)
    assert found["with"] > 0.6
    assert found["with"] > 1.5 * found["without"]
