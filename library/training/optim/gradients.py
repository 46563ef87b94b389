"""The norm of an update's gradients: limited where --max_grad_norm says so, and known to the log either way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from library.light_imports.later import left_for_later
from library.light_imports.models import SHARDED
from library.training.processes import Processes


def clipped_norm(accelerator: Processes, trained: list[nn.Parameter], limit: float) -> Tensor:
    """The norm [1] that the gradients of all `trained` have together; where it is over `limit` (0: none) they are scaled down to it.

    For after the last backward of an update. Under fp16 the gradients are of a scaled loss: accelerate takes the scale out
    of them before it clips, and where nothing is clipped it is taken out of the figure alone.
    """
    if limit:
        with left_for_later(SHARDED):  # accelerate asks whether gradients are
            norm = accelerator.clip_grad_norm_(trained, limit)
    else:
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        norm = _total_norm(gradients) if gradients else torch.zeros(())
        if accelerator.scaler is not None and accelerator.scaler.is_enabled():
            norm = norm / accelerator.scaler.get_scale()
    return torch.as_tensor(norm).detach().float().reshape(1).to(accelerator.device)


def _total_norm(gradients: list[Tensor]) -> Tensor:
    """In float32, in which the squares of 16-bit gradients have room."""
    if all(gradient.dtype == torch.float32 for gradient in gradients):
        norm: Tensor = nn.utils.get_total_norm(gradients)
    else:
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
    return norm
