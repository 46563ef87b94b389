"""Cast the weights of a network's layers to the patched model's dtype, all at once in each pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle


class Casts:
    """Casts the weights of all `layers` at the first request in a pass of the model; between passes each weight separately.

    Their gradients are cast back at once too: two kernels per pass instead of four per layer. The casts live only for their pass and its
    backward pass, where checkpointing computes layers again: fused optimizers change weights without a change of torch's version
    counter.
    """

    def __init__(self, layers: Sequence[nn.Module] = ()) -> None:
        self._layers = tuple(layers)
        self._casts: dict[int, tuple[int, Tensor]] = {}  # id of the weight -> its version when it was cast, and the cast
        self._cast_for: tuple[torch.dtype, bool] | None = None  # the dtype, and whether with gradients
        self._inside = False

    def around(self, part: nn.Module) -> list[RemovableHandle]:
        """Make each pass of `part` start and end a pass of the layers; returns the hooks."""
        return [part.register_forward_pre_hook(self.begin), part.register_forward_hook(self.end, always_call=True)]

    def begin(self, *_: object) -> None:
        """Start a pass: drop the casts of the previous one."""
        self._casts, self._cast_for, self._inside = {}, None, True

    def end(self, *_: object) -> None:
        """End the pass; its backward pass may follow."""
        self._inside = False

    @property
    def together(self) -> bool:
        """Whether a pass or a backward pass is running, during which the weights cannot change."""
        return (self._inside or _in_backward()) and bool(self._layers) and not torch.compiler.is_compiling()

    def of(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Return `weight` of one of the layers in `dtype`, with gradients to it."""
        if weight.dtype == dtype:
            return weight
        if not self.together:
            return weight.to(dtype)
        graph = torch.is_grad_enabled()
        if self._cast_for is None or self._cast_for[0] != dtype or graph > self._cast_for[1]:
            self._casts, self._cast_for = self._cast_all(dtype), (dtype, graph)
        version, cast = self._casts.get(id(weight), (-1, weight))
        return cast if version == weight._version else weight.to(dtype)

    def _cast_all(self, dtype: torch.dtype) -> dict[int, tuple[int, Tensor]]:
        weights = [weight for layer in self._layers for weight in layer.parameters() if weight.dtype != dtype]
        trained = [weight for weight in weights if weight.requires_grad]
        frozen = [weight for weight in weights if not weight.requires_grad]
        wanted: Sequence[Tensor] = _CastAll.apply(dtype, *trained) if trained else ()  # type: ignore[no-untyped-call]  # torch types it so
        casts = [*wanted, *_cast(frozen, dtype)]
        return {id(weight): (weight._version, cast) for weight, cast in zip([*trained, *frozen], casts, strict=True)}

    def __deepcopy__(self, memo: dict[int, object]) -> Casts:
        return Casts()  # the layers of a copy cast separately until they are attached


class _Context(Protocol):
    """What torch keeps from the forward for the backward pass."""

    dtypes: list[torch.dtype]

    def set_materialize_grads(self, value: bool) -> None: ...


class _CastAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [weight.dtype for weight in weights]
        return tuple(_cast(weights, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        met = [(place, gradient) for place, gradient in enumerate(gradients) if gradient is not None]
        result: list[Tensor | None] = [None] * len(gradients)
        for dtype in {ctx.dtypes[place] for place, _ in met}:
            these = [(place, gradient) for place, gradient in met if ctx.dtypes[place] == dtype]
            for (place, _), wide in zip(these, _cast([gradient for _, gradient in these], dtype), strict=True):
                result[place] = wide
        return None, *result


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1  # as torch's checkpointing checks it


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return each tensor in `dtype`, with one kernel for many if the device has such a kernel."""
    results = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    if results:
        torch._foreach_copy_(results, list(tensors))
    return results
