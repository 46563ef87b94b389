"""Products of two thin matrices, as in LoRA modules: singular values, norms and best approximations, without forming the product."""

from __future__ import annotations

import torch
from torch import Tensor

from library.lora.files import ModuleWeights

Svd = tuple[Tensor, Tensor, Tensor]  # U [out, k], singular values [k] falling, Vᵀ [k, in]
NEGLIGIBLE = 1e-6  # singular values below this share of the largest are rounding errors


def svd_of_product(up: Tensor, down: Tensor) -> Svd:
    """The SVD of up·down from two QR decompositions and a rank × rank SVD; `up` [out, r], `down` [r, in], both float32."""
    rows, right = torch.linalg.qr(up)
    columns, left = torch.linalg.qr(down.T)
    u, values, vh = torch.linalg.svd(right @ left.T, full_matrices=False)
    return rows @ u, values, vh @ columns.T


def svd_of_matrix(matrix: Tensor) -> Svd:
    """The SVD of a full matrix [out, in], float32; a much longer side is first reduced by a QR decomposition."""
    out, size = matrix.shape
    if size > out:
        u, values, vh = svd_of_matrix(matrix.T)
        return vh.T, values, u.T
    columns, square = torch.linalg.qr(matrix)
    u, values, vh = torch.linalg.svd(square, full_matrices=False)
    return columns @ u, values, vh


def on_cpu(svd: Svd) -> Svd:
    """Move the SVD to the CPU."""
    u, values, vh = svd
    return u.cpu(), values.cpu(), vh.cpu()


def product_norm(up: Tensor, down: Tensor) -> float:
    """‖up·down‖ (Frobenius) from the triangles of two QR decompositions, so that small differences of large products stay exact."""
    right, left = torch.linalg.qr(up, mode="r")[1], torch.linalg.qr(down.T, mode="r")[1]
    return float(torch.linalg.matrix_norm(right @ left.T))


def flat(module: ModuleWeights) -> tuple[Tensor, Tensor]:
    """(up [out, rank], down [rank, in·kh·kw]) in float32 with alpha/rank in `up`: their product is the change of the weight."""
    return module.up.float().flatten(1) * (module.alpha / module.rank), module.down.float().flatten(1)


def module_norm(module: ModuleWeights) -> float:
    """‖ΔW‖ of a module."""
    return product_norm(*flat(module))


def relative_error(actual: ModuleWeights, wanted: ModuleWeights) -> float:
    """‖ΔW made − ΔW wanted‖ / ‖ΔW wanted‖; infinite if `made` is not finite, or is not zero though it should be."""
    (up, down), (other_up, other_down) = flat(actual), flat(wanted)
    if not (up.isfinite().all() and down.isfinite().all()):
        return float("inf")
    difference = product_norm(torch.cat([up, -other_up], dim=1), torch.cat([down, other_down]))
    norm = product_norm(other_up, other_down)
    return difference / norm if norm else (float("inf") if difference else 0.0)


def from_svd(svd: Svd, rank: int, like: torch.Size, scale: float = 1.0) -> ModuleWeights:
    """Return the best approximation of rank `rank` (Eckart & Young 1936) of scale · U·S·Vᵀ as a LoRA module with alpha = scale · rank.

    `like` is the shape of a weight or of a `down` [·, in(, kh, kw)] that the module's shapes follow. Both factors get √S, which keeps their
    numbers in the range where fp16 is most precise.
    """
    u, values, vh = (part[..., :rank] if place < 2 else part[:rank] for place, part in enumerate(svd))
    root = values.sqrt()
    up, down = (u * root).contiguous(), (root[:, None] * vh).contiguous()
    kernel = tuple(like[2:])
    return ModuleWeights(down=down.view(rank, *like[1:]), up=up.view(*up.shape, *(1,) * len(kernel)), alpha=scale * rank)


def choose_rank(values: Tensor, method: str | None, parameter: float, limit: int) -> int:
    """Return how many of the singular values [k] to keep: `limit`, or by `method` as few as it allows, 1 … `limit`.

    sv_ratio: those above the largest / `parameter`. sv_cumulative: until their sum reaches the share `parameter` of the total. sv_fro:
    until the norm ‖ΔW‖ reaches the share `parameter`, so the sum of squares reaches its square.
    """
    limit = max(1, min(limit, len(values)))
    if method is None or not values[0] > 0:
        return limit if method is None else 1
    if method == "sv_ratio":
        count = int((values > values[0] / parameter).sum())
    else:
        sizes, share = (values, parameter) if method == "sv_cumulative" else (values.square(), parameter**2)
        reached = sizes.double().cumsum(0) / sizes.double().sum()
        count = int((reached < share).sum()) + 1
    return max(1, min(count, limit))


def true_rank(values: Tensor) -> int:
    """Return how many singular values [k] are more than rounding errors."""
    return int((values > values[0] * NEGLIGIBLE).sum()) if len(values) and values[0] > 0 else 0
