"""GroupNorm, its addend and SiLU against the formula in float64: torch's steps, and the kernel."""

import sys
from types import SimpleNamespace

import pytest
import torch
from interpreter import GPU, interpreted

from zs2.kernels import group_norm, momentum_scan

COMPILED = pytest.param("compiled", marks=pytest.mark.skipif(not GPU, reason="no GPU"))
# Channels of one, several and odd numbers a group; positions of one tile, several, and few.
SHAPES = [(2, 12, 5, 7), (1, 320, 4, 4), (2, 64, 33, 40), (1, 5, 1, 1), (3, 96, 17, 9)]
GROUPS = [4, 32, 32, 1, 8]


@pytest.fixture(scope="module", params=["plain", "interpreted", COMPILED])
def norm(request):
    if request.param == "plain":
        return group_norm.group_norm_silu
    if request.param == "compiled":
        return lambda *args: group_norm.group_norm_silu(
            *(x.cuda() if isinstance(x, torch.Tensor) else x for x in args)
        ).cpu()
    with pytest.MonkeyPatch.context() as patch:
        name = "zs2.kernels.momentum_scan"
        patch.setitem(sys.modules, name, interpreted(momentum_scan.__file__))
        return interpreted(group_norm.__file__).group_norm_silu


def made(shape, dtype=torch.float32, mean=0.0):
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    x = (mean + randn(*shape)).to(dtype).contiguous(memory_format=torch.channels_last)
    b, c = shape[:2]
    return SimpleNamespace(
        x=x, weight=randn(c).to(dtype), bias=randn(c).to(dtype), add=randn(b, c).to(dtype)
    )


def exact(x, weight, bias, groups, eps, silu, add=None):
    """The formula, in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    if add is not None:
        x = x + add.double()[:, :, None, None]
    rows = x.reshape(len(x), groups, -1)
    mean, variance = rows.mean(2, keepdim=True), rows.var(2, correction=0, keepdim=True)
    y = ((rows - mean) / (variance + eps).sqrt()).view(x.shape)
    y = y * weight[:, None, None] + bias[:, None, None]
    return y / (1 + (-y).exp()) if silu else y


# The result is rounded once, by half a unit in the last place: 2^-9 of it in bf16, 2^-12 in fp16.
# The reference rounds between its steps too, and the interpreter cuts off where a GPU rounds.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "groups"), [*zip(SHAPES, GROUPS, strict=True)])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_it_is_the_formula(norm, dtype, shape, groups, silu, added):
    m = made(shape, dtype)
    add = m.add if added else None
    kept = m.x.clone()
    y = norm(m.x, m.weight, m.bias, groups, 1e-5, silu, add)
    expected = exact(m.x, m.weight, m.bias, groups, 1e-5, silu, add)
    torch.testing.assert_close(y.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert y.dtype == dtype
    assert m.x.equal(kept)


def test_large_means_leave_the_variance(norm):
    """The mean is 3000 deviations: squares of the values would cancel to nothing in float32."""
    if norm is group_norm.group_norm_silu:
        pytest.skip("torch's own norm of channels-last maps on a CPU loses it")
    m = made((2, 64, 12, 12), mean=3000.0)
    y = norm(m.x, m.weight, m.bias, 8, 1e-5, False, m.add)
    expected = exact(m.x, m.weight, m.bias, 8, 1e-5, False, m.add)
    # x + add itself is rounded to 2^-13 of a deviation.
    torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-3)


def test_maps_keep_their_layout(norm):
    m = made((2, 64, 6, 5))
    y = norm(m.x, m.weight, m.bias, 8)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_autograd_sees_torchs_steps(norm):
    m = made((1, 8, 3, 3))
    for x in (m.x, m.weight, m.bias):
        x.requires_grad_()
    norm(m.x, m.weight, m.bias, 2).sum().backward()
    assert m.x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": torch.ones(3)}, r"weight \[3\]"),
        ({"groups": 5}, "5 groups do not divide 8 channels"),
        ({"groups": 0}, "0 groups do not divide 8 channels"),
        ({"add": torch.ones(8)}, r"add is \[8\], expected \[1, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    m = made((1, 8, 3, 3))
    arguments = {"x": m.x, "weight": m.weight, "bias": m.bias, "groups": 2, **change}
    with pytest.raises(ValueError, match=words):
        group_norm.group_norm_silu(**arguments)
