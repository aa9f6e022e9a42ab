"""Prompt travel: the embeddings are the texts' at key frames, and on straight lines between."""

import pytest
import torch
from parity import error

from zs2.denoise import Whole
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.travel import Travel


def prompts(pipe, feature, frames=7, text="one", **options):
    return pipe.shot(text, frames=frames, features=[feature], **options).branches


def test_key_frames_are_the_texts_and_between_are_lines(random_pipe):
    one, two, three = random_pipe.encode(["one", "two", "three"]).prompt
    negative, own = prompts(random_pipe, Travel({6: "three", 2: "two"}), negative="no")
    path = own.condition.prompt[0]
    for frame, text in {0: one, 2: two, 6: three}.items():
        assert torch.equal(path[frame], text)
    assert torch.allclose(path[1], (one + two) / 2, atol=1e-6)
    assert torch.allclose(path[3], 0.75 * two + 0.25 * three, atol=1e-6)
    assert torch.equal(negative.condition.prompt, random_pipe.encode(["no"]).prompt)


def test_the_last_prompt_stays_and_the_first_may_be_told(random_pipe):
    zero, two = random_pipe.encode(["zero", "two"]).prompt
    [own] = prompts(random_pipe, Travel({0: "zero", 2: "two"}), cfg=1)
    path = own.condition.prompt[0]
    assert torch.equal(path[0], zero)
    assert all(torch.equal(path[f], two) for f in range(2, 7))


def test_a_key_frame_is_the_still_of_its_prompt(random_pipe):
    options = {"frames": 3, "mu": 0, "seed": 4}
    travel = random_pipe("one", features=[Travel({2: "two"})], **options)
    for frame, text in {0: "one", 2: "two"}.items():
        plain = random_pipe(text, **options)
        assert error(travel.latents[frame], plain.latents[frame]) < 1e-5
    assert error(travel.latents[1], plain.latents[1]) > 1e-3


def test_a_batch_travels_from_each_prompt(random_pipe):
    options = {"frames": 3, "seed": [4, 5], "features": [Travel({1: "there", 2: "back"})]}
    batch = random_pipe(["one", "two"], **options)
    for clip, text, seed in zip(batch, ["one", "two"], [4, 5], strict=True):
        alone = random_pipe(text, **{**options, "seed": seed})
        assert error(clip.latents, alone.latents) < 1e-5


@pytest.mark.parametrize("order", [Whole(chunk=2), Whole(1, together=False)])
def test_orders_make_the_same_clip(random_pipe, order):
    frames = torch.full((1, 16, 16, 3), 90, dtype=torch.uint8)
    for features in (
        [Travel({2: "two"})],
        [Travel({2: "two"}), Init(frames, 0.8)],
        [Travel({2: "two"}), Invert(frames, order=order)],
    ):
        options = {"frames": 3, "seed": 4, "features": features}
        whole, other = (random_pipe("one", order=o, **options) for o in (Whole(), order))
        assert error(other.latents, whole.latents) < 1e-5


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([Travel({})], "at least one prompt"),
        ([Travel({3: "far"})], r"a prompt at frame 3: the clip has 0..2"),
        ([Travel({-1: "far"})], r"a prompt at frame -1"),
        ([Travel({1: "a"}), Travel({2: "b"})], "travel once"),
    ],
)
def test_wrong_plans_are_refused(random_pipe, features, words):
    with pytest.raises(ValueError, match=words):
        random_pipe("one", frames=3, features=features)


def test_the_plan_is_told(random_pipe):
    clip = random_pipe("one", frames=3, features=[Travel({2: "two", 1: "mid"})])
    assert clip.settings["prompt-at"] == [[1, "mid"], [2, "two"]]


LONG = "ab (cd:1.3) BREAK e"


def test_prompts_of_different_length_travel(random_pipe):
    """A key frame is still the still of its prompt, however long the others are."""
    options = {"frames": 4, "mu": 0, "seed": 4, "negative": "x BREAK y BREAK z"}
    travel = random_pipe("one", features=[Travel({1: LONG, 3: "two"})], **options)
    for frame, text in {0: "one", 1: LONG, 3: "two"}.items():
        plain = random_pipe(text, **options)
        # Attention over a text told six times: sums in another order.
        assert error(travel.latents[frame], plain.latents[frame]) < 1e-5


@pytest.mark.parametrize("options", [{}, {"order": Whole(1, together=False)}])
def test_a_clip_is_the_same_beside_longer_prompts(random_pipe, options):
    options |= {"frames": 2, "negative": "m BREAK n BREAK o"}
    batch = random_pipe(["one", LONG], seed=[4, 5], **options)
    for clip, text, seed in zip(batch, ["one", LONG], [4, 5], strict=True):
        alone = random_pipe(text, seed=seed, **options)
        assert error(clip.latents, alone.latents) < 1e-5
