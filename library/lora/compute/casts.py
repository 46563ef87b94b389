"""The weights of a network's layers in the dtype that the patched model computes in, cast all at once for each pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle


class Casts:
    """Within a pass of the model, casts the weights of all `layers` when the first is asked for; between passes each by itself.

    Their gradients go back at once too: two kernels a pass, not four a layer. Nothing outlives its pass but for the backward pass of it,
    where checkpointing computes layers again: fused optimizers change weights without a sign that torch's version counter would show.
    """

    def __init__(self, layers: Sequence[nn.Module] = ()) -> None:
        self._layers = tuple(layers)
        self._kept: dict[int, tuple[int, Tensor]] = {}  # by the weight's id: its version when it was cast, and the cast
        self._made: tuple[torch.dtype, bool] | None = None  # in which dtype, and whether for gradients
        self._inside = False

    def around(self, part: nn.Module) -> list[RemovableHandle]:
        """Let each pass of `part` begin and end one of the layers; returns the hooks that stand for it."""
        return [part.register_forward_pre_hook(self.begin), part.register_forward_hook(self.end, always_call=True)]

    def begin(self, *_: object) -> None:
        """A pass begins: what was cast before belongs to one that is over."""
        self._kept, self._made, self._inside = {}, None, True

    def end(self, *_: object) -> None:
        """The pass is over, its backward pass may follow."""
        self._inside = False

    @property
    def together(self) -> bool:
        """Whether a pass, or the backward pass of one, runs now: the weights cannot change meanwhile."""
        return (self._inside or _in_backward()) and bool(self._layers) and not torch.compiler.is_compiling()

    def of(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """`weight` of one of the layers in `dtype`; gradients reach it."""
        if weight.dtype == dtype:
            return weight
        if not self.together:
            return weight.to(dtype)
        graph = torch.is_grad_enabled()
        if self._made is None or self._made[0] != dtype or graph > self._made[1]:
            self._kept, self._made = self._cast_all(dtype), (dtype, graph)
        version, kept = self._kept.get(id(weight), (-1, weight))
        return kept if version == weight._version else weight.to(dtype)

    def _cast_all(self, dtype: torch.dtype) -> dict[int, tuple[int, Tensor]]:
        weights = [weight for layer in self._layers for weight in layer.parameters() if weight.dtype != dtype]
        trained = [weight for weight in weights if weight.requires_grad]
        frozen = [weight for weight in weights if not weight.requires_grad]
        wanted: Sequence[Tensor] = _CastAll.apply(dtype, *trained) if trained else ()  # type: ignore[no-untyped-call]  # torch types it so
        made = [*wanted, *_cast(frozen, dtype)]
        return {id(weight): (weight._version, cast) for weight, cast in zip([*trained, *frozen], made, strict=True)}

    def __deepcopy__(self, memo: dict[int, object]) -> Casts:
        return Casts()  # layers of a copy cast by themselves until they are attached


class _Context(Protocol):
    """What torch keeps between the two directions."""

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
    return torch._C._current_graph_task_id() != -1  # as torch's own checkpointing asks


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Each of the tensors in `dtype`, by one kernel where the device has one for many."""
    made = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    if made:
        torch._foreach_copy_(made, list(tensors))
    return made
