"""What an adapter adds to a weight: LoRA and its relatives, each as a change of the whole matrix.

W is a weight [out, in] or [out, in, k, k] in float32, V = W + dW. The formulas are the trainers':
LoRA (Hu et al., 2106.09685), DoRA (Liu et al., 2402.09353), and LyCORIS (Yeh et al., 2309.14859)
for LoHa, LoKr, GLoRA, Diag-OFT and (IA)^3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Method:
    """One way to store a change.

    Attributes:
        name: as people call it.
        needs: the parts that it is told by, in the words of `zs2.checkpoint.lora`.
        make: W and the parts become dW, whose rows may be flat.
        takes: further parts that it understands.
        target: which tensor of a layer it changes, "weight" or "bias".
    """

    name: str
    needs: frozenset[str]
    make: Callable[[Tensor, Parts], Tensor]
    takes: frozenset[str] = frozenset()
    target: str = "weight"


def change(method: Method, weight: Tensor, parts: Parts) -> Tensor:
    """dW of a float32 weight, in its shape, at strength 1. At half the strength half is added, also
    where a formula is not linear (DoRA, OFT with a scale), which other programs do in their ways.

    Raises:
        ValueError: the parts make no change of this shape.
    """
    try:
        made = _fitted(method.make(weight, parts), weight)
        if DORA & parts.keys():
            made = _decomposed(weight + made, parts) - weight
    except (
        RuntimeError,
        IndexError,
        TypeError,
    ) as error:  # torch's, of parts that do not fit each other
        raise ValueError(f"parts that fit no weight of shape {[*weight.shape]}") from error
    return made


def _fitted(made: Tensor, weight: Tensor) -> Tensor:
    """A change in the shape of its weight, if both have the same rows."""
    if made.reshape(len(made), -1).shape != weight.reshape(len(weight), -1).shape:
        raise ValueError(f"a change of shape {[*made.shape]} for a weight of {[*weight.shape]}")
    return made.reshape(weight.shape)


def _scale(parts: Parts, rank: int) -> float:
    """alpha / rank; 1 where there is no alpha, or 0, which trainers take for none."""
    if "scale" in parts:
        return parts["scale"].item()
    alpha = parts["alpha"].item() if "alpha" in parts else 0
    return alpha / rank if alpha else 1.0


def _product(up: Tensor, down: Tensor, middle: Tensor | None = None) -> Tensor:
    """up [out, r, ..] times down [r, in, ..], or with a core [r, r, k, k] between them."""
    up, down = up.flatten(1), down.flatten(1)
    return up @ down if middle is None else torch.einsum("mnxy,im,nj->ijxy", middle, up, down)


def _lora(_: Tensor, parts: Parts) -> Tensor:
    up, down = parts["up"], parts["down"]
    return _scale(parts, len(down)) * _product(up, down, parts.get("mid"))


def _of_low_rank(parts: Parts, name: str, core: Tensor | None) -> Tensor:
    """Factors a [out, r] and b [r, in]; with a core [r, r, k, k], a is [r, out]."""
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    return a @ b if core is None else torch.einsum("mnxy,mi,nj->ijxy", core, a, b)


def _loha(_: Tensor, parts: Parts) -> Tensor:
    """The entrywise product of two matrices of low rank."""
    one, two = (_of_low_rank(parts, f"hada_w{i}", parts.get(f"hada_t{i}")) for i in (1, 2))
    return _scale(parts, len(parts["hada_w1_b"])) * one * two


def _lokr(_: Tensor, parts: Parts) -> Tensor:
    """The Kronecker product of a small and a large matrix, each whole or of low rank."""
    pair, rank = [], 0
    for name, core in (("lokr_w1", None), ("lokr_w2", parts.get("lokr_t2"))):
        if name in parts:
            pair.append(parts[name])
        else:
            pair.append(_of_low_rank(parts, name, core))
            rank = len(parts[f"{name}_b"])
    small, large = pair
    small = small.reshape(*small.shape, *[1] * (large.ndim - small.ndim))
    # Of two whole matrices, alpha means nothing.
    factor = _scale(parts, rank) if rank or "scale" in parts else 1.0
    return factor * torch.kron(small, large.contiguous())


def _glora(weight: Tensor, parts: Parts) -> Tensor:
    """W A + B, both of low rank."""
    a1, a2, b1, b2 = (parts[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    # Older files name the two factors the other way round: only one order fits the weight.
    if len(b1) != len(weight) or len(a1) != weight.shape[1]:
        (a1, a2), (b1, b2) = (a2, a1), (b2, b1)
    turned = torch.einsum("oi...,ij->oj...", weight, a1 @ a2)
    return _scale(parts, len(a2)) * (turned + _fitted(_product(b1, b2, parts.get("bm")), weight))


def _oft(weight: Tensor, parts: Parts) -> Tensor:
    """Output rows turn in blocks of b, by the Cayley transform of a skew-symmetric Q.

    alpha times the number of rows is the largest norm that Q may have, if it is above 0.
    """
    blocks = parts["oft"]
    if blocks.ndim != 3:
        raise ValueError("a BOFT, which zs2 does not support")
    q = blocks - blocks.transpose(1, 2)  # (out/b, b, b)
    limit = parts["alpha"].item() * len(weight) if "alpha" in parts else 0
    if 0 < limit < q.norm():
        q = q * (limit / q.norm())
    one = torch.eye(q.shape[1], device=q.device)
    turn = torch.linalg.solve(one - q, one + q, left=False)
    # Rows are as many as the blocks have in all, or this raises.
    rows = turn.transpose(1, 2) @ weight.reshape(len(q), q.shape[1], *weight.shape[1:]).flatten(2)
    if "rescale" in parts:
        rows = rows.reshape(len(weight), -1) * parts["rescale"].reshape(-1, 1)
    return rows.reshape(weight.shape) - weight


def _ia3(weight: Tensor, parts: Parts) -> Tensor:
    """Output rows, or input columns, grow by a share of their own."""
    columns = bool(parts["on_input"].item())
    before, after = (1,) if columns else (), (1,) * (weight.ndim - 1 - columns)
    return weight * parts["factor"].reshape(*before, -1, *after)


def _decomposed(v: Tensor, parts: Parts) -> Tensor:
    """DoRA: V, with the norm of each output row, or input column, set to a magnitude m.

    The norm is that of V, as in training; some programs take that of W for rows.
    """
    if "magnitude" in parts:  # PEFT's: one for each row
        m = parts["magnitude"].reshape(-1, *[1] * (v.ndim - 1))
    else:
        m = parts["dora"].reshape(*parts["dora"].shape, *[1] * (v.ndim - parts["dora"].ndim))
    kept = 0 if len(m) == len(v) else 1
    others = [dim for dim in range(v.ndim) if dim != kept]
    norm = torch.linalg.vector_norm(v, dim=others, keepdim=True) + torch.finfo(v.dtype).eps
    return _fitted(v * (m / norm), v)


def _replacement(weight: Tensor, parts: Parts) -> Tensor:
    return _fitted(parts["set"], weight) - weight


def _one(name: str) -> Callable[[Tensor, Parts], Tensor]:
    return lambda _, parts: parts[name]


DORA = frozenset({"dora", "magnitude"})
_LOW_RANK = DORA | {"alpha", "scale"}
_HADAMARD = frozenset(f"hada_w{i}_{x}" for i in (1, 2) for x in "ab")
_KRONECKER = product(
    ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"}), ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"})
)
METHODS = (
    Method("LoRA", frozenset({"up", "down"}), _lora, _LOW_RANK | {"mid"}),
    Method("LoHa", _HADAMARD, _loha, _LOW_RANK | {"hada_t1", "hada_t2"}),
    *(Method("LoKr", frozenset(a | b), _lokr, _LOW_RANK | {"lokr_t2"}) for a, b in _KRONECKER),
    Method("GLoRA", frozenset({"a1", "a2", "b1", "b2"}), _glora, frozenset({"alpha", "bm"})),
    Method("OFT", frozenset({"oft"}), _oft, frozenset({"alpha", "rescale"})),
    Method("IA3", frozenset({"factor", "on_input"}), _ia3),
    Method("full", frozenset({"diff"}), _one("diff")),
    Method("full", frozenset({"diff_b"}), _one("diff_b"), target="bias"),
    Method("norm", frozenset({"w_norm"}), _one("w_norm")),
    Method("norm", frozenset({"b_norm"}), _one("b_norm"), target="bias"),
    Method("replacement", frozenset({"set"}), _replacement),
)
