"""What an adapter adds to a weight, against LyCORIS' own layers at work, and PEFT's."""

import pytest
import torch
from lycoris import modules
from torch import Tensor, nn

from zs2.checkpoint.deltas import METHODS, change
from zs2.checkpoint.lora_names import Places

LINEAR, CONV, POINT = nn.Linear(12, 20), nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(12, 8, 1)
SQUARE = nn.Linear(16, 16)
LAYERS = {"linear": LINEAR, "square": SQUARE, "conv": CONV, "1x1": POINT}


def changed(layer: nn.Module, tensors: dict[str, Tensor], strength: float = 1.0) -> Tensor:
    """A layer's weight with the change that a file stores under these names."""
    places = Places({})
    parts = {places(f"layer.{name}")[1]: tensor.float() for name, tensor in tensors.items()}
    weight = layer.weight.detach()
    method = next(m for m in METHODS if m.needs <= parts.keys())
    assert parts.keys() <= method.needs | method.takes
    return weight + strength * change(method, weight, parts)


def lycoris(name: str, layer: nn.Module, **options: object) -> nn.Module:
    """One of their layers around ours, with random values in it."""
    kinds = {
        "lora": modules.locon.LoConModule,
        "loha": modules.loha.LohaModule,
        "lokr": modules.lokr.LokrModule,
        "glora": modules.glora.GLoRAModule,
        "oft": modules.diag_oft.DiagOFTModule,
        "ia3": modules.ia3.IA3Module,
        "full": modules.full.FullModule,
        "norm": modules.norms.NormModule,
    }
    theirs = kinds[name]("layer", layer, 1.0, **{"lora_dim": 4, "alpha": 3.0, **options})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, value in theirs.named_parameters():
            noise = 0.3 * torch.randn(value.shape, generator=generator)
            value.copy_(noise if value.abs().sum() == 0 or "lora" in key else value + noise)
    return theirs.requires_grad_(False)


@torch.no_grad()
def assert_same(layer: nn.Module, theirs: nn.Module, strength: float) -> None:
    """Their layer's output in training is that of ours with the merged weight."""
    ours = changed(layer, theirs.state_dict(), strength)
    x = torch.randn(5, 12 if layer is not SQUARE else 16, *[7] * (layer.weight.ndim - 2))
    theirs.multiplier = strength
    theirs.eval()
    before = layer(x)
    expected = theirs.forward(x) - before  # what it adds: a small change is not drowned
    old, layer.weight.data = layer.weight.data, ours
    try:
        made = layer(x) - before
    finally:
        layer.weight.data = old
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


CASES = [
    ("lora", {}),
    ("lora", {"use_tucker": True}),
    ("lora", {"alpha": 0}),
    ("lora", {"rs_lora": True}),
    ("loha", {}),
    ("loha", {"use_tucker": True}),
    ("lokr", {}),
    ("lokr", {"lora_dim": 3, "factor": 2}),
    ("lokr", {"lora_dim": 3, "factor": 2, "use_tucker": True}),
    ("lokr", {"lora_dim": 1, "decompose_both": True}),
    ("lokr", {"full_matrix": True}),
    ("glora", {}),
    ("oft", {}),
    ("oft", {"constraint": 0.01}),
    ("ia3", {}),
    ("ia3", {"train_on_input": True}),
]


DECOMPOSED = [
    ("lora", {"weight_decompose": True}),
    ("lora", {"weight_decompose": True, "wd_on_out": False}),
    ("loha", {"weight_decompose": True}),
    ("lokr", {"lora_dim": 1, "weight_decompose": True}),
]


@pytest.mark.parametrize("strength", [1.0, -0.7])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_as_lycoris_trains_it(name, options, layer, strength):
    assert_same(LAYERS[layer], lycoris(name, LAYERS[layer], **options), strength)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "options"), [*DECOMPOSED, ("oft", {"rescaled": True})], ids=str)
def test_as_lycoris_trains_it_at_full_strength(name, options, layer):
    """At another strength programs differ; here half of it is half of the change."""
    assert_same(LAYERS[layer], lycoris(name, LAYERS[layer], **options), 1.0)


@pytest.mark.parametrize("layer", [LINEAR, CONV])
@pytest.mark.parametrize(("target", "part"), [("weight", "diff"), ("bias", "diff_b")])
def test_a_whole_difference(layer, target, part):
    theirs = lycoris("full", layer)  # until it is put in its place, its parameters are differences
    expected = dict(zip(("weight", "bias"), theirs.get_merged_weight(0.5), strict=True))[target]
    method = next(m for m in METHODS if m.needs == {part})
    assert method.target == target
    old = getattr(layer, target).detach()
    made = old + 0.5 * change(method, old, {part: getattr(theirs, target)})
    torch.testing.assert_close(made, expected)
    assert not made.equal(old)


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6)])
def test_norms(norm):
    theirs = lycoris("norm", norm)
    for name, expected in zip("wb", theirs.get_merged_weight(-0.5), strict=True):
        method = next(m for m in METHODS if m.needs == {f"{name}_norm"})
        old = getattr(norm, method.target).detach()
        part = {f"{name}_norm": getattr(theirs, f"{name}_norm").detach()}
        torch.testing.assert_close(old - 0.5 * change(method, old, part), expected)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layer", [LINEAR, SQUARE])
def test_gloras_older_order(layer):
    out, width = layer.weight.shape
    a1, a2, b1, b2 = (
        random(*shape, seed=i)
        for i, shape in enumerate([(3, width), (width, 3), (3, width), (out, 3)])
    )
    names = ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha")
    tensors = dict(zip(names, (a1, a2, b1, b2, torch.tensor(6.0)), strict=True))
    w = layer.weight.detach()
    torch.testing.assert_close(changed(layer, tensors), w + 2 * (w @ a2 @ a1 + b2 @ b1))


@pytest.mark.parametrize(
    ("told", "factor"),
    [({}, 1), ({"alpha": 0.0}, 1), ({"alpha": 6.0}, 2), ({"alpha": 6.0, "scale": 0.25}, 0.25)],
)
def test_alpha_is_of_the_rank(told, factor):
    up, down = random(20, 3), random(3, 12, seed=1)
    tensors = {"lora_up.weight": up, "lora_down.weight": down}
    tensors |= {name: torch.tensor(value) for name, value in told.items()}
    torch.testing.assert_close(changed(LINEAR, tensors), LINEAR.weight + factor * up @ down)


def test_a_replaced_weight():
    new = random(20, 12)
    torch.testing.assert_close(changed(LINEAR, {"set_weight": new}), new)


def test_peft_stores_a_magnitude_for_each_row_even_of_a_square_convolution():
    layer = nn.Conv2d(6, 6, 3)
    w, m = layer.weight.detach(), 1 + random(1, 6, 1, 1).abs()
    zero = {"lora_A.weight": torch.zeros(2, 6, 3, 3), "lora_B.weight": torch.zeros(6, 2, 1, 1)}
    made = changed(layer, {**zero, "lora_magnitude_vector.weight": m})
    torch.testing.assert_close(made.flatten(1).norm(dim=1), m.flatten())
    torch.testing.assert_close(
        made, w * (m.flatten() / w.flatten(1).norm(dim=1))[:, None, None, None]
    )


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"lora_up.weight": (20, 3), "lora_down.weight": (3, 13)},
            r"shape \[20, 13\] .*\[20, 12\]",
        ),
        ({"lora_up.weight": (12, 3), "lora_down.weight": (3, 20)}, r"shape \[12, 20\]"),
        ({"lora_up.weight": (20, 3), "lora_down.weight": (4, 12)}, r"fit no weight of shape"),
        ({"lora_up.weight": (), "lora_down.weight": (4, 12)}, r"fit no weight of shape"),
        ({"diff": (12,)}, r"shape \[12\]"),
        ({"set_weight": (1, 12)}, r"shape \[1, 12\]"),
        ({"oft_blocks": (3, 5, 4, 4)}, "BOFT"),
        ({"oft_blocks": (5, 3, 3)}, "fit no weight"),
    ],
)
def test_what_does_not_fit(tensors, words):
    with pytest.raises(ValueError, match=words):
        changed(LINEAR, {name: torch.zeros(shape) for name, shape in tensors.items()})
