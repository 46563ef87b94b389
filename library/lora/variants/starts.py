"""Initial factors of a LoRA, computed from the patched weight: PiSSA, OLoRA, orthogonal factors."""

from __future__ import annotations

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor]  # A (down) [rank, in], B (up) [out, rank]
_SIZE = 0.1  # scale of the orthogonal factors, as in PEFT


def pissa(weight: Tensor, rank: int, scale: float) -> Factors:
    """A = √(S/s)·Vᵀ and B = U·√(S/s) of the `rank` largest singular values S of W [out, in], so that s·BA is the best approximation of W
    with that rank (Meng et al. 2024, eq. 2 and 3; the division by s = alpha/rank is PEFT's).

    U or V are eigenvectors of the smaller of WWᵀ and WᵀW, computed in float64: no slower than a whole SVD in float32.
    """
    matrix = weight.double()
    wide = matrix.shape[1] >= matrix.shape[0]
    if not wide:
        matrix = matrix.T
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)  # from the smallest to the largest eigenvalue
    left = vectors[:, -rank:].flip(1)
    right = left.T @ matrix  # S·Vᵀ
    values = torch.linalg.vector_norm(right, dim=1).clamp(min=torch.finfo(right.dtype).tiny)
    short, long = left * (values / scale).sqrt(), right / (values * scale).sqrt()[:, None]
    return (long, short) if wide else (short.T, long.T)


def olora(weight: Tensor, rank: int, scale: float) -> Factors:
    """A = R[:rank] and B = Q[:, :rank] of W = QR (Büyükakyüz 2024, eq. 3 and 4); s·BA is subtracted from W.

    The first columns of Q are those of the first columns of W, and the rows of R are QᵀW.
    """
    matrix = weight.double()
    columns, _ = torch.linalg.qr(matrix[:, :rank])
    return columns.T @ matrix, columns


def orthogonal(weight: Tensor, rank: int, scale: float) -> Factors:
    """A = (X·Q₁)ᵀ and B = Yᵀ·Q₂ of random X and Y and the odd and even rows of a random orthogonal matrix, so that BA = 0 with nonzero A
    and B (Datta 2024, "Rethinking LoRA initialisation", as in PEFT). `rank` is even; drawn from torch's global random state.
    """
    out, size = weight.shape
    turned, _ = torch.linalg.qr(torch.randn(rank, rank, dtype=torch.float64))
    down = (torch.randn(size, rank // 2, dtype=torch.float64) @ turned[0::2]).T * _SIZE
    up = torch.randn(rank // 2, out, dtype=torch.float64).T @ turned[1::2] * _SIZE
    return down, up
