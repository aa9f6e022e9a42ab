"""Outside a mask a clip is the original, whatever goes on inside."""

import pytest
import torch
from parity import error

import zs2
from zs2.denoise import Whole
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask, latent_mask

SIZE, FRAMES = 48, 3
FRAME = torch.randint(0, 256, (FRAMES, SIZE, SIZE, 3), generator=torch.manual_seed(0)).byte()
HOLE = torch.zeros(1, SIZE, SIZE)
HOLE[:, 5:16, 4:16] = 1  # latent rows and columns 2 to 7, the odd row with them
INSIDE = torch.zeros(SIZE // 2, SIZE // 2, dtype=torch.bool)
INSIDE[2:8, 2:8] = True
OPTIONS = {"frames": FRAMES, "size": SIZE, "seed": 3}


def test_outside_it_is_the_original_and_inside_it_is_not(random_pipe):
    clip = random_pipe("a", features=[Mask(FRAME, HOLE)], **OPTIONS)
    z = random_pipe.picture(FRAME)
    assert torch.equal(clip.latents[..., ~INSIDE], z[..., ~INSIDE])
    assert (clip.latents != z)[..., INSIDE].all()
    assert error(clip.latents[..., INSIDE], z[..., INSIDE]) > 0.3


def test_decoded_it_is_the_round_trip_away_from_the_hole():
    """On a trained decoder: its norms and its attention see the whole picture, but look near by."""
    pipe = zs2.load(device="cpu", dtype="fp32")
    hole = torch.zeros(1, 128, 128)
    hole[:, 16:56, 16:56] = 1
    options = {"frames": 1, "steps": 6, "seed": 1}
    frames = pipe("two big blue stars at night", **options).frames
    clip = pipe("a small red ball on green grass", features=[Mask(frames, hole)], **options)
    trip = pipe.decode(pipe.picture(frames))
    change = (clip.frames.float() - trip.float()).abs()
    far = torch.cat((change[:, 88:].flatten(), change[:, :88, 88:].flatten()))
    # Of 255; measured 0.9 far away and 54 inside.
    assert far.mean() < 2
    assert change[:, 16:56, 16:56].mean() > 20


def test_inside_sees_what_is_outside(random_pipe):
    one, two = (
        random_pipe("a", features=[Mask(frames, HOLE)], **OPTIONS)
        for frames in (FRAME, 255 - FRAME)
    )
    # What did not see it would be equal but for rounding, 1e-6.
    assert error(one.latents[..., INSIDE], two.latents[..., INSIDE]) > 1e-3


def test_a_full_mask_keeps_nothing_and_an_empty_one_all(random_pipe):
    plain = random_pipe("a", **OPTIONS)
    full = random_pipe("a", features=[Mask(FRAME, torch.ones(1, SIZE, SIZE))], **OPTIONS)
    none = random_pipe("a", features=[Mask(FRAME, torch.zeros(1, SIZE, SIZE))], **OPTIONS)
    assert error(full.latents, plain.latents) < 1e-5
    assert torch.equal(none.latents, random_pipe.picture(FRAME))


def test_a_mask_may_move_and_a_frame_be_held(random_pipe):
    masks = torch.zeros(FRAMES, SIZE, SIZE, dtype=torch.uint8)
    for i in range(FRAMES):
        masks[i, 10 * i : 10 * i + 6] = 255
    clip = random_pipe("a", features=[Mask(FRAME[:1], masks)], **OPTIONS)
    z = random_pipe.picture(FRAME[:1])[0]
    for i in range(FRAMES):
        rows = torch.zeros(SIZE // 2, dtype=torch.bool)
        rows[5 * i : 5 * i + 3] = True
        assert torch.equal(clip.latents[i][:, ~rows], z[:, ~rows])
        assert error(clip.latents[i][:, rows], z[:, rows]) > 0.1


@pytest.mark.parametrize("order", [Whole(chunk=2), Whole(1, together=False)])
def test_orders_make_the_same_clips(random_pipe, order):
    options = {**OPTIONS, "seed": [1, 2], "features": [Init(FRAME, 0.8), Mask(FRAME, HOLE)]}
    whole = random_pipe(["a", "b"], **options)
    other = random_pipe(["a", "b"], order=order, **options)
    for one, two in zip(whole, other, strict=True):
        assert error(two.latents, one.latents) < 1e-5


def test_it_may_stand_before_or_after_a_start(random_pipe):
    for start in (Init(FRAME, 0.8), Invert(FRAME)):
        first, then = (
            random_pipe("a", features=features, **OPTIONS)
            for features in ([Mask(FRAME, HOLE), start], [start, Mask(FRAME, HOLE)])
        )
        assert torch.equal(first.latents, then.latents)


@pytest.mark.parametrize("mask", [HOLE[:, :8], HOLE[0], HOLE.expand(2, -1, -1)])
def test_a_mask_that_does_not_fit_is_refused(random_pipe, mask):
    with pytest.raises(ValueError, match=r"the mask is .* and the clip needs 1 or 3 of \[48, 48\]"):
        random_pipe("a", features=[Mask(FRAME, mask)], **OPTIONS)


def test_a_latent_may_change_if_any_of_its_pixels_may(random_pipe):
    mask = torch.full((1, SIZE, SIZE), 0.5)
    mask[0, 5, 9] = 0.55
    found = latent_mask(random_pipe, random_pipe.shot("a", **OPTIONS), mask)
    assert found.shape == (1, FRAMES, 1, SIZE // 2, SIZE // 2)
    assert found.nonzero()[:, 3:].unique(dim=0).tolist() == [[2, 4]]
    assert found.max() == 1


def test_a_second_mask_is_refused(random_pipe):
    with pytest.raises(ValueError, match="a clip has one mask"):
        random_pipe("a", features=[Mask(FRAME, HOLE), Mask(FRAME, HOLE)], **OPTIONS)


def test_what_is_held_settles_in_when_the_last_steps_are_free(random_pipe):
    """Time-to-Move's two clocks: the outside is the original's at the level where it is freed."""
    asked = {**OPTIONS, "steps": 4}
    plain, held, freed = (
        random_pipe("a", features=features, **asked).latents
        for features in (
            [Init(FRAME, 0.5)],
            [Init(FRAME, 1.0), Mask(FRAME, HOLE)],
            [Init(FRAME, 1.0), Mask(FRAME, torch.zeros_like(HOLE), strength=0.5)],
        )
    )
    z = random_pipe.picture(FRAME)
    assert torch.equal(held[..., ~INSIDE], z[..., ~INSIDE])
    # Held everywhere for two steps of four, a clip is at their end the noised original, as Init
    # begins with for the last two; DDIM's noise is the first one on the way there.
    assert error(freed, plain) < 1e-4
    before = random_pipe(
        "a", features=[Mask(FRAME, torch.zeros_like(HOLE), 0.5), Init(FRAME, 1.0)], **asked
    )
    assert torch.equal(before.latents, freed)


def test_a_share_of_the_steps(random_pipe):
    with pytest.raises(ValueError, match=r"mask-strength must lie in 0..1"):
        random_pipe("a", features=[Mask(FRAME, HOLE, 1.5)], **OPTIONS)
