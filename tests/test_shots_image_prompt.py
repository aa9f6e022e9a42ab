"""A picture as a prompt, against diffusers' IP-Adapter, and what must hold of it in a clip."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parity import SD15_UNET, SMALL_SD15, SMALL_SDXL, TOLERANCE, error
from pictures import VISION, theirs, write_adapter, write_encoder
from PIL import Image
from torch import Tensor

from zs2.checkpoint.ip_adapter import load_ip_adapter
from zs2.condition import Condition
from zs2.denoise import Whole
from zs2.models.ip_adapter import IPAdapterConfig
from zs2.models.layers import waves
from zs2.pipeline import Pipeline
from zs2.shot import Branch, Shot
from zs2.shots.image_prompt import ImagePrompt
from zs2.shots.travel import Travel
from zs2.stream import Stream

SIDE = VISION["image_size"]


def picture(height: int = SIDE, width: int = SIDE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (height, width, 3), generator=generator).byte()


def shot(unet, branches: tuple[Branch, ...], clips: int) -> Shot:
    """As much of a shot as the feature looks at."""
    return Shot(
        model=unet,
        schedule=None,
        frames=3,
        start=None,
        branches=branches,
        levels=(),
        attention=None,
        sampler=None,
        noise=None,
        settings=({},) * clips,
    )


@torch.inference_mode()
def compare(
    config: dict, adapter: str | IPAdapterConfig, vision: dict, folder: Path
) -> list[float]:
    """Two clips of three frames, with what guidance steers away from, at a weight of 0.7.

    Returns:
        How far we are from diffusers, and how far its picture is from none.
    """
    side = vision["image_size"]
    unet, pipe = theirs(config, write_encoder(folder / "image_encoder", vision), side)
    path = write_adapter(folder / "ip.safetensors", adapter, unet)
    pipe.load_ip_adapter(
        str(folder), subfolder="", weight_name=path.name, image_encoder_folder=None
    )
    pipe.set_ip_adapter_scale(0.7)
    look = picture(side, side)
    seen = pipe.prepare_ip_adapter_image_embeds(
        Image.fromarray(look.numpy()), None, "cpu", 1, do_classifier_free_guidance=True
    )[0]  # (2, 1, ..): nothing, then the picture

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2 * 2 * 3, 4, 8, 12, generator=generator)  # (G*B*F, ..)
    prompts = torch.randn(4, 7, config["cross_attention_dim"], generator=generator)
    added, beside = None, {}
    if "addition_embed_type" in config:
        pooled, sizes = torch.randn(4, 24, generator=generator), torch.full((4, 6), 64)
        added = torch.cat([pooled, waves(sizes, 8).flatten(1)], dim=1)
        beside = {"text_embeds": pooled, "time_ids": sizes}
    rows = {key: value.repeat_interleave(3, 0) for key, value in beside.items()}
    t = torch.tensor(500)
    expected = pipe.unet(
        x,
        t,
        prompts.repeat_interleave(3, 0),
        added_cond_kwargs={**rows, "image_embeds": [seen.repeat_interleave(6, 0)]},
    ).sample

    branches = tuple(
        Branch(
            (1.0,),
            Condition(prompts[i : i + 2], added=added if added is None else added[i : i + 2]),
        )
        for i in (0, 2)
    )
    feature = ImagePrompt(*load_ip_adapter(path, unet), look, 0.7)
    holder = type("Holder", (), {"weights": type("W", (), {"unet": unet})})
    made = feature(holder, shot(unet, branches, clips=2))
    condition = unet.prepare(Condition.stack([branch.condition for branch in made.branches]))
    plain = unet(x, t, replace(condition, pictures={}))
    return [error(unet(x, t, condition), expected), error(plain, expected)]


@pytest.mark.parametrize("name", ["plain", "plus", "full"])
@pytest.mark.parametrize("config", [SMALL_SD15, SMALL_SDXL], ids=["1.5", "xl"])
def test_parity(config, name, tmp_path):
    ours, none = compare(config, name, VISION, tmp_path)
    assert ours <= TOLERANCE
    assert none > 0.01


@pytest.mark.slow
def test_parity_of_the_real_configuration(tmp_path):
    """SD 1.5's UNet with an adapter of Plus's size; of the ViT-H/14 two layers."""
    vision = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    }
    plus = IPAdapterConfig("plus", 1280, 768, tokens=16, hidden=768, depth=4)
    ours, none = compare(SD15_UNET, plus, vision, tmp_path)
    assert ours <= TOLERANCE
    assert none > 0.01


@pytest.fixture
def feature(random_pipe, tmp_path):
    """Make the feature with a picture and weight."""
    write_encoder(tmp_path / "image_encoder")
    unet = random_pipe.weights.unet
    loaded = load_ip_adapter(write_adapter(tmp_path / "ip.safetensors", "plus", unet), unet)
    return lambda weight=1.0, seed=0: ImagePrompt(*loaded, picture(seed=seed), weight)


def latents(pipe: Pipeline, *features, **options) -> Tensor:
    return pipe("a red ball", frames=5, seed=3, features=features, **options).latents


def test_a_clip_follows_the_picture(random_pipe, feature):
    plain, seen = latents(random_pipe), latents(random_pipe, feature())
    assert error(seen, plain) > 0.01
    assert latents(random_pipe, feature()).equal(seen)
    assert error(latents(random_pipe, feature(seed=1)), seen) > 0.001
    assert error(latents(random_pipe, feature(weight=0.5)), seen) > 0.001
    # Adding 0 may round -0 to 0, no more.
    assert latents(random_pipe, feature(weight=0.0)).equal(plain)


@pytest.mark.parametrize("travel", [False, True])
@pytest.mark.parametrize(
    "order", [Whole(chunk=1), Whole(chunk=2), Whole(chunk=3, together=False), Stream(chunk=2)]
)
def test_any_order_gives_the_same_clip(random_pipe, feature, order, travel):
    features = [feature(), *([Travel({4: "a blue star"})] if travel else [])]
    whole = latents(random_pipe, *features)
    # Float32 sums in another order, over four steps.
    assert error(latents(random_pipe, *features, order=order), whole) <= 1e-5


def test_several_prompts_see_the_same_picture(random_pipe, feature):
    both = random_pipe(["a red ball", "a blue star"], frames=2, seed=[3, 4], features=[feature()])
    alone = random_pipe("a blue star", frames=2, seed=4, features=[feature()])
    assert error(both[1].latents, alone.latents) <= 1e-5


def test_what_the_settings_say(random_pipe, feature):
    told = random_pipe.shot("a ball", features=[feature(weight=0.5)]).settings[0]
    assert (told["image-weight"], told["image"], told["ip-adapter"]) == (0.5, "own", "own")


def test_without_guidance_there_is_one_branch(random_pipe, feature):
    (branch,) = random_pipe.shot("a ball", features=[feature()], cfg=1).branches
    guided = random_pipe.shot("a ball", features=[feature()]).branches
    for layer, (k, v) in branch.condition.pictures.items():
        assert k.equal(guided[1].condition.pictures[layer][0])
        assert v.equal(guided[1].condition.pictures[layer][1])
        assert not v.equal(guided[0].condition.pictures[layer][1])


def test_what_is_refused(random_pipe, feature):
    with pytest.raises(ValueError, match="image_weight must lie in 0"):
        feature(weight=-1.0)
    with pytest.raises(ValueError, match="image_weight must lie in 0"):
        feature(weight=float("nan"))
    with pytest.raises(ValueError, match="one picture as a prompt"):
        latents(random_pipe, feature(), feature())
    for wrong in (picture().float(), picture()[None], picture()[..., :1]):
        with pytest.raises(ValueError, match="the picture is"):
            replace(feature(), picture=wrong)
