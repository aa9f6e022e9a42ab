"""ControlNets against diffusers', and what a UNet makes of residuals."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from parity import (
    EXACT,
    SD15_UNET,
    SMALL_SD15,
    SMALL_SD21,
    SMALL_SDXL,
    SMALL_UNET,
    TOLERANCE,
    error,
    scramble,
)

from zs2.attention import Share
from zs2.condition import Condition
from zs2.models.controlnet import ControlNet, ControlNetConfig
from zs2.models.layers import waves
from zs2.models.unet import Residuals, UNet
from zs2.models.unet_config import UNetConfig

ENCODER = ("sample_size", "up_block_types")  # what a ControlNet's configuration has not


def control_pair(config: dict, **own) -> tuple[ControlNet, ControlNetModel]:
    values = {k: v for k, v in config.items() if k not in ENCODER} | own
    theirs = scramble(ControlNetModel(**values), 1)
    with torch.device("meta"):
        ours = ControlNet(ControlNetConfig(**{**config, **own}))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return ours.eval(), theirs


def told(config: dict, generator: torch.Generator, clips: int) -> tuple[Condition, dict]:
    """What networks are told, for ours and for theirs."""
    prompt = torch.randn(clips, 7, config["cross_attention_dim"], generator=generator).double()
    if "addition_embed_type" not in config:
        return Condition(prompt), {}
    width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    pooled = torch.randn(clips, width, generator=generator).double()
    sizes = torch.tensor([[64, 96, 0, 8, 64, 96]] * clips)
    added = torch.cat([pooled, waves(sizes, config["addition_time_embed_dim"]).flatten(1)], dim=1)
    return Condition(prompt, added=added.double()), {"text_embeds": pooled, "time_ids": sizes}


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [SMALL_UNET, SMALL_SD15, SMALL_SD21, SMALL_SDXL],
    ids=["two", "1.5", "2.1", "xl"],
)
@pytest.mark.parametrize(
    "own", [{}, {"controlnet_conditioning_channel_order": "bgr"}, {"global_pool_conditions": True}]
)
def test_diffusers_makes_the_same_residuals(config, own):
    ours, theirs = (net.double() for net in control_pair(config, **own))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 12, 10, generator=generator).double()
    hint = torch.rand(2, 3, 96, 80, generator=generator).double()
    condition, added = told(config, generator, 2)
    t = torch.tensor([3, 700.5])
    *expected, middle = theirs(
        x, t, condition.prompt, hint, added_cond_kwargs=added, return_dict=False
    )
    made = ours(x, t, ours.crossed(condition), Share(), *ours.picture(hint))
    assert len(made) == len(expected[0]) + 1 == len(ours.maps) + 1
    for one, other in zip(made, (*expected[0], middle), strict=True):
        assert error(one, other) <= EXACT


@torch.inference_mode()
@pytest.mark.parametrize("config", [SMALL_SD15, SMALL_SDXL], ids=["1.5", "xl"])
@pytest.mark.parametrize("kinds", [("late",), ("early",), ("late", "early")])
def test_a_unet_adds_residuals_as_diffusers_does(config, kinds):
    theirs = scramble(UNet2DConditionModel(**config)).double()
    ours = UNet(UNetConfig(**config)).double()
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 16, 8, generator=generator).double()
    condition, added = told(config, generator, 2)
    t = torch.tensor(500)
    shapes: list[torch.Size] = []

    def watch(module, args, output):
        shapes.append(output.shape)

    # Every map's shape: those of conv_in, each layer, each halving, and the middle.
    hooks = [ours.conv_in.register_forward_hook(watch)]
    for block in ours.down_blocks:
        layers = block.attentions or block.resnets
        hooks += [m.register_forward_hook(watch) for m in (*layers, *block.downsamplers)]
    hooks.append(ours.mid_block.register_forward_hook(watch))
    plain = ours(x, t, condition)
    for hook in hooks:
        hook.remove()
    maps = [torch.randn(shape, generator=generator).double() for shape in shapes]
    late = maps if "late" in kinds else []
    # diffusers adds an adapter's features to these, SDXL's to the first halving and to the middle.
    numbers = [3, 5, 8, 9] if "addition_embed_type" in config else [2, 5, 8, 11]
    early = {i: maps[i].flip(0) for i in numbers} if "early" in kinds else {}
    extra = {"down_intrablock_additional_residuals": [*early.values()]} if early else {}
    if late:
        extra["down_block_additional_residuals"] = tuple(late[:-1])
        extra["mid_block_additional_residual"] = late[-1]
    expected = theirs(x, t, condition.prompt, added_cond_kwargs=added, **extra).sample
    made = ours(x, t, condition, None, Residuals(early, dict(enumerate(late))))
    assert error(made, expected) <= EXACT
    assert error(made, plain) > 0.01


@pytest.mark.slow
@torch.inference_mode()
def test_the_real_configuration():
    ours, theirs = control_pair(SD15_UNET)
    generator = torch.Generator().manual_seed(1)
    x, hint = torch.randn(1, 4, 8, 8, generator=generator), torch.rand(1, 3, 64, 64)
    prompt = torch.randn(1, 77, 768, generator=generator)
    expected = theirs(x, torch.tensor(500), prompt, hint, return_dict=False)
    made = ours(x, torch.tensor(500), Condition(prompt), Share(), *ours.picture(hint))
    for one, other in zip(made, (*expected[0], expected[1]), strict=True):
        assert error(one, other) <= TOLERANCE


def test_an_unknown_order_of_channels_is_refused():
    with pytest.raises(ValueError, match="channel_order = gbr is not supported"):
        ControlNetConfig(controlnet_conditioning_channel_order="gbr")
