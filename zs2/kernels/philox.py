"""Philox-4x32-10: normal numbers addressed by a counter instead of drawn from a state.

The same address gives the same number on every device, in every order and in any batch. Counters,
key and the conversion to normals are those of Triton's `tl.philox` and `tl.randn4x`, so a kernel
can make the same numbers where it needs them. Plain torch, no other file of zs2 is needed.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and
triton.language.random.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WORD = 0xFFFFFFFF  # words are unsigned 32-bit integers, kept in int64 tensors
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low word of the 64-bit product `word * multiplier`, for a multiplier >= 2^31."""
    # The product itself can pass 2^63. With the negative multiplier - 2^32 it can't, and what that
    # takes away, word * 2^32, is `word` in the high half.
    product = word * (multiplier - 2**32)
    return (product >> 32) + word, product & WORD


def philox4x32(counter: Words, seed: Tensor) -> Words:
    """Four random words for each counter.

    Args:
        counter: four int64 tensors of words in [0, 2^32) that broadcast with each other.
        seed: int64, broadcasting with the counter; its 64 bits are the key.

    Returns:
        Four int64 tensors of words, of the broadcast shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & WORD, (seed >> 32) & WORD
    for _ in range(ROUNDS):
        high0, low0 = multiply(c0, MULTIPLIERS[0])
        high2, low2 = multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def uniform(word: Tensor) -> Tensor:
    """Words to float32 in [0, 1), as Triton's `uint_to_uniform_float`."""
    # Triton reads the word as int32 and flips the negative ones: the smaller of word and ~word.
    return torch.minimum(word, word ^ WORD).float() * 4.6566127342e-10


def box_muller(word1: Tensor, word2: Tensor) -> tuple[Tensor, Tensor]:
    """Two words to two float32 normals, as Triton's `pair_uniform_to_normal`."""
    radius = uniform(word1).clamp(min=1e-7).log().mul(-2.0).sqrt()
    angle = uniform(word2) * math.tau
    return radius * angle.cos(), radius * angle.sin()


def normal(counter: Words, seed: Tensor) -> Tensor:
    """Four standard normals for each counter, as Triton's `tl.randn4x`.

    Args:
        counter, seed: as for `philox4x32`.

    Returns:
        float32, the broadcast shape with a last dimension of 4 added.
    """
    word1, word2, word3, word4 = philox4x32(counter, seed)
    return torch.stack((*box_muller(word1, word2), *box_muller(word3, word4)), dim=-1)


def cuda_randn(seed: int, shape: Sequence[int], offset: int = 0) -> Tensor:
    """What `torch.randn` gives on a CUDA device: the same generator, read in another way.

    Value i has the counter (offset, 0, i, 0) and takes the first of its four normals. A GPU with
    fewer threads than there are values takes the others too, and its numbers are not these.

    Args:
        seed: of the generator, in [0, 2^64).
        shape: of the noise.
        offset: how many calls the generator has answered since it was seeded.

    Returns:
        float32 on the CPU. Logarithm and sine are taken in float64: a GPU's differ by some 1e-6.

    Source: torch's DistributionTemplates.h and curand_kernel.h; stable-diffusion-webui's
    rng_philox.py has the same stream.
    """
    value = torch.arange(math.prod(shape))
    zero = torch.zeros((), dtype=torch.int64)
    key = torch.tensor(seed - 2**64 if seed >= 2**63 else seed)  # the same 64 bits, signed
    word1, word2, _, _ = philox4x32((zero + offset, zero, value, zero), key)
    radius = ((word1.double() + 0.5) / 2**32).log().mul(-2).sqrt()
    angle = (word2.double() + 0.5) / 2**32 * math.tau
    return (radius * angle.sin()).float().reshape(tuple(shape))
