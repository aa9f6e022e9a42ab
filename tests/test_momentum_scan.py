"""The momentum scan against Eq. 2, read aloud in float64."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zs2.kernels import momentum_scan as module
from zs2.kernels.momentum_scan import coefficients, momentum_scan, momentum_scan_reference


def exact(x, mu, initial=None):
    """y_i = mu_i y_{i-1} + (1 - mu_i) x_i in float64."""
    state, out = None if initial is None else initial.double(), []
    for i in range(x.shape[1]):
        x_i = x[:, i].double()
        state = x_i if state is None else mu[i].double() * state + (1 - mu[i].double()) * x_i
        out.append(state)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("scan", [momentum_scan, momentum_scan_reference])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (1, 1, 7), (3, 33), (1, 64, 63, 2)])
@pytest.mark.parametrize("mu", [0.0, 0.5, 0.98, 1.0, None])
def test_scan_is_eq_2(scan, dtype, shape, mu):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    kept = x.clone()
    values = torch.rand(shape[1], generator=generator) if mu is None else torch.full(shape[1:2], mu)
    y, final = scan(x, values)
    expected = exact(x, values)
    # Sums are float32, so the result is off by one rounding to the tensor's own precision.
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=step, atol=2e-6)
    torch.testing.assert_close(final.double(), expected[:, -1], rtol=2e-6, atol=2e-6)
    assert y.dtype == dtype
    assert final.dtype == torch.float32
    assert x.equal(kept)


@pytest.mark.parametrize("scan", [momentum_scan, momentum_scan_reference])
@pytest.mark.parametrize("split", range(1, 8))
def test_the_state_can_be_handed_over_anywhere(scan, split):
    generator = torch.Generator().manual_seed(0)
    x, mu = torch.randn(2, 8, 11, generator=generator), torch.rand(8, generator=generator)
    head, state = scan(x[:, :split], mu[:split])
    tail, final = scan(x[:, split:], mu[split:], state)
    whole, last = scan(x, mu)
    torch.testing.assert_close(torch.cat([head, tail], dim=1), whole, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(final, last, rtol=2e-6, atol=2e-6)


def test_coefficients_are_weights_of_a_mean():
    u = coefficients(torch.tensor([0.0, 0.5, 0.25]))
    expected = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.125, 0.125, 0.75]])
    torch.testing.assert_close(u, expected)


def test_mu_0_and_1_are_exact():
    x = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    assert momentum_scan(x, torch.zeros(5))[0].equal(x)
    assert momentum_scan(x, torch.ones(5))[0].equal(x[:, :1].expand_as(x))


@pytest.mark.parametrize(
    ("mu", "initial", "message"),
    [(torch.ones(4), None, "each of 5 frames"), (torch.ones(5), torch.ones(2, 3), "expected")],
)
def test_what_does_not_fit_is_refused(mu, initial, message):
    with pytest.raises(ValueError, match=message):
        momentum_scan(torch.zeros(2, 5, 9), mu, initial)


def test_the_file_works_alone(tmp_path):
    shutil.copy(Path(module.__file__), tmp_path)
    code = (
        "import torch; from momentum_scan import momentum_scan\n"
        "print(momentum_scan(torch.tensor([[1.0, 3.0]]), torch.tensor([0.5, 0.5]))[0].tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[[1.0, 2.0]]"
