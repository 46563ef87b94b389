"""What a run asks of accelerate and of a gradient scaler, as types: processes, devices, gradients and what moves the weights."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Scaler(Protocol):
    """Scales the loss, so that fp16 gradients do not vanish: torch's GradScaler, or `loss_scaler.LossScaler`."""

    def is_enabled(self) -> bool:
        """Whether it scales at all."""

    def get_scale(self) -> float:
        """The factor in use."""

    def update(self) -> None:
        """Settle the factor of the next update."""

    def state_dict(self) -> dict[str, Any]:
        """What a saved state holds of it."""

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Go on from `state_dict`."""


class PreparedOptimizer(Protocol):
    """An optimizer behind accelerate, which leaves an update out where fp16's gradients overflow."""

    param_groups: list[dict[str, Any]]
    state: MutableMapping[Tensor, Any]

    @property
    def step_was_skipped(self) -> bool:
        """Whether the last `step` was left out."""

    def step(self) -> None:
        """Move the weights."""

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """Forget the gradients."""


class ParallelSettings(Protocol):
    """How processes that train together exchange gradients, as far as it is settled after they have met."""

    find_unused_parameters: bool


class Processes(Protocol):
    """accelerate's Accelerator, as far as a run needs it."""

    scaler: Scaler | None
    ddp_handler: ParallelSettings  # read when `prepare` is called

    @property
    def device(self) -> torch.device:
        """Where this process trains."""

    @property
    def num_processes(self) -> int:
        """How many train together."""

    @property
    def process_index(self) -> int:
        """This one's number."""

    @property
    def is_main_process(self) -> bool:
        """Whether this one writes and speaks."""

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, gradients stay with each process."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those that are there."""

    def clip_grad_norm_(self, parameters: Iterable[Tensor], max_norm: float) -> Tensor:
        """Limit the norm of all gradients together; returns what it was."""

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """The sum or mean over all processes."""

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The module that `prepare` was given."""

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, PreparedOptimizer]:
        """Both on the device, and wrapped for several processes."""

    def autocast(self) -> AbstractContextManager[None]:
        """Inside, computation is in the precision that the run asks for."""

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""

    def end_training(self) -> None:
        """Let the other processes go."""
