"""Controls against diffusers' pipelines, on the same weights and noise; orders, spans and sums."""

import copy
from dataclasses import replace

import pytest
import torch
from parity import SDXL_UNET, error, scramble
from torch import Tensor

from zs2 import samplers
from zs2.condition import Condition
from zs2.denoise import WHOLE, Whole
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig
from zs2.models.vae import VAEConfig
from zs2.pipeline import Pipeline
from zs2.shots.control import Control, Controlled, Net, Part, adapter_maps, check_fit
from zs2.shots.init import Init
from zs2.shots.text2video_zero import Text2VideoZero
from zs2.shots.travel import Travel
from zs2.stream import Stream

FRAMES = torch.randint(0, 256, (4, 16, 16, 3), generator=torch.manual_seed(0)).byte()
OTHER = torch.randint(0, 256, (4, 16, 16, 3), generator=torch.manual_seed(1)).byte()
PIXELS = {"conditioning_embedding_out_channels": (8, 16)}  # 2 pixels to a latent's side


def control_net(pipe: Pipeline, seed: int, **own) -> ControlNet:
    config = replace(ControlNetConfig.of(pipe.weights.unet.config), **{**PIXELS, **own})
    net = scramble(ControlNet(config), seed)
    # As strong as the UNet itself, residuals would drown it.
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        block.weight.data *= 0.3
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def nets(random_pipe) -> list[ControlNet]:
    return [control_net(random_pipe, seed) for seed in (5, 6)]


@pytest.fixture(scope="module")
def adapter() -> T2IAdapter:
    config = T2IAdapterConfig(channels=(32, 64), downscale_factor=2)
    return scramble(T2IAdapter(config), 7).requires_grad_(False)


def their_parts(pipe: Pipeline) -> dict:
    """What diffusers' pipelines are made of."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    unet, config = pipe.weights.unet, pipe.weights.unet.config
    their_unet = diffusers.UNet2DConditionModel(
        sample_size=config.sample_size,
        block_out_channels=config.block_out_channels,
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
    )
    their_unet.load_state_dict(unet.state_dict())
    vae = diffusers.AutoencoderKL(  # for its factor of 2 alone
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = CLIPTextConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    return {
        "vae": vae,
        "text_encoder": CLIPTextModel(text),  # the embeddings are given
        "tokenizer": None,
        "unet": their_unet,
        "scheduler": diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def their_net(net: ControlNet):
    import diffusers

    config = net.config
    theirs = diffusers.ControlNetModel(
        block_out_channels=config.block_out_channels,
        down_block_types=config.down_block_types,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        conditioning_embedding_out_channels=config.conditioning_embedding_out_channels,
        global_pool_conditions=config.global_pool_conditions,
    )
    theirs.load_state_dict(net.state_dict())
    return theirs


def pixels(frames: Tensor) -> Tensor:
    return frames.permute(0, 3, 1, 2) / 255


def given(pipe: Pipeline, latents: Tensor) -> dict:
    """What their pipelines are called with."""
    return {
        "prompt_embeds": pipe.encode(["a ball"]).prompt,
        "negative_prompt_embeds": pipe.encode(["blur"]).prompt,
        "latents": latents.clone(),
        "num_inference_steps": 5,
        "guidance_scale": 4.0,
        "output_type": "latent",
    }


def ours(pipe: Pipeline, latents: Tensor, *features) -> Tensor:
    """The latents of a clip whose frames do not see each other."""
    clip = pipe(
        "a ball",
        negative="blur",
        frames=len(latents),
        steps=5,
        cfg=4.0,
        mu=0,
        latents=latents,
        seed=0,
        features=features,
    )
    return clip.latents


@pytest.fixture(scope="module")
def noise(random_pipe) -> Tensor:
    return random_pipe.shot("a ball", frames=2, seed=3).noise(0, 2)[0]


@pytest.mark.parametrize(
    ("weights", "spans"),
    [
        ([1.0], [(0.0, 1.0)]),
        ([0.7], [(0.2, 0.7)]),
        ([0.6, 1.3], [(0.0, 1.0), (0.0, 1.0)]),
        ([0.6, 1.3], [(0.0, 0.6), (0.35, 1.0)]),
    ],
    ids=["one", "one in a span", "two", "two in spans"],
)
def test_diffusers_makes_the_same_frames(random_pipe, nets, noise, weights, spans):
    import diffusers

    used, many = nets[: len(weights)], len(weights) > 1
    theirs = diffusers.StableDiffusionControlNetPipeline(
        **their_parts(random_pipe),
        controlnet=[their_net(n) for n in used] if many else their_net(used[0]),
    )
    theirs.set_progress_bar_config(disable=True)
    expected = []
    for i in range(2):
        hints = [pixels(frames[i : i + 1]) for frames in (FRAMES, OTHER)][: len(used)]
        starts, ends = zip(*spans, strict=True)
        made = theirs(
            image=hints if many else hints[0],
            controlnet_conditioning_scale=weights if many else weights[0],
            control_guidance_start=[*starts] if many else starts[0],
            control_guidance_end=[*ends] if many else ends[0],
            **given(random_pipe, noise[i : i + 1]),
        )
        expected.append(made.images)
    controls = [
        Control(net, frames[:2], weight, span)
        for net, frames, weight, span in zip(used, (FRAMES, OTHER), weights, spans, strict=False)
    ]
    # Float32, sums in another order.
    assert error(ours(random_pipe, noise, *controls), torch.cat(expected)) < 1e-4
    assert error(ours(random_pipe, noise), torch.cat(expected)) > 0.01


def test_diffusers_pools_a_shuffle_net_and_tells_the_prompt_alone(random_pipe, noise):
    import diffusers

    net = control_net(random_pipe, 5, global_pool_conditions=True)
    theirs = diffusers.StableDiffusionControlNetPipeline(
        **their_parts(random_pipe), controlnet=their_net(net)
    )
    theirs.set_progress_bar_config(disable=True)
    made = theirs(image=pixels(FRAMES[:1]), **given(random_pipe, noise[:1])).images
    assert error(ours(random_pipe, noise[:1], Control(net, FRAMES[:1])), made) < 1e-4


def test_diffusers_adapter_makes_the_same_frames(random_pipe, adapter, noise):
    import diffusers

    net = diffusers.T2IAdapter(channels=[32, 64], downscale_factor=2)
    net.load_state_dict({f"adapter.{k}": v for k, v in adapter.state_dict().items()})
    theirs = diffusers.StableDiffusionAdapterPipeline(**their_parts(random_pipe), adapter=net)
    theirs.set_progress_bar_config(disable=True)
    made = [
        theirs(
            image=pixels(FRAMES[i : i + 1]),
            adapter_conditioning_scale=0.8,
            **given(random_pipe, noise[i : i + 1]),
        ).images
        for i in range(2)
    ]
    control = Control(adapter, FRAMES[:2], 0.8)
    assert error(ours(random_pipe, noise, control), torch.cat(made)) < 1e-4


def clip(pipe: Pipeline, features, order=WHOLE, **options) -> Tensor:
    options = {"frames": 4, "seed": [1, 2], "mu": 0.9, "cfg": (2.0, 3.0, 4.0, 2.5), **options}
    made = pipe(["a", "c"], features=features, order=order, **options)
    return torch.stack([one.latents for one in made])


@pytest.mark.parametrize(
    "order", [Whole(chunk=1), Whole(chunk=3), Whole(2, together=False), Stream(3), Stream(1, False)]
)
@pytest.mark.parametrize("span", [(0.0, 1.0), (0.3, 0.8)])
def test_chunks_are_the_whole(random_pipe, nets, adapter, order, span):
    """A control that begins late has no state before; a net that is there twice has two."""
    features = [
        Control(nets[0], FRAMES, (1.0, 0.5, 0.0, 2.0), span),
        Control(nets[0], OTHER[:1], 0.4),
        Control(adapter, OTHER, 0.7, span),
    ]
    whole = clip(random_pipe, features)
    assert error(clip(random_pipe, features, order), whole) < 1e-4
    assert error(clip(random_pipe, features[1:]), whole) > 0.01


def test_a_controlnet_shares_frames_as_the_unet_does(random_pipe, nets):
    """Frame 1 is the still; and with mu 1 the later frames' hints alone make the difference."""
    control = Control(nets[0], FRAMES)
    still = clip(random_pipe, [Control(nets[0], FRAMES[:1])], frames=1, cfg=2.0)
    assert error(clip(random_pipe, [control])[:, :1], still) < 1e-5
    shot = random_pipe.shot("a", frames=4, seed=1, mu=0.9, features=[control])
    seen = []
    hooks = [
        block.attn1.to_k.register_forward_hook(lambda m, args, out: seen.append(args[0]))
        for block in nets[0].transformers
    ]
    plain = [
        block.norm1.register_forward_hook(lambda *_: pytest.fail("not shared"))
        for block in nets[0].transformers
    ]
    list(Whole()(shot))
    for hook in (*hooks, *plain):
        hook.remove()
    assert seen


def test_weights_add_up_and_0_is_the_plain_model(random_pipe, nets, adapter):
    for net in (nets[0], adapter):
        once = clip(random_pipe, [Control(net, FRAMES, 1.2)])
        twice = clip(random_pipe, [Control(net, FRAMES, 0.5), Control(net, FRAMES, 0.7)])
        assert error(twice, once) < 1e-5
        plain = clip(random_pipe, [])
        assert clip(random_pipe, [Control(net, FRAMES, 0)]).equal(plain)
        assert error(once, plain) > 0.01


def test_a_picture_is_held_and_a_weight_may_differ_by_frame(random_pipe, nets, adapter):
    for net in (nets[0], adapter):
        held = clip(random_pipe, [Control(net, FRAMES[:1])])
        repeated = clip(random_pipe, [Control(net, FRAMES[:1].expand(4, -1, -1, -1))])
        assert error(held, repeated) < 1e-6
        some = clip(random_pipe, [Control(net, FRAMES, (0, 0, 1.0, 0))], mu=0)
        plain, all_of_it = (
            clip(random_pipe, [], mu=0),
            clip(random_pipe, [Control(net, FRAMES)], mu=0),
        )
        assert error(some[:, [0, 1, 3]], plain[:, [0, 1, 3]]) < 1e-5
        assert error(some[:, 2], all_of_it[:, 2]) < 1e-5


@pytest.mark.parametrize("sampler", samplers.SAMPLERS.values(), ids=samplers.SAMPLERS)
def test_a_span_holds_for_every_sampler(random_pipe, nets, sampler):
    """diffusers' rule: step i of n works if i/n >= start and (i + 1)/n <= end."""
    seen = []
    hook = nets[0].register_forward_pre_hook(lambda _, args: seen.append(float(args[1])))
    control = Control(nets[0], FRAMES, span=(0.25, 0.75))
    options = {"frames": 4, "seed": 1, "steps": 8, "sampler": sampler, "features": [control]}
    random_pipe("a", **options)
    hook.remove()
    levels = random_pipe.shot("a", **options).levels
    assert seen == [pytest.approx(level.t) for level in levels[2:6]]


def test_an_adapter_has_a_span_too(random_pipe, adapter):
    seen = []
    unet = random_pipe.weights.unet
    hook = unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[4].early)))
    control = Control(adapter, FRAMES, span=(0.5, 1.0))
    random_pipe("a", frames=4, seed=1, steps=4, features=[control])
    hook.remove()
    assert seen == [0, 0, 2, 2]


class OnDevice(Tensor):
    """A timestep that only a GPU knows."""

    device = torch.device("cuda")


@pytest.mark.parametrize(("t", "factor"), [(9, 0), (10, 1), (15.5, 1), (20, 1), (21, 0)])
def test_on_a_gpu_a_span_is_a_factor(adapter, t, factor):
    """Nobody may look at the numbers there, and all steps are one recording."""
    maps = torch.randn(1, 2, 3, 4, 4)

    def unet(x, t, condition, share, residuals):
        return residuals.early[1]

    model = Controlled(unet, (Part(adapter, (10.0, 20.0), (1,)),))
    told = Condition(torch.zeros(1, 1, 1), control=((torch.full((1, 1, 1, 1, 1), 0.5), maps),))
    made = model(torch.zeros(2, 4, 4, 4), torch.tensor(t).as_subclass(OnDevice), told, None)
    assert torch.Tensor(made).equal(0.5 * factor * maps[0])


def test_where_an_adapters_features_belong(random_pipe):
    """TencentARC's: before each halving; SDXL's one size below, and in the middle."""
    with torch.device("meta"):
        sd15 = UNet(UNetConfig())
        sdxl = UNet(UNetConfig(**SDXL_UNET))
        plain, light = T2IAdapter(T2IAdapterConfig()), T2IAdapter(LIGHT)
        large = T2IAdapter(T2IAdapterConfig(adapter_type="full_adapter_xl", downscale_factor=16))
    for net, unet, numbers in (
        (plain, sd15, [2, 5, 8, 11]),
        (light, sd15, [2, 5, 8, 11]),
        (large, sdxl, [3, 5, 8, 9]),
    ):
        assert adapter_maps(net, unet) == numbers
        weights = replace(random_pipe.weights, unet=unet, vae=Factor8())
        pipe = Pipeline(weights, random_pipe.device, torch.float32)
        check_fit(net, pipe)
        other = plain if net is large else large
        with pytest.raises(ValueError, match="is for another kind of model"):
            check_fit(other, pipe)


class Factor8:
    config = VAEConfig()


LIGHT = T2IAdapterConfig(channels=(320, 640, 1280), num_res_blocks=4, adapter_type="light_adapter")


def test_bf16_is_near(random_pipe, nets, adapter):
    """The nets take their inputs in the model's own type; 8 bits of every product are kept."""
    weights = random_pipe.weights
    features = [Control(nets[0], FRAMES, 0.7), Control(adapter, FRAMES, 0.5)]
    expected = clip(random_pipe, features, steps=2)
    half = replace(
        weights,
        text=replace(
            weights.text,
            towers=tuple(
                replace(tower, encoder=copy.deepcopy(tower.encoder).bfloat16())
                for tower in weights.text.towers
            ),
        ),
        unet=copy.deepcopy(weights.unet).bfloat16(),
        vae=copy.deepcopy(weights.vae).bfloat16(),
    )
    pipe = Pipeline(half, random_pipe.device, torch.bfloat16)
    features = [
        Control(copy.deepcopy(one.net).bfloat16(), one.frames, one.weight) for one in features
    ]
    assert error(clip(pipe, features, steps=2), expected) < 0.1


def test_shares_are_of_the_steps_that_are_run(random_pipe, nets):
    seen = []
    hook = nets[0].register_forward_pre_hook(lambda _, args: seen.append(float(args[1])))
    features = [Init(FRAMES, 0.5), Control(nets[0], FRAMES, span=(0.0, 0.5))]
    random_pipe("a", frames=4, seed=1, steps=8, features=features)
    hook.remove()
    assert len(seen) == 2  # of 4


def test_what_knows_no_timestep_is_made_once_a_clip(random_pipe, nets, adapter):
    calls: list[str] = []
    hooks = [
        nets[0].controlnet_cond_embedding.register_forward_hook(lambda *_: calls.append("net")),
        adapter.conv_in.register_forward_hook(lambda *_: calls.append("adapter")),
    ]
    features = [Control(nets[0], FRAMES), Control(adapter, FRAMES[:1])]
    clip(random_pipe, features, Whole(2, together=False), steps=5)
    for hook in hooks:
        hook.remove()
    assert calls == ["net"] * 4 + ["adapter"]  # each picture by itself


def test_features_go_together(random_pipe, nets):
    features = [
        Init(FRAMES, 0.8),
        Control(nets[0], FRAMES, 0.5, (0, 0.6)),
        Travel({2: "b"}),
    ]
    whole = clip(random_pipe, features)
    assert error(clip(random_pipe, features, Whole(3)), whole) < 1e-4
    zero = [Control(nets[0], FRAMES), Text2VideoZero(t0=20, t1=30)]
    assert error(clip(random_pipe, zero, mu=None), clip(random_pipe, zero[1:], mu=None)) > 0.01


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weight": 11}, r"the weight of a control must lie in 0\.\.10, got 11"),
        ({"weight": -1}, r"the weight of a control must lie in 0\.\.10"),
        ({"weight": (1.0, 2.0)}, "has 2 values for 4 frames"),
        ({"span": (0.5, 0.5)}, "the first below the second, not 0.5 0.5"),
        ({"span": (0.0, 1.1)}, "two shares of the steps in"),
        ({"span": (0.3, 0.4)}, "the span 0.3 0.4 of a control holds none of 4 steps"),
        ({"frames": FRAMES[:2]}, "the clip needs 1 or 4"),
        ({"frames": FRAMES / 255}, "must be uint8"),
    ],
)
def test_wrong_values_are_refused(random_pipe, nets, values, words):
    with pytest.raises(ValueError, match=words):
        clip(random_pipe, [Control(**{"net": nets[0], "frames": FRAMES, **values})], steps=4)


def misfits(pipe: Pipeline) -> list[Net]:
    unet = pipe.weights.unet.config
    wide = replace(unet, block_out_channels=(32, 32))
    other = replace(unet, cross_attention_dim=16)
    return [
        ControlNet(replace(ControlNetConfig.of(wide), **PIXELS)),
        ControlNet(replace(ControlNetConfig.of(other), **PIXELS)),
        ControlNet(ControlNetConfig.of(unet)),  # 8 pixels to a latent's side
        T2IAdapter(T2IAdapterConfig(channels=(32, 32), downscale_factor=2)),
        T2IAdapter(T2IAdapterConfig(channels=(32, 64), downscale_factor=8)),
        T2IAdapter(T2IAdapterConfig(channels=(32, 64, 64), downscale_factor=2)),
    ]


@pytest.mark.parametrize("index", range(6))
def test_a_net_for_another_model_is_refused(random_pipe, index):
    with pytest.raises(ValueError, match="is for another kind of model"):
        random_pipe("a", frames=4, features=[Control(misfits(random_pipe)[index], FRAMES)])
