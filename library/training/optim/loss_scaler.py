"""Loss scaling for float16 weights and gradients (--full_fp16), which torch's scaler does not support."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from library.errors import UserError, coded

FIRST, LEAST = 2.0**16, 2.0**-10
GROWS_AFTER = 2000  # updates without an overflow


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018, sec. 3.2) with clipping, with the interface that accelerate expects of a scaler.

    torch's GradScaler unscales gradients in place and therefore refuses float16: what the scale saved from underflow would be lost again.
    Here the factor 1/scale, times the factor for clipping to `max_grad_norm` (0: none), is passed to the optimizer, which applies it in
    float32 (`with_float32_steps`). An update whose gradients overflow is skipped and halves the scale; after `GROWS_AFTER` good ones it
    doubles.
    """

    def __init__(self, max_grad_norm: float = 0.0, scale: float = FIRST) -> None:
        self._max_grad_norm, self._scale = max_grad_norm, scale
        self._good = 0
        self._overflowed = False

    def is_enabled(self) -> bool:
        """Always True: code around accelerate asks this before it reads the scale."""
        return True

    def scale(self, loss: Tensor) -> Tensor:
        """The scaled loss, for the backward pass."""
        return loss * self._scale

    def get_scale(self) -> float:
        """The current scale."""
        return self._scale

    def unscale_(self, optimizer: Optimizer) -> None:
        """Does nothing: gradients are unscaled in the step, in float32."""

    def step(self, optimizer: Optimizer, closure: object = None) -> None:
        """Step, unless a gradient overflowed."""
        norm = gradient_norm(p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None) / self._scale
        self._overflowed = not norm < float("inf")
        if self._overflowed:
            return
        clip = min(1.0, self._max_grad_norm / (norm + 1e-6)) if self._max_grad_norm else 1.0
        optimizer.gradient_factor = clip / self._scale  # type: ignore[attr-defined]  # of `with_float32_steps`
        optimizer.step()

    def update(self) -> None:
        """Set the scale of the next update. Raises UserError when no scale is small enough."""
        if self._overflowed:
            self._scale, self._good = self._scale / 2, 0
            if self._scale < LEAST:
                raise UserError(
                    coded(
                        "TRAIN-003",
                        "--full_fp16: gradients overflow float16 at every loss scale; use --full_bf16, or remove --full_fp16",
                    )
                )
        else:
            self._good += 1
            if self._good == GROWS_AFTER:
                self._scale, self._good = self._scale * 2, 0

    def state_dict(self) -> dict[str, float]:
        """The values for a saved state."""
        return {"scale": self._scale, "good": self._good}

    def load_state_dict(self, saved: dict[str, float]) -> None:
        """Restore the values of `state_dict`."""
        self._scale, self._good = float(saved["scale"]), int(saved["good"])


def gradient_norm(gradients: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients together, computed in float32; not finite if one of their values is not."""
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
