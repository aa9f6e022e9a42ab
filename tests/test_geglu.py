"""GEGLU's gate against the formula in float64: torch's steps, and the kernel."""

import math
import sys

import pytest
import torch
from interpreter import GPU, interpreted

from zs2.kernels import geglu, momentum_scan

COMPILED = pytest.param("compiled", marks=pytest.mark.skipif(not GPU, reason="no GPU"))
# The result is rounded once: by 2^-9 of it in bf16, 2^-12 in fp16. The reference rounds gelu too,
# and the interpreter cuts off where a GPU rounds. In float32 1 + erf of -3 and less has few digits.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}


@pytest.fixture(scope="module", params=["plain", "interpreted", COMPILED])
def gate(request):
    if request.param == "plain":
        return geglu.geglu
    if request.param == "compiled":
        return lambda x: geglu.geglu(x.cuda()).cpu()
    with pytest.MonkeyPatch.context() as patch:
        name = "zs2.kernels.momentum_scan"
        patch.setitem(sys.modules, name, interpreted(momentum_scan.__file__))
        return interpreted(geglu.__file__).geglu


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 9, 2 * 320), (17, 2 * 5), (3, 1, 7, 2 * 96), (2 * 512,)])
def test_it_is_the_formula(gate, dtype, shape):
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    kept = x.clone()
    a, g = x.double().chunk(2, dim=-1)
    expected = a * g * (1 + (g / math.sqrt(2)).erf()) / 2
    y = gate(x)
    torch.testing.assert_close(y.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert y.dtype == dtype
    assert x.equal(kept)


def test_rows_may_have_gaps(gate):
    x = torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(0))[:, 1:3]
    torch.testing.assert_close(gate(x), gate(x.contiguous()))


def test_autograd_sees_torchs_steps(gate):
    x = torch.ones(2, 8, requires_grad=True)
    gate(x).sum().backward()
    assert x.grad.abs().min() > 0


def test_an_odd_row_is_refused():
    with pytest.raises(ValueError, match=r"x is \[2, 7\]: its last dimension must be two halves"):
        geglu.geglu(torch.ones(2, 7))
