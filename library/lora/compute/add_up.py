"""Add a LoRA layer's product to the output of the patched layer, as one matrix product with its own gradient."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def add_up(output: Tensor, hidden: Tensor, up: Tensor, factor: float) -> Tensor:
    """Return output + factor · up·hidden, all of one dtype (Hu et al. 2021, eq. 3).

    `output` [B, …, out] and `hidden` [B, …, rank] with `up` [out, rank]; or [B, out, h, w] and [B, rank, h, w] with `up` [out, rank, 1, 1].
    In 16 bits the addition is part of the matrix product: rounded once, without a tensor for the second term. In float32 each step is
    rounded separately, so the result equals the plain formula bit for bit.
    """
    if torch.compiler.is_compiling():  # the compiler fuses this automatically
        scaled = hidden * factor
        return output + (F.linear(scaled, up) if up.dim() == 2 else F.conv2d(scaled, up))
    total: Tensor = _AddUp.apply(output, hidden, up, factor)  # type: ignore[no-untyped-call]  # torch types it so
    return total


class _Context(Protocol):
    """What torch keeps from the forward for the backward pass."""

    factor: float
    factor_of_up: float
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _AddUp(torch.autograd.Function):
    """∂hidden = factor · upᵀ·∂total and ∂up = factor · ∂total·hiddenᵀ, for which it keeps `hidden` and `up`; ∂output = ∂total."""

    @staticmethod
    def forward(ctx: _Context, output: Tensor, hidden: Tensor, up: Tensor, factor: float) -> Tensor:
        stepwise = output.dtype in (torch.float32, torch.float64)
        if stepwise and factor != 1.0:
            hidden = hidden * factor
        ctx.factor, ctx.factor_of_up = factor, 1.0 if stepwise else factor
        ctx.save_for_backward(hidden, up)
        if stepwise:
            delta = F.linear(hidden, up) if up.dim() == 2 else F.conv2d(hidden, up)
            return delta.add_(output)
        narrow, rows, summed = up.flatten(1), _rows(hidden), _rows(output)
        if rows is None or summed is None:  # flattened pixels: up [out, rank] · hidden [B, rank, h·w]
            each = narrow.expand(len(hidden), -1, -1)
            return torch.baddbmm(output.flatten(2), each, hidden.flatten(2), alpha=factor).view(output.shape)
        return _as_before(torch.addmm(summed, rows, narrow.t(), alpha=factor), output)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, up = ctx.saved_tensors
        _, wants_hidden, wants_up, _ = ctx.needs_input_grad
        narrow, hidden_rows, wide = up.flatten(1), _rows(hidden), _rows(gradient)
        to_hidden = to_up = None
        if hidden_rows is not None and wide is not None:
            if wants_hidden:
                to_hidden = _as_before(_product(wide, narrow, ctx.factor), hidden)
            if wants_up:
                to_up = _product(wide.t(), hidden_rows, ctx.factor_of_up)
        else:
            wide = gradient.flatten(2)
            if wants_hidden:
                to_hidden = _product(narrow.t().expand(len(hidden), -1, -1), wide, ctx.factor).view(hidden.shape)
            if wants_up:
                to_up = _product(wide, hidden.flatten(2).transpose(1, 2), ctx.factor_of_up).sum(dim=0)
        return gradient, to_hidden, None if to_up is None else to_up.view(up.shape), None


def _rows(tensor: Tensor) -> Tensor | None:
    """Return `tensor` as a matrix with a row for each token or pixel; None if an image's channels are not adjacent in memory."""
    if tensor.dim() == 4:
        if not tensor.is_contiguous(memory_format=torch.channels_last):
            return None
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1, tensor.shape[-1])


def _as_before(rows: Tensor, like: Tensor) -> Tensor:
    """Reverse `_rows`: restore the sizes of `like`, except the channels."""
    if like.dim() == 4:
        batch, _, height, width = like.shape
        return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)
    return rows.view(*like.shape[:-1], -1)


def _product(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """Return factor · left·right of two matrices or two batches of matrices, without an extra pass for the factor."""
    if factor == 1.0:
        return left @ right
    nothing = left.new_empty(())  # not read, since its weight is 0
    add = torch.addmm if left.dim() == 2 else torch.baddbmm
    return add(nothing, left, right, beta=0, alpha=factor)
