"""What lies beside the small model does what it is for; `benchmarks.family` says how well."""

from pathlib import Path

import pytest

import zs2
from benchmarks import family
from benchmarks.family import IMAGE_CFG, SEED, edges_of, f1, panned
from weights.recipe import scenes
from weights.recipe.judge import Judge, as_pixels, truths
from weights.recipe.scenes import Scene
from zs2.canny import canny
from zs2.checkpoint.control import load_control
from zs2.checkpoint.lora import LoRA
from zs2.shots.control import Control
from zs2.shots.edit import Edit

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
    # The goal; benchmarks/results has what was measured over 30 clips.
    assert means["with"] > 0.7, found
    assert means["with"] > 2 * means["without"], found


def test_an_edit_is_seen_and_the_rest_is_kept():
    """One of each kind. How often, and on zs2's own clips: benchmarks/results."""
    editor = zs2.load(WEIGHTS / "editor", device="cpu", dtype="fp32")
    before = Scene("a", "", "red", "ball", "on green grass")
    given, judge = panned(before, SEED, frames=2), Judge.load()
    for said, after in {
        "make it a star": Scene("a", "", "red", "star", "on green grass"),
        "make it night": Scene("a", "", "red", "ball", "at night"),
        "make it blue": Scene("a", "", "blue", "ball", "on green grass"),
        "make it two": Scene("two", "", "red", "ball", "on green grass"),
    }.items():
        clip = editor(said, frames=2, steps=10, seed=1, features=[Edit(given, IMAGE_CFG)])
        seen, asked = judge.seen(as_pixels(clip.frames)), truths([after])
        assert {n: bool((found == asked[n]).all()) for n, found in seen.items()} == dict.fromkeys(
            seen, True
        ), said


def test_a_lora_teaches_its_colour_and_no_other(pipe):
    taught = zs2.load(
        device="cpu", dtype="fp32", adapters=[LoRA(WEIGHTS / "lora/teal.safetensors")]
    )

    def shown(one, prompt):
        clips = one([prompt] * 2, frames=1, steps=10, seed=[1, 2])
        return [bool(family.shows_teal(as_pixels(clip.frames))) for clip in clips]

    assert shown(taught, "a big teal star at night") == [True, True]
    assert shown(taught, "a big red star at night") == [False, False]
    assert shown(pipe, "a big teal star at night") == [False, False]


def test_the_upscaler_beats_a_filter(pipe):
    rows = family.upscaler(pipe, WEIGHTS, 2)
    # The goal; 3.6 dB were measured over 30 scenes.
    assert rows["the upscaler"]["drawn, dB"] > rows["Lanczos"]["drawn, dB"] + 2
