"""The momentum scan against Eq. 2, read aloud in float64: plain torch, and the kernels."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from interpreter import BROKEN, interpreted
from torch.utils._pytree import tree_map

from zs2.kernels import momentum_scan as scan
from zs2.kernels import norm_momentum_scan as norm

FILE = Path(scan.__file__)
# Some thousand values a frame, so that errors in the root mean square are no matter of luck.
SHAPES = [
    (2, 8, 321, 5),
    (1, 1, 1777, 1),
    (3, 33, 1000, 1),
    (1, 5, 31, 63),
    (1, 3, 5, 500),
    (2, 2, 2, 1000),
]
MUS = [0.0, 0.5, 0.98, 1.0, None]  # None: one for each frame
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def together(scan, norm):
    names = {**vars(scan), "norm_momentum_scan": norm.norm_momentum_scan}
    return SimpleNamespace(**names)


plain = together(scan, norm)


class Compiled:
    """The kernels as a GPU runs them: tensors are moved there, strides and all, and back."""

    def __getattr__(self, name):
        def there(x):
            if not isinstance(x, torch.Tensor) or x.device.type != "cpu":
                return x
            return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda").copy_(x)

        def back(x):
            return x.cpu() if isinstance(x, torch.Tensor) else x

        def call(*args):
            return tree_map(back, getattr(plain, name)(*tree_map(there, args)))

        return call


@pytest.fixture(params=["plain", "interpreted", pytest.param("compiled", marks=GPU)])
def kernels(request):
    kinds = {"plain": lambda: plain, "interpreted": interpret, "compiled": Compiled}
    # What an empty tensor holds is NaN: a value that a kernel forgets to write shows.
    torch.use_deterministic_algorithms(True)
    yield kinds[request.param]()
    torch.use_deterministic_algorithms(False)


@cache
def interpret():
    scan = interpreted(FILE)
    with pytest.MonkeyPatch.context() as patch:  # so that the other takes this one's Triton
        patch.setitem(sys.modules, "zs2.kernels.momentum_scan", scan)
        return together(scan, interpreted(norm.__file__))


def exact(x, mu, initial=None):
    """y_i = mu_i y_{i-1} + (1 - mu_i) x_i in float64."""
    state, out = None if initial is None else initial.double(), []
    for i in range(x.shape[1]):
        x_i = x[:, i].double()
        state = x_i if state is None else mu[i].double() * state + (1 - mu[i].double()) * x_i
        out.append(state)
    return torch.stack(out, dim=1)


def momenta(mu, frames, generator):
    return torch.rand(frames, generator=generator) if mu is None else torch.full((frames,), mu)


def error(y, expected):
    """Relative RMS error."""
    return ((y.double() - expected).norm() / expected.norm()).item()


def bound(kernels, dtype, reference):
    """At most 1.1 times the reference's own error; the interpreter cuts float32 off to bf16, where
    a GPU rounds, which doubles the error. 1e-7 is float32's own rounding."""
    cut = dtype == torch.bfloat16 and kernels is not plain and not isinstance(kernels, Compiled)
    return (2.2 if cut else 1.1) * reference + 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mu", MUS)
def test_scan_is_eq_2(kernels, dtype, shape, mu):
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    kept = k.clone()
    values = momenta(mu, shape[1], generator)
    scanned, finals = kernels.momentum_scan((k, v), values)
    reference, _ = kernels.momentum_scan_reference((k, v), values)
    for x, y, final, ours in zip((k, v), scanned, finals, reference, strict=True):
        expected = exact(x, values)
        assert error(y, expected) <= bound(kernels, dtype, error(ours, expected))
        torch.testing.assert_close(final.double(), expected[:, -1], rtol=2e-6, atol=2e-6)
        assert y.dtype == dtype
        assert final.dtype == torch.float32
        assert y.shape == x.shape
    assert k.equal(kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mu", MUS)
def test_norm_and_scan_in_one(kernels, dtype, shape, mu):
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator) + 1).to(dtype)
    weight, bias = (torch.randn(shape[-1:], generator=generator).to(dtype) for _ in range(2))
    values = momenta(mu, shape[1], generator)
    normed, scanned, final = kernels.norm_momentum_scan(x, weight, bias, values)
    h = F.layer_norm(x.double(), shape[-1:], weight.double(), bias.double())
    theirs = F.layer_norm(x, shape[-1:], weight, bias)
    expected = exact(h, values)
    reference = kernels.momentum_scan_reference((theirs,), values)[0][0]
    # A row of one value is its bias: exactly right or wrong, without a scale for an error.
    assert error(normed, h) <= bound(kernels, dtype, error(theirs, h)) + 1e-6
    assert error(scanned, expected) <= bound(kernels, dtype, error(reference, expected)) + 1e-6
    # The state may average rows that were rounded to dtype: half of its eps each, or less.
    assert error(final, expected[:, -1]) <= torch.finfo(dtype).eps / 2 + 1e-6


def test_the_last_state_can_be_left_out(kernels):
    generator = torch.Generator().manual_seed(0)
    x, mu = torch.randn(2, 4, 11, 3, generator=generator), torch.rand(4, generator=generator)
    start, weight, bias = torch.randn(2, 11, 3, generator=generator), torch.ones(3), torch.zeros(3)
    for initial in (None, start):
        states = None if initial is None else (initial,)
        (y,), finals = kernels.momentum_scan((x,), mu, states, False)
        assert y.equal(kernels.momentum_scan((x,), mu, states)[0][0])
        assert finals == ()
        *rows, final = kernels.norm_momentum_scan(x, weight, bias, mu, initial, 1e-5, False)
        expected = kernels.norm_momentum_scan(x, weight, bias, mu, initial)
        assert all(a.equal(b) for a, b in zip(rows, expected[:2], strict=True))
        assert final is None


@pytest.mark.parametrize("split", range(1, 8))
def test_the_state_can_be_handed_over_anywhere(kernels, split):
    generator = torch.Generator().manual_seed(0)
    x, mu = torch.randn(2, 8, 11, 3, generator=generator), torch.rand(8, generator=generator)
    weight, bias = torch.randn(3, generator=generator), torch.randn(3, generator=generator)
    close = {"rtol": 2e-6, "atol": 2e-6}  # float32 sums in another order

    for run in (kernels.momentum_scan, kernels.momentum_scan_reference):
        head, state = run((x[:, :split],), mu[:split])
        tail, final = run((x[:, split:],), mu[split:], state)
        whole, last = run((x,), mu)
        torch.testing.assert_close(torch.cat([*head, *tail], dim=1), whole[0], **close)
        torch.testing.assert_close(final, last, **close)

    _, head, state = kernels.norm_momentum_scan(x[:, :split], weight, bias, mu[:split])
    _, tail, final = kernels.norm_momentum_scan(x[:, split:], weight, bias, mu[split:], state)
    _, whole, last = kernels.norm_momentum_scan(x, weight, bias, mu)
    torch.testing.assert_close(torch.cat([head, tail], dim=1), whole, **close)
    torch.testing.assert_close(final, last, **close)


def test_a_packed_projection_is_read_in_place(kernels):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 4, 6, 3 * 10, generator=generator)
    mu = torch.rand(4, generator=generator)
    _, k, v = qkv.chunk(3, dim=-1)
    for y, x in zip(kernels.momentum_scan((k, v), mu)[0], (k, v), strict=True):
        torch.testing.assert_close(y.double(), exact(x, mu), rtol=2e-6, atol=2e-6)
    heads = k.unflatten(-1, (2, 5)).transpose(2, 3)  # (B, F, heads, N, d): no single row stride
    mixed = (heads, v.unflatten(-1, (2, 5)).transpose(2, 3).contiguous())
    for y, x in zip(kernels.momentum_scan(mixed, mu)[0], mixed, strict=True):
        torch.testing.assert_close(y.double(), exact(x, mu), rtol=2e-6, atol=2e-6)


def test_strides_may_differ_in_everything(kernels):
    """K a part of a wider row beside a V of its own; columns, states and momenta with gaps."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    close = {"rtol": 2e-6, "atol": 2e-6}  # float32 sums in another order
    packed, mu = randn(2, 4, 6, 30)[..., 10:20], torch.rand(8, generator=generator)[::2]
    for xs in ((packed, packed.contiguous()), (packed.contiguous(), packed)):
        for y, x in zip(kernels.momentum_scan(xs, mu)[0], xs, strict=True):
            torch.testing.assert_close(y.double(), exact(x, mu), **close)

    turned = randn(2, 4, 10, 6).transpose(2, 3)  # (B, F, N, C), C with a stride of 6
    initial = randn(2, 10, 6).transpose(1, 2)
    kept = initial.clone()
    weight, bias = randn(20)[::2], randn(30)[::3]
    normed = F.layer_norm(turned.double(), (10,), weight.double(), bias.double())
    for state in (None, initial):
        (y,), _ = kernels.momentum_scan((turned,), mu, None if state is None else (state,))
        torch.testing.assert_close(y.double(), exact(turned, mu, state), **close)
        h, y, _ = kernels.norm_momentum_scan(turned, weight, bias, mu, state)
        torch.testing.assert_close(h.double(), normed, rtol=2e-5, atol=2e-5)
        torch.testing.assert_close(y.double(), exact(normed, mu, state), rtol=2e-5, atol=2e-5)
    assert initial.equal(kept)


def test_a_carried_state_stays_as_it_was(kernels):
    generator = torch.Generator().manual_seed(0)
    x, state = (torch.randn(s, generator=generator) for s in ((2, 3, 8, 4), (2, 8, 4)))
    kept = state.clone()
    kernels.momentum_scan((x,), torch.full((3,), 0.5), (state,))
    kernels.norm_momentum_scan(x, torch.ones(4), torch.zeros(4), torch.full((3,), 0.5), state)
    assert state.equal(kept)


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_the_norms_epsilon(kernels, eps):
    """Rows whose variance is as small as epsilon."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(1, 3, 5, 8, generator=generator)
    x[:, 1] *= 0.01
    mu = torch.tensor([0.0, 0.5, 0.9])
    weight, bias = torch.randn(2, 8, generator=generator)
    h = F.layer_norm(x.double(), (8,), weight.double(), bias.double(), eps)
    normed, scanned, _ = kernels.norm_momentum_scan(x, weight, bias, mu, None, eps)
    torch.testing.assert_close(normed.double(), h, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(scanned.double(), exact(h, mu), rtol=2e-5, atol=2e-5)


def test_float64_is_computed_in_float64(kernels):
    generator = torch.Generator().manual_seed(0)
    x, state = (torch.randn(s, generator=generator).double() for s in ((2, 4, 6, 5), (2, 6, 5)))
    mu = torch.rand(4, generator=generator).double()
    weight, bias = torch.randn(2, 5, generator=generator).double()
    h = F.layer_norm(x, (5,), weight, bias)
    for initial in (None, state):
        (y,), (final,) = kernels.momentum_scan((x,), mu, None if initial is None else (initial,))
        normed, scanned, last = kernels.norm_momentum_scan(x, weight, bias, mu, initial)
        assert error(y, exact(x, mu, initial)) < 1e-14
        assert error(normed, h) < 1e-14
        assert error(scanned, exact(h, mu, initial)) < 1e-14
        assert final.dtype == last.dtype == torch.float64
        assert error(final, exact(x, mu, initial)[:, -1]) < 1e-14
    with pytest.raises(ValueError, match=r"initial is torch\.float32, expected torch\.float64"):
        kernels.momentum_scan((x,), mu, (state.float(),))


@GPU
def test_more_values_than_32_bits_count():
    values = 2**30 + 8  # of a frame: two frames have more than 2^31
    x = torch.ones(1, 2, values, 1, dtype=torch.bfloat16, device="cuda")
    x[:, 1] = 3
    (y,), final = plain.momentum_scan((x,), torch.full((2,), 0.5, device="cuda"))
    assert y[:, 0].eq(1).all()
    assert y[:, 1].eq(2).all()
    assert final[0].eq(2).all()


def test_the_final_state_may_take_the_first_ones_place(kernels):
    generator = torch.Generator().manual_seed(0)
    x, mu = torch.randn(2, 3, 9, 5, generator=generator), torch.tensor([0.4, 0.5, 0.25])
    norm, first = (torch.ones(5), torch.zeros(5)), torch.randn(2, 9, 5, generator=generator)
    expected = kernels.norm_momentum_scan(x, *norm, mu, first.clone())
    made = kernels.norm_momentum_scan(x, *norm, mu, first, out=first)
    assert made[2] is first
    for ours, theirs in zip(made, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_are_the_references(kernels):
    x, mu = torch.randn(1, 3, 4, 5, requires_grad=True), torch.tensor([0.0, 0.5, 0.25])
    weight, bias = torch.ones(5, requires_grad=True), torch.zeros(5)
    (y,), _ = kernels.momentum_scan((x,), mu)
    # Frame 1 counts whole in itself, half in frame 2, an eighth in frame 3.
    expected = torch.tensor([1.625, 0.625, 0.75]).view(1, 3, 1, 1).expand_as(x)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], expected)
    _, scanned, _ = kernels.norm_momentum_scan(x.detach(), weight, bias, mu)
    assert torch.autograd.grad(scanned.square().sum(), weight)[0].count_nonzero() == 5
    # A momentum that is learnt, and a chunk that goes on from one with gradients.
    learnt, initial = (mu + 0.1).requires_grad_(), torch.randn(1, 4, 5, requires_grad=True)
    for y in (
        kernels.momentum_scan((x.detach(),), learnt, (initial,))[0][0],
        kernels.norm_momentum_scan(x.detach(), weight.detach(), bias, learnt, initial)[1],
    ):
        assert all(g.any() for g in torch.autograd.grad(y.square().sum(), (learnt, initial)))


def test_mu_0_and_1_are_exact(kernels):
    x = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    assert kernels.momentum_scan((x,), torch.zeros(5))[0][0].equal(x)
    assert kernels.momentum_scan((x,), torch.ones(5))[0][0].equal(x[:, :1].expand_as(x))


@pytest.mark.parametrize(
    ("tensors", "mu", "initial", "message"),
    [
        ([torch.zeros(2, 5, 9)], torch.ones(4), None, "each of 5 frames"),
        ([torch.zeros(2, 5, 9)], torch.ones(5), [torch.ones(2, 3)], "expected"),
        ([torch.zeros(2, 5, 9)], torch.ones(5), [], "0 initial states"),
        ([torch.zeros(2, 5, 9), torch.zeros(2, 5, 8)], torch.ones(5), None, "alike"),
        ([torch.zeros(2, 5, 9), torch.zeros(2, 5, 9).half()], torch.ones(5), None, "alike"),
        ([], torch.ones(5), None, "at least one"),
        ([torch.ones(1, 5, 2, dtype=torch.int64)], torch.ones(5), None, "floating point"),
        ([torch.zeros(2, 5, 9)], torch.ones(5), [torch.ones(2, 9).half()], "float16"),
        ([torch.zeros(2, 5, 9)], torch.ones(5, device="meta"), None, "on c.*, mu or initial on"),
        ([torch.zeros(2, 5, 9)], torch.ones(5), [torch.ones(2, 9, device="meta")], "on meta"),
        (torch.zeros(2, 5, 9), torch.ones(5), None, "give a sequence of tensors"),
        ([[1.0, 2.0]], torch.ones(2), None, "takes tensors, and mu as one too, not list"),
        ([torch.zeros(2, 5, 9)], [0.5] * 5, None, "takes tensors, and mu as one too, not list"),
        ([torch.zeros(2, 5, 9)], torch.ones(5), [0.5], "takes tensors, .* not float"),
        ([torch.zeros(5)], torch.ones(()), None, r"tensors are \[B, F, ...\], not \[5\]"),
    ],
)
def test_what_does_not_fit_is_refused(kernels, tensors, mu, initial, message):
    with pytest.raises(ValueError, match=message):
        kernels.momentum_scan(tensors, mu, initial)


@pytest.mark.parametrize(
    ("mu", "told"),
    [
        ([0.5, 1.01, 0.5], r"0\.5\.\.1\.01"),
        ([0.5, -0.01, 0.5], r"-0\.01\.\.0\.5"),
        ([0.5, float("nan"), 0.5], r"nan\.\.nan"),
    ],
)
def test_a_momentum_outside_0_to_1_is_refused(kernels, mu, told):
    if isinstance(kernels, Compiled):
        pytest.skip("a GPU's values are not looked at")
    told = rf"mu must lie in 0\.\.1, got {told}"
    with pytest.raises(ValueError, match=told):
        kernels.momentum_scan([torch.zeros(2, 3, 9)], torch.tensor(mu))
    with pytest.raises(ValueError, match=told):
        kernels.norm_momentum_scan(
            torch.zeros(2, 3, 9, 4), torch.ones(4), torch.zeros(4), torch.tensor(mu)
        )


def test_a_norm_that_does_not_fit_is_refused(kernels):
    with pytest.raises(ValueError, match=r"expected \[B, F, N, C\]"):
        kernels.norm_momentum_scan(
            torch.zeros(1, 2, 3, 4), torch.ones(5), torch.ones(4), torch.ones(2)
        )


@pytest.mark.parametrize("initial", [False, True])
def test_blocks_of_rows_are_the_whole(monkeypatch, initial):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 31, 7, generator=generator)
    mu = torch.rand(5, generator=generator)
    start = (torch.randn(2, 31, 7, generator=generator),) if initial else None
    expected, (last,) = plain.momentum_scan_reference((x,), mu, start)
    monkeypatch.setattr(scan, "CPU_BLOCK", 64)  # 4 of 31 rows
    scanned, (final,) = plain.momentum_scan((x,), mu, start)
    torch.testing.assert_close(scanned, expected)
    torch.testing.assert_close(final, last)


@pytest.mark.parametrize("environment", [{}, {"TRITON_INTERPRET": "1"}])
def test_the_file_works_alone(tmp_path, environment):
    if environment and BROKEN:
        pytest.skip("Triton's interpreter before 3.7 needs numpy before 2.4")
    shutil.copy(FILE, tmp_path)
    code = (
        "import sys, torch; from momentum_scan import momentum_scan, triton\n"
        "(y,), _ = momentum_scan([torch.tensor([[1.0, 3.0]])], torch.tensor([0.5, 0.5]))\n"
        "print(y.tolist(), triton is not None)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.startswith("[[1.0, 2.0]]")
    assert out.stdout.endswith("True\n" if environment or torch.version.cuda else "False\n")
