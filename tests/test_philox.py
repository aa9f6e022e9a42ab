"""The generator against the published vectors and against Triton's own."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zs2.kernels.philox import box_muller, cuda_randn, normal, philox4x32

# Random123's known answers: counter, 64-bit key (high word first), result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", -1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        0x299F31D0_A4093822,
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

TRITON = """
import sys, torch, triton
import triton.language as tl

@triton.jit
def kernel(out_ptr, seed, frame, candidate, size: tl.constexpr):
    index = tl.arange(0, size)
    zero = (index * 0).to(tl.uint32)
    words = tl.philox(seed, index.to(tl.uint32), zero + frame, zero + candidate, zero)
    u1 = tl.uint_to_uniform_float(words[0])
    u2 = tl.uint_to_uniform_float(words[1])
    u3 = tl.uint_to_uniform_float(words[2])
    u4 = tl.uint_to_uniform_float(words[3])
    n1, n2 = tl.pair_uniform_to_normal(u1, u2)
    n3, n4 = tl.pair_uniform_to_normal(u3, u4)
    tl.store(out_ptr + 4 * index, n1)
    tl.store(out_ptr + 4 * index + 1, n2)
    tl.store(out_ptr + 4 * index + 2, n3)
    tl.store(out_ptr + 4 * index + 3, n4)

@triton.jit
def kernel_4x(out_ptr, seed, size: tl.constexpr):
    index = tl.arange(0, size)
    n1, n2, n3, n4 = tl.randn4x(seed, index)
    tl.store(out_ptr + 4 * index, n1)
    tl.store(out_ptr + 4 * index + 1, n2)
    tl.store(out_ptr + 4 * index + 2, n3)
    tl.store(out_ptr + 4 * index + 3, n4)

seed, frame, candidate, size, path = *map(int, sys.argv[1:5]), sys.argv[5]
addressed, plain = torch.empty(size, 4), torch.empty(size, 4)
kernel[(1,)](addressed, seed, frame, candidate, size)
kernel_4x[(1,)](plain, seed, size)
torch.save((addressed, plain), path)
"""


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: int, answer: str) -> None:
    c0, c1, c2, c3 = (torch.tensor(int(word, 16)) for word in counter.split())
    words = philox4x32((c0, c1, c2, c3), torch.tensor(key))
    assert " ".join(f"{int(word):08x}" for word in words) == answer


def test_same_numbers_as_triton(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    (tmp_path / "kernel.py").write_text(TRITON)
    seed, frame, candidate, size = 2**62 + 2**33 + 5, 63, 9, 256
    args = [sys.executable, "kernel.py", str(seed), str(frame), str(candidate), str(size), "out.pt"]
    # A process of its own: triton reads the variable when it is first imported.
    subprocess.run(args, cwd=tmp_path, env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)
    addressed, plain = torch.load(tmp_path / "out.pt")

    index, zero, key = torch.arange(size), torch.tensor(0), torch.tensor(seed)
    ours = normal((index, zero + frame, zero + candidate, zero), key)
    torch.testing.assert_close(ours, addressed, rtol=1e-6, atol=2e-6)
    ours = normal((index, zero, zero, zero), key)
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=2e-6)


def test_the_word_zero_has_a_logarithm() -> None:
    """Triton's floor of 1e-7 for the uniform number."""
    radius, _ = box_muller(torch.tensor(0), torch.tensor(0))
    assert radius.item() == pytest.approx((-2 * math.log(1e-7)) ** 0.5)


def test_the_stream_of_a_cuda_device() -> None:
    """torch.randn(2, 4, device="cuda") after manual_seed(0)."""
    expected = torch.tensor(
        [
            [-0.9246624, -0.425344, -2.6438458, 0.14518388],
            [-0.12086651, -0.5797257, -0.6228513, -0.32838714],
        ]
    )
    torch.testing.assert_close(cuda_randn(0, (2, 4)), expected, rtol=0, atol=1e-6)


def test_the_counter_of_a_cuda_device() -> None:
    """Each thread has a subsequence, words 3 and 4, and goes on by one block a call, word 1."""
    for value, offset in ((0, 1), (5, 2)):
        counter = torch.tensor([offset, 0, value, 0]).unbind()
        word1, word2, _, _ = (int(word) for word in philox4x32(counter, torch.tensor(9)))
        radius = math.sqrt(-2 * math.log((word1 + 0.5) / 2**32))
        expected = radius * math.sin(math.tau * (word2 + 0.5) / 2**32)
        assert cuda_randn(9, (8,), offset)[value].item() == pytest.approx(expected, rel=1e-6)


def test_a_cuda_devices_next_call_is_fresh() -> None:
    calls = torch.stack([cuda_randn(3, (4, 32, 32), offset) for offset in range(3)]).flatten(1)
    assert (torch.corrcoef(calls) - torch.eye(3)).abs().max() < 5 / 64
    assert abs(calls.mean()) < 0.03
    assert abs(calls.std() - 1) < 0.03
    assert not torch.equal(cuda_randn(2**63 + 3, (8,)), cuda_randn(3, (8,)))  # all 64 bits count


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_same_numbers_as_a_cuda_device() -> None:
    generator = torch.Generator("cuda").manual_seed(5)
    for offset in range(3):
        theirs = torch.randn((1, 4, 64, 64), generator=generator, device="cuda").cpu()
        ours = cuda_randn(5, (1, 4, 64, 64), offset)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
