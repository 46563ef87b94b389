"""What a run uses of accelerate and of a gradient scaler, as types: processes, devices, gradients and the optimizer."""

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
        """Return whether it scales at all."""

    def get_scale(self) -> float:
        """Return the current factor."""

    def update(self) -> None:
        """Set the factor of the next update."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a state saves of the scaler."""

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Restore from `state_dict`."""


class PreparedOptimizer(Protocol):
    """An optimizer prepared by accelerate, which skips an update if fp16 gradients overflow."""

    param_groups: list[dict[str, Any]]
    state: MutableMapping[Tensor, Any]

    @property
    def step_was_skipped(self) -> bool:
        """Whether the last `step` was skipped."""

    def step(self) -> None:
        """Move the weights."""

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """Clear the gradients."""


class ParallelSettings(Protocol):
    """How processes that train together exchange gradients; only what is set after they are connected."""

    find_unused_parameters: bool


class Processes(Protocol):
    """accelerate's Accelerator, limited to what a run uses."""

    scaler: Scaler | None
    ddp_handler: ParallelSettings  # read when `prepare` is called

    @property
    def device(self) -> torch.device:
        """The device on which this process trains."""

    @property
    def num_processes(self) -> int:
        """The number of processes."""

    @property
    def process_index(self) -> int:
        """The index of this process."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and messages."""

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients are not exchanged."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to the existing ones."""

    def clip_grad_norm_(self, parameters: Iterable[Tensor], max_norm: float) -> Tensor:
        """Clip the norm of all gradients together; returns the norm before clipping."""

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """Return the sum or mean over all processes."""

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """Return the module that was passed to `prepare`."""

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, PreparedOptimizer]:
        """Move both to the device, and wrap them for several processes."""

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context that computes in the run's precision."""

    def wait_for_everyone(self) -> None:
        """Return when all processes have called this."""

    def end_training(self) -> None:
        """Disconnect from the other processes."""
