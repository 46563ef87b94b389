"""The norm of an update's gradients: limited if --max_grad_norm is set, and logged either way."""

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
    """Parameters whose gradients are limited together to the norm `limit`; 0: no limit."""

    parameters: list[nn.Parameter]
    limit: float


@dataclass(frozen=True)
class GradientLimits:
    """`norm` limits all gradients together (0: no limit); if `text_encoder` is set, it limits the text encoder's and `norm` the rest."""

    norm: float = 0.0
    text_encoder: float | None = None


def parts_of(trained: Sequence[nn.Parameter], of_text: Sequence[nn.Parameter], limits: GradientLimits) -> list[LimitedPart]:
    """What is trained, in parts that are limited separately; `of_text` are the parameters of the text encoder."""
    if limits.text_encoder is None:
        return [LimitedPart(list(trained), limits.norm)]
    ids = {id(parameter) for parameter in of_text}
    others = LimitedPart([parameter for parameter in trained if id(parameter) not in ids], limits.norm)
    text = LimitedPart([parameter for parameter in trained if id(parameter) in ids], limits.text_encoder)
    return [part for part in (others, text) if part.parameters]


def clipped_norm(accelerator: Processes, parts: Sequence[LimitedPart]) -> Tensor:
    """The norm [1] of all gradients together; the gradients of a part whose norm exceeds its limit are scaled down to it.

    Call it after the last backward pass of an update. Under fp16 the gradients are those of a scaled loss: accelerate unscales them before
    it clips; where nothing is clipped, only the returned norm is unscaled.
    """
    if any(part.limit for part in parts):
        with left_for_later(SHARDED):  # accelerate checks whether gradients are sharded
            first, *others = parts
            norms = [accelerator.clip_grad_norm_(first.parameters, first.limit or math.inf)]
            for part in others:  # accelerate has unscaled all gradients already, and must not do it twice
                norms.append(nn.utils.clip_grad_norm_(part.parameters, part.limit or math.inf))
        device = accelerator.device  # the norm of a part that is no longer trained is a 0 on the CPU
        norm = norms[0] if not others else torch.stack([one.detach().float().reshape(()).to(device) for one in norms]).norm()
    else:
        gradients = [parameter.grad for part in parts for parameter in part.parameters if parameter.grad is not None]
        norm = _total_norm(gradients) if gradients else torch.zeros(())
        if accelerator.scaler is not None and accelerator.scaler.is_enabled():
            norm = norm / accelerator.scaler.get_scale()
    return torch.as_tensor(norm).detach().float().reshape(1).to(accelerator.device)


def _total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm, computed in float32, where the squares of 16-bit gradients do not overflow."""
    if all(gradient.dtype == torch.float32 for gradient in gradients):
        norm: Tensor = nn.utils.get_total_norm(gradients)
    else:
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
    return norm
