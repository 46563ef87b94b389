"""A model small enough for many steps of any optimizer."""

import io

import pytest
import torch

from library.errors import UserError
from library.training.optim.optimizer import make_optimizer
from library.training.optim.optimizer_table import OPTIMIZERS

FINDS_ITS_RATE = [row.name for row in OPTIMIZERS if row.kind == "factor"]


class Toy(torch.nn.Module):
    """Two layers, one large enough (4,800 values) for 8-bit state; a squared error that any optimizer can lower."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = torch.nn.Parameter(torch.randn(80, 60, generator=generator) / 8)
        self.second = torch.nn.Parameter(torch.randn(60, 3, generator=generator) / 8)

    def loss(self, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 + step)
        inputs = torch.randn(16, 80, generator=generator).to(self.first.dtype)
        return (torch.tanh(inputs @ self.first) @ self.second - inputs[:, :3]).square().mean()

    def groups(self, first: float | None = None, second: float | None = None) -> list[dict]:
        rates = ((self.first, first), (self.second, second))
        return [{"params": [parameter], **({} if rate is None else {"lr": rate})} for parameter, rate in rates]


def take_steps(toy: Toy, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        loss = toy.loss(step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def restored(state: dict) -> dict:
    """What a saved state is when it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def problems_of(name: str, args: list[str], toy: Toy | None = None, **rates: float) -> str:
    with pytest.raises(UserError) as error:
        make_optimizer(name, (toy or Toy()).groups(**rates), 1e-3, args)
    assert all("\n" not in problem for problem in error.value.problems)
    return "\n".join(error.value.lines)
