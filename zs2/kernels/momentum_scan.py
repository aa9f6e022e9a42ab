"""The momentum scan over frames (Eq. 2): y_1 = x_1, y_i = mu_i y_{i-1} + (1 - mu_i) x_i.

Takes plain tensors and knows nothing of zs2: copy this file alone and it works.
"""

import torch
from torch import Tensor


def momentum_scan(x: Tensor, mu: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Running average over frames, exact across chunks (section 4.1, Eq. 2).

    Args:
        x: [B, F, ...], any floating dtype.
        mu: [F], momentum of each frame in 0..1.
        initial: [B, ...] float32, the final state of the frames before these; None where a clip
            begins, and then mu[0] has no effect.

    Returns:
        y [B, F, ...] in x's dtype, and the final state [B, ...] in float32: hand it to the next
        chunk as `initial`, and any split of the frames gives the same clip.

    Raises:
        ValueError: mu is not one value a frame, or initial does not fit x.
    """
    if mu.shape != x.shape[1:2]:
        raise ValueError(f"mu must hold one value for each of {x.shape[1]} frames: {[*mu.shape]}")
    if initial is not None and initial.shape != x[:, 0].shape:
        raise ValueError(f"initial is {[*initial.shape]}, expected {[*x[:, 0].shape]}")
    return _matrix_scan(x, mu, initial)


def momentum_scan_reference(
    x: Tensor, mu: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Eq. 2 read aloud, in float32: the definition that every faster form is tested against."""
    frames, state = [], initial
    for x_i, mu_i in zip(x.float().unbind(1), mu.float(), strict=True):
        state = x_i if state is None else mu_i * state + (1 - mu_i) * x_i
        frames.append(state)
    return torch.stack(frames, dim=1).to(x.dtype), frames[-1]


def coefficients(mu: Tensor) -> Tensor:
    """[F, F] lower triangular matrix U with y = U x for mu [F]; its rows sum to 1 where mu[0] = 0.

    U_ij = (1 - mu_j) mu_{j+1} .. mu_i: the paper's matrix, transposed, for frames that come first.
    """
    frames = len(mu)
    # Column j of the product holds mu_{j+1}, .., mu_i below the diagonal and ones elsewhere.
    below = torch.ones(frames, frames, device=mu.device).tril(-1).bool()
    decay = torch.where(below, mu[:, None], 1.0).cumprod(0).tril()
    return decay * (1 - mu)


def _matrix_scan(x: Tensor, mu: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    # One product with U reads x once: near copy speed on a CPU, where a loop makes
    # several passes a frame.
    mu = mu.float()
    if initial is None:
        mu = torch.cat([torch.zeros_like(mu[:1]), mu[1:]])
    y = coefficients(mu) @ x.reshape(*x.shape[:2], -1).float()
    if initial is not None:
        y = y + mu.cumprod(0)[:, None] * initial.reshape(len(x), 1, -1)
    return y.to(x.dtype).view(x.shape), y[:, -1].reshape(x[:, 0].shape)
