"""Start from frames, against diffusers' image to image on the same weights and noise."""

import pytest
import torch
from parity import error

import zs2
from zs2.denoise import Whole
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.weights import SMALL

PROMPT = "a small red ball on green grass"


def picture(frames: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (frames, size, size, 3), generator=generator).byte()


@pytest.mark.parametrize(("steps", "strength"), [(10, 0.6), (10, 1.0), (7, 0.3), (6, 0.17)])
def test_diffusers_makes_the_same_picture(steps, strength):
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    pipe = zs2.load(device="cpu", dtype="fp32")
    theirs = StableDiffusionImg2ImgPipeline.from_pretrained(
        SMALL, safety_checker=None, feature_extractor=None
    ).to(torch.float32)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    frames = picture(1, 128)
    noise = torch.randn(1, 4, 16, 16, generator=torch.manual_seed(5))
    made = theirs(
        PROMPT,
        image=pipe.picture(frames),  # latents, as theirs would draw them from the posterior
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    clip = pipe(
        PROMPT, frames=1, steps=steps, cfg=3.0, latents=noise, features=[Init(frames, strength)]
    )
    # Float32, sums in another order.
    assert error(clip.latents, made) < 1e-4


def test_a_small_strength_changes_less(random_pipe):
    frames = picture(2)
    z = random_pipe.picture(frames)
    starts = [
        random_pipe.shot("a", frames=2, steps=50, seed=1, features=[Init(frames, s)])
        for s in (0.02, 0.5, 1.0)
    ]
    assert [len(s.levels) - 1 for s in starts] == [1, 25, 50]
    near = [error(s.start(0, 2)[0], z) for s in starts]
    assert 0 < near[0] < near[1] / 4 < near[2] / 4


def test_the_noise_is_the_clips_own(random_pipe):
    """lam 0 noises all frames alike: one picture held is a still clip with mu 1."""
    shot = random_pipe.shot("a", frames=3, lam=0, features=[Init(picture(1))])
    start = shot.start(0, 3)
    assert torch.equal(start, start[:, :1].expand_as(start))
    a, z = shot.levels[0].alpha_bar, random_pipe.picture(picture(1))
    assert torch.allclose(start, a**0.5 * z + (1 - a) ** 0.5 * shot.noise(0, 3), atol=1e-6)


def test_a_single_frame_is_held(random_pipe):
    one, options = picture(1), {"frames": 3, "seed": 2}
    held = random_pipe("a", features=[Init(one)], **options)
    given = random_pipe("a", features=[Init(one.expand(3, -1, -1, -1))], **options)
    assert torch.equal(held.latents, given.latents)


@pytest.mark.parametrize("order", [Whole(chunk=2), Whole(1, together=False)])
def test_orders_make_the_same_clips(random_pipe, order):
    options = {"frames": 3, "seed": [1, 2], "features": [Init(picture(3))]}
    whole = random_pipe(["a", "b"], **options)
    other = random_pipe(["a", "b"], order=order, **options)
    for one, two in zip(whole, other, strict=True):
        assert error(two.latents, one.latents) < 1e-5


@pytest.mark.parametrize(
    ("frames", "strength", "words"),
    [
        (picture(2), 0.6, "the clip needs 1 or 3 of"),
        (picture(3, 32), 0.6, "the clip needs 1 or 3 of"),
        (picture(1)[0], 0.6, "the clip needs 1 or 3 of"),
        (picture(1) / 255, 0.6, "must be uint8"),
        (picture(1), 1.5, "strength must lie in 0..1, got 1.5"),
        (picture(1), float("nan"), "strength must lie in 0..1"),
        (picture(1), 0.2, "leaves none of 4 steps"),
    ],
)
@pytest.mark.parametrize("feature", [Init, Invert])
def test_wrong_input_is_refused(random_pipe, feature, frames, strength, words):
    with pytest.raises(ValueError, match=words) as caught:
        random_pipe("a", frames=3, features=[feature(frames, strength)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("second", [Init, Invert])
def test_a_clip_starts_once(random_pipe, second):
    with pytest.raises(ValueError, match="before any other start"):
        random_pipe("a", frames=1, features=[Init(picture(1)), second(picture(1))])


def test_every_frame_has_its_own_frame_and_its_own_noise(random_pipe):
    frames = picture(3)
    options = {"frames": 3, "seed": 2, "steps": 4, "lam": 0.5}
    plain = random_pipe.shot("a", **options)
    shot = random_pipe.shot("a", features=[Init(frames, 0.5)], **options)
    a = plain.levels[2].alpha_bar
    z, noise = random_pipe.picture(frames), plain.noise(0, 3)[0]
    assert shot.levels == plain.levels[2:]
    torch.testing.assert_close(shot.start(0, 3)[0], a**0.5 * z + (1 - a) ** 0.5 * noise)
    assert shot.start(1, 3).equal(shot.start(0, 3)[:, 1:])
    assert shot.settings[0]["init"] == "own"
    assert shot.settings[0]["strength"] == 0.5
