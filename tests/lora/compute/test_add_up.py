"""The sum of a layer's output and its LoRA: the plain formula's values and gradients, in every dtype, shape and order of memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from library.lora.compute.add_up import add_up

RANK, OUT = 3, 5
SHAPES = {"tokens": (2, 7), "rows": (7,), "pixels": (2, 4, 6)}


def case(kind: str, dtype: torch.dtype, channels_last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """output, hidden and up."""
    torch.manual_seed(1)
    if kind == "pixels":
        batch, height, width = SHAPES[kind]
        output, hidden = torch.randn(batch, OUT, height, width), torch.randn(batch, RANK, height, width)
        if channels_last:
            output, hidden = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (output, hidden))
        up = torch.randn(OUT, RANK, 1, 1)
    else:
        output, hidden, up = torch.randn(*SHAPES[kind], OUT), torch.randn(*SHAPES[kind], RANK), torch.randn(OUT, RANK)
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (output, hidden, up))  # type: ignore[return-value]


def plain(output: Tensor, hidden: Tensor, up: Tensor, factor: float) -> Tensor:
    scaled = hidden * factor
    return output + (F.linear(scaled, up) if up.dim() == 2 else F.conv2d(scaled, up))


KINDS = [("tokens", False), ("rows", False), ("pixels", False), ("pixels", True)]


@pytest.mark.parametrize(("kind", "channels_last"), KINDS)
@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_in_float32_the_bits_are_those_of_the_formula_and_gradients_within_rounding(kind: str, channels_last: bool, factor: float) -> None:
    ours, theirs = case(kind, torch.float32, channels_last), case(kind, torch.float32, channels_last)
    total, expected = add_up(*ours, factor), plain(*theirs, factor)
    assert torch.equal(total, expected)
    weights = torch.randn_like(expected)
    (total * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "channels_last"), KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_values_and_gradients_are_as_near_as_the_dtype_allows(kind: str, channels_last: bool, dtype: torch.dtype) -> None:
    ours = case(kind, dtype, channels_last)
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in ours)
    total, expected = add_up(*ours, 0.37), plain(*exact, 0.37)
    assert total.dtype == dtype and total.stride() == ours[0].stride()
    weights = torch.randn_like(total)
    (total * weights).sum().backward()
    (expected * weights).sum().backward()
    bound = 4 * torch.finfo(dtype).eps
    for mine, other in [(total, expected), *[(mine.grad, other.grad) for mine, other in zip(ours, exact, strict=True)]]:
        assert mine is not None and other is not None
        assert (mine.double() - other).norm() <= bound * other.norm()


@pytest.mark.parametrize(("kind", "channels_last"), KINDS)
def test_gradients_are_the_derivatives(kind: str, channels_last: bool) -> None:
    assert torch.autograd.gradcheck(lambda *tensors: add_up(*tensors, 0.37), case(kind, torch.float64, channels_last))


@pytest.mark.parametrize("frozen", range(3))
def test_what_is_frozen_gets_no_gradient(frozen: int) -> None:
    tensors = list(case("tokens", torch.bfloat16))
    tensors[frozen] = tensors[frozen].detach()
    add_up(*tensors, 0.5).sum().backward()
    assert [tensor.grad is None for tensor in tensors] == [place == frozen for place in range(3)]
