"""What lies beside the small model does what it is for; `benchmarks.family` says how well."""

from pathlib import Path

import pytest

import zs2
from benchmarks.family import SEED, edges_of, f1, panned
from weights.recipe import scenes
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.shots.control import Control

WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="module")
def pipe():
    return zs2.load(device="cpu", dtype="fp32")


def test_things_follow_edges(pipe):
    net = load_control(WEIGHTS / "edges", pipe.weights)
    found = {"with": [], "without": []}
    for seed, scene in enumerate(scenes.sample(4, seed=31)):
        maps = canny(panned(scene, SEED + seed, frames=2), 100, 200)
        for name, features in {"with": [Control(net, maps)], "without": []}.items():
            clip = pipe(scene.caption, frames=2, steps=10, seed=seed, features=features)
            found[name].append(f1(edges_of(clip.frames), maps[..., 0].float() / 255))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    # Measured: see benchmarks/results, of 30 clips.
    assert means["with"] > 0.6, found
    assert means["with"] > 1.5 * means["without"], found
