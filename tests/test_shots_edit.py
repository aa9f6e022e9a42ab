"""Instruct-Pix2Pix, against diffusers' on the same 8-channel weights and noise."""

from dataclasses import replace

import pytest
import torch
from parity import error, scramble

from zs2.denoise import Whole
from zs2.models.unet import UNet
from zs2.pipeline import Pipeline
from zs2.shots.edit import Edit
from zs2.shots.frame_by_frame import FrameByFrame
from zs2.shots.init import Init
from zs2.shots.invert import Invert
from zs2.shots.mask import Mask
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel

FRAMES = torch.randint(0, 256, (3, 16, 16, 3), generator=torch.manual_seed(0)).byte()


@pytest.fixture(scope="module")
def editor(random_pipe) -> Pipeline:
    """The random model with a UNet that takes a picture beside the latents."""
    weights = random_pipe.weights
    unet = scramble(UNet(replace(weights.unet.config, in_channels=8)), 4)
    return Pipeline(
        replace(weights, unet=unet.requires_grad_(False)), random_pipe.device, random_pipe.dtype
    )


@pytest.fixture(scope="module")
def theirs(editor):
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = editor.weights.unet
    config = unet.config
    their_unet = diffusers.UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=8,
        block_out_channels=config.block_out_channels,
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
    )
    their_unet.load_state_dict(unet.state_dict())
    vae = diffusers.AutoencoderKL(  # for its factor of 2 alone: the picture is given as latents
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = CLIPTextConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),  # the embeddings are given too
        tokenizer=None,
        unet=their_unet,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(("cfg", "image_cfg"), [(7.5, 1.5), (3.0, 2.5)])
def test_diffusers_makes_the_same_frames(editor, theirs, cfg, image_cfg):
    """Frame by frame; the first one is F = 1."""
    clip = editor(
        "make it red",
        negative="blur",
        frames=3,
        steps=5,
        cfg=cfg,
        seed=3,
        mu=0,
        features=[Edit(FRAMES, image_cfg)],
    )
    still = editor(
        "make it red",
        negative="blur",
        frames=1,
        steps=5,
        cfg=cfg,
        seed=3,
        features=[Edit(FRAMES[:1], image_cfg)],
    )
    noise = editor.shot("make it red", frames=3, seed=3).noise(0, 3)[0]
    told, negative = editor.encode(["make it red", "blur"]).prompt.chunk(2)
    z = editor.picture(FRAMES) / editor.weights.vae.config.scaling_factor
    made = [
        theirs(
            image=z[i : i + 1],
            prompt_embeds=told,
            negative_prompt_embeds=negative,
            latents=noise[i : i + 1].clone(),
            num_inference_steps=5,
            guidance_scale=cfg,
            image_guidance_scale=image_cfg,
            output_type="latent",
        ).images
        for i in range(3)
    ]
    # Float32, sums in another order.
    assert error(clip.latents, torch.cat(made)) < 1e-4
    assert error(still.latents, made[0]) < 1e-4


def test_frame_by_frame_is_mu_0_with_its_own_noise(editor):
    [clip] = editor(["a"], frames=3, seed=3, features=[FrameByFrame(), Edit(FRAMES)])
    noise = editor.shot("a", frames=3, seed=3, features=[FrameByFrame()]).noise(0, 3)[0]
    same = editor("a", frames=3, latents=noise, mu=0, features=[Edit(FRAMES)])
    assert torch.equal(clip.latents, same.latents)


def test_three_branches_of_different_length(editor):
    options = {"frames": 2, "negative": "blur", "seed": 3, "features": [Edit(FRAMES[:1])]}
    one, other = (
        editor("make (it:1.2) BREAK red", **options, order=Whole(together=together))
        for together in (True, False)
    )
    assert error(one.latents, other.latents) < 1e-5


def test_travel_is_told_to_the_branch_of_the_text_alone(editor):
    either = [
        editor.shot("a", frames=3, negative="n", features=features)
        for features in (
            [Edit(FRAMES), Travel({2: "b"})],
            [Travel({2: "b"}), Edit(FRAMES)],
        )
    ]
    for shot in either:
        neither, image, both = (branch.condition for branch in shot.branches)
        assert both.prompt.ndim == 4
        assert torch.equal(both.prompt[0, 2], editor.encode(["b"]).prompt[0])
        assert torch.equal(neither.prompt, editor.encode(["n"]).prompt)
        assert torch.equal(image.prompt, editor.encode(["n"]).prompt)
        assert not neither.channels.any()
        assert torch.equal(image.channels, both.channels)
        total = torch.tensor([branch.weights for branch in shot.branches]).sum(0)
        assert torch.allclose(total, torch.ones(3))


MASK = torch.zeros(1, 16, 16)
MASK[:, 4:10, 4:10] = 1


@pytest.mark.parametrize(
    "features",
    [
        [Edit(FRAMES)],
        [Edit(FRAMES), Init(FRAMES, 0.8), Mask(FRAMES, MASK)],
        [Edit(FRAMES), Invert(FRAMES), Travel({1: "b"})],
        [Travel({1: "b"}), Edit(FRAMES[:1]), Text2VideoZero(t0=20, t1=30)],
        [FrameByFrame(), Init(FRAMES), Edit(FRAMES), Mask(FRAMES, MASK), Travel({2: "b"})],
    ],
)
@pytest.mark.parametrize("order", [Whole(chunk=2), Whole(2, together=False)])
def test_all_features_and_orders_go_together(editor, features, order):
    options = {"frames": 3, "seed": [1, 2], "features": features, "cfg": (2.0, 3.0, 4.0)}
    whole, other = (editor(["a", "c"], order=o, **options) for o in (Whole(), order))
    for one, two in zip(whole, other, strict=True):
        assert error(two.latents, one.latents) < 1e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": []}, "takes 4 channels beside the latents"),
        ({"features": [Edit(FRAMES)], "cfg": 1}, "editing needs guidance"),
        ({"features": [Edit(FRAMES[:2])]}, "the clip needs 1 or 3"),
        ({"features": [Edit(FRAMES / 255)]}, "must be uint8"),
    ],
)
def test_wrong_input_is_refused(editor, options, words):
    with pytest.raises(ValueError, match=words):
        editor("a", frames=3, **options)


def test_a_model_that_takes_no_picture_is_refused(random_pipe):
    with pytest.raises(ValueError, match="only Instruct-Pix2Pix models edit by instruction"):
        random_pipe("a", frames=3, features=[Edit(FRAMES)])
