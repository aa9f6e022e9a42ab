"""The UNet against diffusers', and what frames that share attention must give."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from parity import (
    EXACT,
    SD15_UNET,
    SD21_UNET,
    SDXL_UNET,
    SMALL_SD15,
    SMALL_SD21,
    SMALL_SDXL,
    SMALL_UNET,
    TOLERANCE,
    error,
    scramble,
)
from torch._dynamo.testing import CompileCounter

from benchmarks.momentum_in_diffusers import MomentumProcessor
from zs2.attention import FrameAttention, Share
from zs2.condition import Condition
from zs2.models import transformer
from zs2.models.layers import waves
from zs2.models.unet import UNet
from zs2.models.unet_config import UNetConfig


def pair(config: dict) -> tuple[UNet, UNet2DConditionModel]:
    theirs = scramble(UNet2DConditionModel(**config))
    with torch.device("meta"):
        ours = UNet(UNetConfig(**config))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return ours.eval(), theirs


def inputs(config: dict, rows: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, height, width, generator=generator)
    t = torch.tensor([1, 500.25, 981])[:rows]  # some schedules lie between the training's steps
    context = torch.randn(rows, 7, config["cross_attention_dim"], generator=generator)
    return x, t, context


@torch.inference_mode()
def compare(config: dict, rows: int, height: int, width: int, dtype: torch.dtype) -> float:
    ours, theirs = (network.to(dtype) for network in pair(config))
    x, t, context = inputs(config, rows, height, width)
    x, context = x.to(dtype), context.to(dtype)
    return error(ours(x, t, Condition(context)), theirs(x, t, context).sample)


# The last has no epsilon that could be right by chance.
OTHER_EPS = {**SMALL_UNET, "norm_eps": 1e-2}


@pytest.mark.parametrize(
    "config",
    [SMALL_UNET, SMALL_SD15, SMALL_SD21, OTHER_EPS],
    ids=["two", "1.5", "2.1", "another epsilon"],
)
@pytest.mark.parametrize("size", [(16, 16), (13, 21)])
def test_small_configurations(config, size):
    assert compare(config, 3, *size, torch.float64) <= EXACT


@torch.inference_mode()
def test_more_channels_come_after_the_latents():
    """Instruct-Pix2Pix: 4 of the picture to edit, for each frame its own."""
    config = {**SMALL_UNET, "in_channels": 8}
    ours, theirs = pair(config)
    x, t, context = inputs(config, 3, 6, 5)
    channels = torch.randn(1, 3, 4, 6, 5, generator=torch.Generator().manual_seed(3))
    expected = theirs(torch.cat([x, channels[0]], dim=1), t, context).sample
    assert error(ours(x, t, Condition(context[None], channels)), expected) <= TOLERANCE


def compare_sdxl(config: dict, dtype: torch.dtype) -> float:
    """Two clips of two frames: the rows of a clip are told the same."""
    ours, theirs = (network.to(dtype) for network in pair(config))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 4, 8, 12, generator=generator).to(dtype)
    context = torch.randn(2, 7, config["cross_attention_dim"], generator=generator).to(dtype)
    width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    pooled = torch.randn(2, width, generator=generator).to(dtype)
    sizes = torch.tensor([[64, 96, 0, 8, 64, 96], [512, 768, 4, 0, 64, 96]])
    told = waves(sizes, config["addition_time_embed_dim"]).flatten(1).to(dtype)
    condition = Condition(context, added=torch.cat([pooled, told], dim=1))
    expected = theirs(
        x,
        torch.tensor(500),
        context.repeat_interleave(2, 0),
        added_cond_kwargs={
            "text_embeds": pooled.repeat_interleave(2, 0),
            "time_ids": sizes.repeat_interleave(2, 0),
        },
    ).sample
    prepared = ours.prepare(condition)
    return error(ours(x, torch.tensor(500), prepared), expected)


@torch.inference_mode()
def test_small_sdxl():
    assert compare_sdxl(SMALL_SDXL, torch.float64) <= EXACT


@pytest.mark.slow
@torch.inference_mode()
def test_real_sdxl():
    assert compare_sdxl(SDXL_UNET, torch.float32) <= TOLERANCE


@torch.inference_mode()
def test_what_is_added_may_differ_by_frame():
    ours, _ = pair(SMALL_SDXL)
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(1, 3, 7, 40)
    added, t = torch.randn(1, 3, 72, generator=generator), torch.tensor(500)
    whole = Condition(context, added=added)
    alone = [ours(x[i : i + 1], t, whole.at(i, i + 1)) for i in range(3)]
    assert error(ours(x, t, whole), torch.cat(alone)) <= TOLERANCE


def test_what_is_added_must_fit():
    with pytest.raises(ValueError, match="takes 72 values beside the prompt and is given 0"):
        pair(SMALL_SDXL)[0].prepare(Condition(torch.zeros(1, 7, 40)))
    with pytest.raises(ValueError, match="takes 0 values beside the prompt and is given 72"):
        pair(SMALL_UNET)[0].prepare(Condition(torch.zeros(1, 7, 24), added=torch.zeros(1, 72)))
    with pytest.raises(ValueError, match="addition_embed_type image with None"):
        UNet(UNetConfig(addition_embed_type="image"))


@torch.inference_mode()
@pytest.mark.parametrize("config", [SMALL_SD15, SMALL_SD21], ids=["1.5", "2.1"])
def test_attention_in_float32_where_the_model_asks_for_it(config, monkeypatch):
    kinds, attention = [], F.scaled_dot_product_attention

    def watched(q, k, v, **options):
        kinds.extend(x.dtype for x in (q, k, v))
        return attention(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    ours = pair(config)[0].bfloat16()
    x, t, context = inputs(config, 2, 8, 8)
    made = ours(x.bfloat16(), t, Condition(context.bfloat16()))
    assert made.dtype == torch.bfloat16
    assert set(kinds) == {torch.float32 if config.get("upcast_attention") else torch.bfloat16}


@torch.inference_mode()
def test_shared_attention_norms_as_the_norm_says():
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    norm = scramble(torch.nn.LayerNorm(8, eps=0.1))
    together = Share(torch.tensor([0.0, 0.5, 0.5]))
    h, scanned = together(x, norm)
    torch.testing.assert_close(h, norm(x))
    clips = norm(x).unflatten(0, (2, 3))
    second = (clips[:, 0] + clips[:, 1]) / 2
    torch.testing.assert_close(scanned[[0, 3]], clips[:, 0])
    torch.testing.assert_close(scanned[[1, 4]], second)
    torch.testing.assert_close(scanned[[2, 5]], (second + clips[:, 2]) / 2)
    alone, same = Share()(x, norm)
    assert alone is same
    torch.testing.assert_close(alone, norm(x))


@pytest.mark.slow
@pytest.mark.parametrize("config", [SD15_UNET, SD21_UNET], ids=["1.5", "2.1"])
def test_real_configurations(config):
    assert compare(config, 1, 17, 24, torch.float32) <= TOLERANCE


@pytest.fixture(scope="module")
def shared():
    ours, theirs = pair(SMALL_UNET)
    x, _, _ = inputs(SMALL_UNET, 3, 6, 5)
    x = torch.cat([x, x.flip(0) * 0.7, x.roll(1, 0) + 0.3])[:8]
    context = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(2))
    return ours, theirs, x, torch.tensor(400), Condition(context)


@pytest.mark.parametrize("mu", [1.5, -0.1, float("nan"), [0.5, 2.0]])
def test_a_momentum_outside_0_to_1_is_refused_at_once(mu):
    """A GPU's kernel does not look at the values."""
    with pytest.raises(ValueError, match=r"^mu must lie in 0\.\.1, got"):
        FrameAttention(mu)


MU = (0.0, 0.9, 0.5, 0.98, 1.0, 0.3, 0.98, 0.7)


def share(mu: tuple[float, ...], start=0, stop=None, before=None, keep=True) -> Share:
    return Share(FrameAttention(mu).momenta(len(mu))[start:stop], before, keep)


@torch.inference_mode()
def test_one_prompt_for_all_frames_is_one_for_each(shared):
    ours, _, x, t, context = shared
    each = Condition(context.prompt[:, None].expand(1, 8, -1, -1))
    torch.testing.assert_close(ours(x, t, context), ours(x, t, each))


@torch.inference_mode()
def test_a_prompt_can_be_projected_once(shared):
    ours, _, x, t, context = shared
    prepared = ours.prepare(context)
    assert len(prepared.cross) == len(ours.transformers)
    other = replace(prepared, prompt=context.prompt * 2)  # what is prepared is what is read
    assert ours(x, t, other).equal(ours(x, t, context))


@torch.inference_mode()
def test_momentum_is_eq_2_on_keys_and_values(shared):
    """The scan of the hidden state equals that of K and V: our example in diffusers' UNet."""
    ours, theirs, x, t, context = shared

    processors = theirs.attn_processors
    theirs.set_attn_processor(MomentumProcessor(torch.tensor(MU)))
    expected = theirs(x, t, context.prompt.expand(8, -1, -1)).sample
    theirs.set_attn_processor(processors)
    assert error(ours(x, t, context, share(MU)), expected) <= TOLERANCE
    assert error(ours(x, t, context), expected) > 0.01


@torch.inference_mode()
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_that_hand_over_their_state_are_the_whole(shared, chunk):
    ours, _, x, t, context = shared
    once = share(MU)
    whole = ours(x, t, context, once)
    state, parts = None, []
    for start in range(0, 8, chunk):
        stop = min(start + chunk, 8)
        part = share(MU, start, stop, state)
        parts.append(ours(x[start:stop], t, context, part))
        state = part.state
    assert error(torch.cat(parts), whole) <= TOLERANCE
    assert len(state) == len(ours.transformers) == 4
    assert state.keys() == once.state.keys() == {block.norm1 for block in ours.transformers}
    for norm, expected in once.state.items():
        assert state[norm].dtype == torch.float32
        torch.testing.assert_close(state[norm], expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_clip_has_one_state_however_many_chunks(shared):
    ours, _, x, t, context = shared
    first = share(MU, 0, 4)
    ours(x[:4], t, context, first)
    second = share(MU, 4, 8, first.state)
    ours(x[4:], t, context, second)
    for norm, state in first.state.items():
        assert second.state[norm].data_ptr() == state.data_ptr()


@torch.inference_mode()
def test_the_last_chunk_need_not_keep_its_state(shared):
    ours, _, x, t, context = shared
    first = share(MU, 0, 4)
    parts = [ours(x[:4], t, context, first)]
    last = share(MU, 4, 8, first.state, False)
    parts.append(ours(x[4:], t, context, last))
    assert error(torch.cat(parts), ours(x, t, context, share(MU))) <= TOLERANCE
    assert not last.state


@torch.inference_mode()
def test_torch_compile_needs_one_graph_for_the_first_chunk_and_one_for_the_rest(shared):
    ours, _, x, t, context = shared
    graphs = CompileCounter()
    compiled = torch.compile(ours, backend=graphs, fullgraph=True)
    state, parts = None, []
    for start in range(0, 8, 2):
        part = share(MU, start, start + 2, state)
        parts.append(compiled(x[start : start + 2], t, context, part))
        state = part.state
    assert graphs.frame_count == 2
    assert error(torch.cat(parts), ours(x, t, context, share(MU))) <= TOLERANCE


@torch.inference_mode()
def test_frame_1_is_the_image_models(shared):
    ours, _, x, t, context = shared
    clip = ours(x, t, context, share(MU))
    still = ours(x[:1], t, context, Share(FrameAttention(0.98).momenta(1)))
    image = ours(x[:1], t, context)
    assert still.equal(image)
    assert error(clip[:1], image) <= TOLERANCE


@torch.inference_mode()
def test_clips_of_a_batch_do_not_mix(shared):
    ours, _, x, t, context = shared
    contexts = Condition(torch.cat([context.prompt, context.prompt * 0.5]))
    both = ours(x, t, contexts, share(MU[:4]))
    for clip in range(2):
        rows = slice(4 * clip, 4 * clip + 4)
        alone = ours(x[rows], t, Condition(contexts.prompt[clip : clip + 1]), share(MU[:4]))
        assert error(both[rows], alone) <= TOLERANCE


# A row's hidden tensor is 6 x 32 values of 4 bytes.
@pytest.mark.parametrize(
    ("cache", "parts"), [(0, [1] * 5), (2 * 6 * 32 * 4, [2, 2, 1]), (1 << 20, [5])]
)
def test_the_feed_forward_goes_in_parts(monkeypatch, cache, parts):
    generator = torch.Generator().manual_seed(0)
    ff, x = transformer.FeedForward(8), torch.randn(5, 6, 8, generator=generator)
    hidden, gate = F.linear(x, ff.net[0].proj.weight, ff.net[0].proj.bias).chunk(2, dim=-1)
    whole = ff.net[2](hidden * F.gelu(gate))
    sizes, gelu = [], F.gelu
    monkeypatch.setattr(transformer.F, "gelu", lambda x: sizes.append(len(x)) or gelu(x))
    monkeypatch.setattr(transformer, "CPU_CACHE", cache)
    assert error(ff(x), whole) <= TOLERANCE
    assert sizes == parts


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="AttnDownBlock2D"):
        UNet(UNetConfig(down_block_types=("AttnDownBlock2D",) * 4))
