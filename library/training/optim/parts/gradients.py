"""The norm of an update's gradients: limited where --max_grad_norm says so, and known to the log either way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from library.light_imports.later import left_for_later
from library.light_imports.models import SHARDED
from library.training.processes import Processes


@dataclass(frozen=True)
class LimitedPart:
    """Parameters whose gradients are limited together to the norm `limit`; 0: not at all."""

    parameters: list[nn.Parameter]
    limit: float


@dataclass(frozen=True)
class GradientLimits:
    """`norm` of all gradients together (0: none), or, where `text_encoder` is given, of all but the text encoder's, which has its own."""

    norm: float = 0.0
    text_encoder: float | None = None


def parts_of(trained: Sequence[nn.Parameter], of_text: Sequence[nn.Parameter], limits: GradientLimits) -> list[LimitedPart]:
    """What is trained in parts that are limited by themselves; `of_text` are those parameters that belong to the text encoder."""
    if limits.text_encoder is None:
        return [LimitedPart(list(trained), limits.norm)]
    ids = {id(parameter) for parameter in of_text}
    others = LimitedPart([parameter for parameter in trained if id(parameter) not in ids], limits.norm)
    text = LimitedPart([parameter for parameter in trained if id(parameter) in ids], limits.text_encoder)
    return [part for part in (others, text) if part.parameters]


def clipped_norm(accelerator: Processes, parts: Sequence[LimitedPart]) -> Tensor:
    """The norm [1] that all gradients have together; those of a part whose own norm is over its limit are scaled down to it.

    For after the last backward of an update. Under fp16 the gradients are of a scaled loss: accelerate takes the scale out
    of them before it clips, and where nothing is clipped it is taken out of the figure alone.
    """
    if any(part.limit for part in parts):
        with left_for_later(SHARDED):  # accelerate asks whether gradients are
            first, *others = parts
            norms = [accelerator.clip_grad_norm_(first.parameters, first.limit or math.inf)]
            for part in others:  # accelerate has taken the scale out of all gradients, which it must not do twice
                norms.append(nn.utils.clip_grad_norm_(part.parameters, part.limit or math.inf))
        device = accelerator.device  # a part that has stopped has a 0 on the CPU
        norm = norms[0] if not others else torch.stack([one.detach().float().reshape(()).to(device) for one in norms]).norm()
    else:
        gradients = [parameter.grad for part in parts for parameter in part.parameters if parameter.grad is not None]
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
