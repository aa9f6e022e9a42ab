"""The loop: who is told what in which chunk, corrections, fresh noise, and what is not finite."""

import math
from itertools import pairwise

import pytest
import torch

from zs2.attention import FrameAttention
from zs2.condition import Condition
from zs2.denoise import FiniteCheck, Predictor, Whole
from zs2.errors import NumericalError
from zs2.noise import IndependentNoise
from zs2.samplers import ddim
from zs2.schedule import Schedule
from zs2.shot import Branch, Noise, Shot

CPU = torch.device("cpu")
B, F = 2, 5


class Echo:
    """A model that predicts its latents and the number that its prompt holds."""

    def prepare(self, condition):
        return condition

    def __call__(self, x, t, condition, share):
        share.state[self] = torch.ones(1) if share.before is None else share.before[self]
        p = condition.prompt
        each = p.flatten(0, 1) if p.ndim == 4 else p.repeat_interleave(len(x) // len(p), 0)
        return x + each[:, :1, :1, None]


def shot_of(branches, **changes):
    noise = Noise(IndependentNoise(), range(B), F, (4, 2, 2), CPU)
    usual = {
        "model": Echo(),
        "schedule": Schedule(),
        "frames": F,
        "start": noise,
        "branches": tuple(branches),
        "levels": tuple(Schedule().levels(3)),
        "attention": FrameAttention(0.5),
        "sampler": ddim,
        "noise": noise,
        "settings": ({},) * B,
    }
    return Shot(**{**usual, **changes})


def predicted(shot, x, t, chunk=F, together=True):
    """The prediction for all frames, a chunk of them at a time."""
    predict = Predictor(shot, CPU, together)
    states = predict.nothing()
    parts = [predict(x[:, i : i + chunk], t, i, states) for i in range(0, F, chunk)]
    return torch.cat(parts, dim=1)


def prompts(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 3, F])
def test_every_frame_has_its_own_weights_and_prompt(chunk, together):
    one, two = prompts(B, F, 1, 1), prompts(B, 1, 1)
    w = torch.tensor([1.0, 3.0, 7.5, 0.0, -2.0])
    branches = [
        Branch(tuple((1 - w).tolist()), Condition(two)),
        Branch(tuple(w.tolist()), Condition(one)),
    ]
    x = torch.randn(B, F, 4, 2, 2, generator=torch.Generator().manual_seed(2))
    made = predicted(shot_of(branches), x, torch.tensor(5), chunk, together)
    said = (1 - w) * two[:, :, 0] + w * one[:, :, 0, 0]  # (B, F)
    torch.testing.assert_close(made, x + said[..., None, None, None])


def test_guidance_is_added_up_in_float32():
    """In bf16 a weight of 7.4 is 7.40625, and the sum has three digits."""
    said = torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16).view(2, 1, 1, 1)  # neighbours
    branches = [
        Branch((w,) * F, Condition(p.expand(B, 1, 1)))
        for w, p in zip((-6.4, 7.4), said, strict=True)
    ]
    for together in (True, False):
        made = predicted(
            shot_of(branches), torch.zeros(B, F, 4, 2, 2), torch.tensor(5), 2, together
        )
        assert made.dtype == torch.float32
        assert (made - (1 + 7.4 * 0.0078125)).abs().max() < 1e-6


def test_the_states_are_made_once():
    """Where a recorded graph, and the next step, will find them."""
    predict = Predictor(shot_of([Branch((1.0,) * F, Condition(prompts(B, 1, 1)))]), CPU, True)
    states = predict.nothing()
    predict(torch.zeros(B, 2, 4, 2, 2), torch.tensor(5), 0, states)
    (made,) = states
    assert made is not None
    predict(torch.zeros(B, 2, 4, 2, 2), torch.tensor(5), 2, states)
    assert states[0] is made


def test_what_is_known_of_the_clean_latents_is_put_in():
    known, asked = prompts(B, F, 4, 2, 2), []

    def correct(x0, start, stop, level):
        asked.append((start, stop))
        return torch.where(known > 0, known, x0)

    shot = shot_of([Branch((1.0,) * F, Condition(prompts(B, 1, 1)))], correct=correct)
    x = shot.start(0, F)
    steps = list(Whole()(shot))
    for (here, there), (latents, clean, *_) in zip(pairwise(shot.levels), steps, strict=True):
        a, b = here.alpha_bar, there.alpha_bar
        x0 = (x - math.sqrt(1 - a) * predicted(shot, x, torch.tensor(here.t))) / math.sqrt(a)
        x0 = torch.where(known > 0, known, x0)
        eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)  # what then has to be the noise
        x = math.sqrt(b) * x0 + math.sqrt(1 - b) * eps
        torch.testing.assert_close(clean, x0)
        if there is not shot.levels[-1]:
            torch.testing.assert_close(latents, x)
            assert not latents[known > 0].equal(known[known > 0])
    # DDIM leaves some noise at the end, which what is known has not.
    torch.testing.assert_close(latents, torch.where(known > 0, known, x))
    assert asked == [(0, F)] * 4


def test_a_sampler_gets_the_shots_start_and_each_steps_noise():
    got = []

    def sampler(denoise, x, levels, fresh):
        got.extend([x, fresh(1), fresh(2)])
        yield x, x

    start = prompts(B, F, 4, 2, 2)
    branches = [Branch((1.0,) * F, Condition(prompts(B, 1, 1)))]
    shot = shot_of(branches, sampler=sampler, start=lambda a, b: start[:, a:b])
    list(Whole()(shot))
    for made, expected in zip(got, (start, shot.noise(0, F, 1), shot.noise(0, F, 2)), strict=True):
        assert made.equal(expected)


@pytest.mark.parametrize("spacing", ["leading", "karras"])
def test_the_model_is_told_each_levels_t(spacing):
    told = []

    class Listening(Echo):
        def __call__(self, x, t, condition, share):
            told.append(t.item())
            return super().__call__(x, t, condition, share)

    levels = tuple(Schedule().levels(5, spacing))
    branches = [Branch((1.0,) * F, Condition(prompts(B, 1, 1)))]
    list(Whole()(shot_of(branches, model=Listening(), levels=levels)))
    assert told == pytest.approx([level.t for level in levels[:-1]], rel=1e-6)  # in float32
    assert spacing == "leading" or any(t % 1 for t in told)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_was_not_finite_is_told(bad):
    finite = FiniteCheck(CPU)
    fine, broken = torch.ones(3), torch.tensor([1.0, bad, 1.0])
    assert [finite(x, step) for step, x in enumerate((fine, broken, broken, fine), 1)] == [
        0,
        2,
        2,
        2,
    ]
    assert finite(fine, 5, wait=True) == 2


class Overflowing(Echo):
    def __call__(self, x, t, condition, share):
        return super().__call__(x, t, condition, share) * math.inf


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [(torch.bfloat16, "--dtype fp32$"), (torch.float16, "fp32 .or bf16.$"), (torch.float32, "fit")],
)
def test_what_to_do_about_it_depends_on_the_precision(dtype, remedy):
    branches = [Branch((1.0,) * F, Condition(prompts(B, 1, 1).to(dtype)))]
    with pytest.raises(NumericalError, match=rf"step 1 of 3 \(t = 667\): .*{remedy}"):
        list(Whole()(shot_of(branches, model=Overflowing())))


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_has_a_frame(chunk):
    with pytest.raises(ValueError, match=f"chunk must be a whole number, at least 1, got {chunk}"):
        Whole(chunk)


def test_the_settings_of_an_order():
    assert Whole().settings == {"chunk": None, "split-guidance": False}
    assert Whole(4, together=False).settings == {"chunk": 4, "split-guidance": True}
