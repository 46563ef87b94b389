"""What the loop makes of the batches of one update: means over the group, and draws that are each batch's own."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from library.training.states.state import TrainState
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest
from library.training.step.update import Gradients


class Task(nn.Module):
    """Its loss is its weight times the batch's number; it writes down what it draws, as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.drawn: list[float] = []

    def forward(self, batch: Any, step: int) -> tuple[Tensor, Tensor]:
        self.drawn.append(torch.rand(()).item())
        loss = self.weight * batch.number
        return loss, loss.detach().reshape(1)


def processes(index: int = 0) -> Any:
    """What the loop asks of accelerate."""
    return SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        process_index=index,
        no_sync=lambda task: nullcontext(),
        backward=lambda loss: loss.backward(),
        unwrap_model=lambda task: task,
    )


def update(task: Task, numbers: list[float], step: int = 4, index: int = 0) -> float:
    """The loss told of an update of one batch for each number."""
    group = []
    for number in numbers:
        batch = SimpleNamespace(number=number, prior=None)
        batch.to = lambda device, batch=batch: batch
        group.append(batch)
    task.weight.grad = None
    gradients = Gradients(processes(index), task, TrainState(seed=1, step=step), Requests(StopRequest(), None, 1))
    pending = gradients.accumulate(group)
    pending.send(torch.zeros(1))
    return pending.read().loss


@pytest.mark.parametrize("numbers", [[2.0], [1.0, 3.0], [1.0, 2.0, 6.0]])
def test_loss_and_gradient_are_means_over_the_batches_that_there_are(numbers: list[float]) -> None:
    task = Task()
    mean = sum(numbers) / len(numbers)  # also of an epoch's last group, which may be shorter
    assert update(task, numbers) == pytest.approx(mean)
    assert task.weight.grad.item() == pytest.approx(mean)


def test_each_batch_of_each_update_on_each_process_draws_its_own_and_the_same_again() -> None:
    task = Task()
    for _ in range(2):
        for step, index in ((4, 0), (5, 0), (4, 1)):
            update(task, [1.0, 1.0], step, index)
    first, again = task.drawn[:6], task.drawn[6:]
    assert first == again and len(set(first)) == 6
