"""Text2Video-Zero as its authors' method is in diffusers, and frame by frame as DDIM is."""

import importlib
import warnings

import pytest
import torch
from parity import error

import zs2
from zs2.attention import FrameAttention
from zs2.denoise import Whole
from zs2.noise import IndependentNoise, sample_noise
from zs2.samplers import euler
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.init import Init
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero, source
from zs2.weights import SMALL

PROMPT = "a small red ball on green grass"
PLACE = "diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero"


@pytest.fixture(scope="module")
def small():
    return zs2.load(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def theirs():
    from diffusers import DDIMScheduler

    kind = importlib.import_module(PLACE).TextToVideoZeroPipeline
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        pipe = kind.from_pretrained(SMALL, safety_checker=None, feature_extractor=None)
    pipe = pipe.to(torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    # Their steps' product runs over t0 .. t1-1. Eq. 3's, which is ours, runs over t0+1 .. t1.
    pipe.scheduler.alphas = pipe.scheduler.alphas.roll(-1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("steps", "t0", "t1", "motion"), [(10, 39, 44, (12, 12)), (8, 30, 47, (-20, 45))]
)
def test_diffusers_makes_the_same_clip(small, theirs, monkeypatch, steps, t0, t1, motion):
    frames, seed = 3, 3
    noise = sample_noise(IndependentNoise(), [seed], frames, (4, 16, 16))[0]
    shot = small.shot(
        PROMPT,
        frames=frames,
        steps=steps,
        seed=seed,
        cfg=3.0,
        features=[Text2VideoZero(motion, t0, t1)],
    )
    # What frames 2 and 3 are noised with again is ours, handed to theirs.
    fresh = shot.noise(1, frames, steps + 1)[0]
    module = importlib.import_module(PLACE)
    monkeypatch.setattr(module, "randn_tensor", lambda size, **_: fresh.reshape(size))
    # Theirs counts t0 and t1 in the clip's own steps.
    early, late = Text2VideoZero(motion, t0, t1).steps(steps)
    made = theirs(
        PROMPT,
        video_length=frames,
        height=128,
        width=128,
        num_inference_steps=steps,
        guidance_scale=3.0,
        latents=noise[:1].clone(),
        motion_field_strength_x=motion[0],
        motion_field_strength_y=motion[1],
        t0=steps - 1 - late,
        t1=steps - 1 - early,
        output_type="latent",
    ).images
    [clip] = small.film(shot)
    # Float32, sums in another order: 2e-6 as measured.
    assert error(clip.latents, made) < 1e-4


def test_their_defaults_are_steps_2_and_5_of_50():
    assert Text2VideoZero().steps(50) == (2, 5)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 20, 100, 1000])
@pytest.mark.parametrize(("t0", "t1"), [(44, 47), (0, 49), (48, 49), (0, 1), (30, 30), (0, 0)])
def test_any_number_of_steps_has_both_times(steps, t0, t1):
    early, late = Text2VideoZero(t0=t0, t1=t1).steps(steps)
    assert 0 <= early < steps
    assert early < late <= steps if t0 < t1 else late >= early


@pytest.mark.parametrize("size", [16, 64, 96])
@pytest.mark.parametrize("by", [1.0, 12.0, -30.0, 200.0, 700.0, -1500.0])
def test_motion_takes_pixels_as_grid_sample_does(size, by):
    """An oracle of another kind: their field of 512 x 512, scaled down and sampled by torch."""
    along = ((torch.arange(512, dtype=torch.float64) + by) / 512 * 2 - 1).expand(1, 1, 512, 512)
    scaled = torch.nn.functional.interpolate(along, size=(size, size), mode="bilinear")[0]
    rows = torch.linspace(-1, 1, size, dtype=torch.float64)[:, None].expand(size, size)
    row = torch.arange(size, dtype=torch.float64).expand(1, 1, size, size)
    picked = torch.nn.functional.grid_sample(
        row,
        torch.stack((scaled[0], rows), -1)[None],
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    )
    assert source(size, by).tolist() == picked[0, 0, 0].long().tolist()


def test_frame_1_is_the_still_and_seeds_reproduce(random_pipe):
    options = {"frames": 3, "features": [Text2VideoZero(t0=30, t1=40)], "steps": 5}
    clip, again = (random_pipe("a", seed=7, **options) for _ in range(2))
    still = random_pipe("a", seed=7, frames=1, steps=5)
    other = random_pipe("a", seed=8, **options)
    assert torch.equal(clip.latents, again.latents)
    assert error(clip.latents[:1], still.latents) < 1e-5
    assert error(clip.latents[1:], other.latents[1:]) > 0.1


def test_its_frames_are_frame_1_moved_and_noised_again(random_pipe):
    def shot(t0, t1):
        features = [Text2VideoZero((64, 0), t0, t1)]
        return random_pipe.shot("a", frames=3, steps=50, seed=1, size=32, features=features)

    # With t0 = t1 nothing is noised: 64 and 128 of 512 are 2 and 4 of 16 latent pixels.
    still = shot(20, 20).start(0, 3)
    assert torch.equal(still[:, 1, ..., :-2], still[:, 0, ..., 2:])
    assert torch.equal(still[:, 2, ..., :-4], still[:, 0, ..., 4:])
    # Noised from t = 401 to 801, Eq. 3.
    noised = shot(20, 40)
    assert noised.levels[0].t == 801
    kept = random_pipe.weights.schedule.alpha_bar[[401, 801]]
    kept = float(kept[1] / kept[0])
    expected = kept**0.5 * still + (1 - kept) ** 0.5 * noised.noise(0, 3, 51)
    assert torch.allclose(noised.start(0, 3)[:, 1:], expected[:, 1:], atol=1e-5)
    assert error(noised.start(0, 3)[:, 0], shot(40, 40).start(0, 3)[:, 0]) < 1e-6


def test_cuts_of_frames_start_as_the_whole(random_pipe):
    front = torch.zeros(1, 16, 16)
    front[:, 4:9, 4:9] = 1
    shot = random_pipe.shot("a", frames=4, features=[Text2VideoZero(foreground=front)])
    parts = torch.cat([shot.start(0, 1), shot.start(1, 3), shot.start(3, 4)], dim=1)
    assert torch.equal(parts, shot.start(0, 4))


def test_the_background_is_drawn_to_frame_1_moved(random_pipe):
    front = torch.zeros(2, 32, 32)
    front[0, :4, 12:16] = 1  # latent columns 6, 7 of frame 1, which move to 4, 5
    front[1, 20:24, 20:24] = 1
    options = {"motion": (64.0, 0.0), "t0": 20, "t1": 40}

    def start(**more):
        features = [Text2VideoZero(**options, **more)]
        return random_pipe.shot("a", frames=2, steps=50, seed=1, size=32, features=features).start(
            0, 2
        )[0]

    plain, smooth, whole = start(), start(foreground=front), start(foreground=front, smoothing=1)
    moved = torch.cat((plain[0, ..., 2:], plain[0, ..., -2:].flip(-1)), dim=-1)
    back = torch.ones(16, 16)
    back[10:12, 10:12] = 0
    back[:2, 4:6] = 0
    expected = plain[1] + 0.6 * back * (moved - plain[1])
    assert torch.allclose(smooth[1], expected, atol=1e-5)
    assert torch.allclose(whole[1] * back, moved * back, atol=1e-6)
    assert torch.equal(smooth[0], plain[0])


def test_it_says_what_it_is(random_pipe):
    clip = random_pipe("a", frames=2, features=[Text2VideoZero()])
    assert clip.settings["method"] == "text2video-zero"
    assert not {"noise", "mu", "lam", "candidates", "select", "search"} & clip.settings.keys()
    assert clip.shared
    assert not random_pipe("a", frames=1, features=[Text2VideoZero()]).shared


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"t0": 47, "t1": 44}, "t0 not above t1"),
        ({"t1": 50}, "steps of 50"),
        ({"t0": -1}, "steps of 50"),
        ({"motion": (float("nan"), 0.0)}, "two numbers"),
        ({"smoothing": 1.5}, "smoothing must lie in 0..1"),
    ],
)
def test_impossible_values_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Text2VideoZero(**options)


def test_a_foreground_of_another_size_is_refused(random_pipe):
    with pytest.raises(ValueError, match="the mask is"):
        random_pipe("a", frames=2, features=[Text2VideoZero(foreground=torch.zeros(1, 8, 8))])


@pytest.mark.parametrize("order", [Whole(chunk=2), Whole(together=False), Whole(1, False)])
def test_orders_make_the_same_clip(random_pipe, order):
    features = [Text2VideoZero(t0=20, t1=30)]
    whole, other = (
        random_pipe(["a", "b"], frames=3, seed=[1, 2], features=features, order=o)
        for o in (Whole(), order)
    )
    for one, two in zip(whole, other, strict=True):
        assert error(two.latents, one.latents) < 1e-5


def test_it_goes_on_from_a_picture_and_keeps_what_is_outside_a_mask(random_pipe):
    picture = torch.randint(0, 256, (1, 16, 16, 3), generator=torch.manual_seed(0)).byte()
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:10, 4:10] = 1
    features = [Init(picture, 0.8), Mask(picture, mask), Text2VideoZero(t0=10, t1=20)]
    clip = random_pipe("a", frames=3, steps=5, features=features)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:5, 2:5] = False
    z = random_pipe.picture(picture)
    assert torch.equal(clip.latents[..., outside], z[..., outside].expand(3, -1, -1))


def test_frame_by_frame_is_every_still(random_pipe):
    clip = random_pipe("a", frames=3, seed=5, lam=0.1, mu=0.5, features=[FrameByFrame()])
    noise = sample_noise(IndependentNoise(), [5], 3, (4, 8, 8))[0]
    for frame in range(3):
        still = random_pipe("a", frames=1, latents=noise[frame : frame + 1])
        assert error(clip.latents[frame : frame + 1], still.latents) < 1e-5
    assert clip.settings["method"] == "ddim"
    assert not {"noise", "mu", "lam"} & clip.settings.keys()
    assert not clip.shared


def test_frame_by_frame_after_another_start_is_refused(random_pipe):
    picture = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="before any other start"):
        random_pipe("a", features=[Init(picture), FrameByFrame()])
    random_pipe("a", frames=2, features=[FrameByFrame(), Init(picture)])


def test_it_attends_to_frame_1(random_pipe):
    shot = random_pipe.shot("a", frames=3, mu=(0, 0.2, 0.4), features=[Text2VideoZero()])
    assert shot.attention == FrameAttention(1)


def test_another_sampler_is_refused(random_pipe):
    with pytest.raises(ValueError, match="samples with ddim"):
        random_pipe("a", frames=2, sampler=euler, features=[Text2VideoZero()])
