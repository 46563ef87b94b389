"""Build modules to be filled from a file: without memory for their weights and without random initialization."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Function = Callable[..., object]
# On weightless tensors these, and arange, import much of torch's compiler.
_DRAWS: frozenset[Function] = frozenset(
    {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.trunc_normal_}
)
_ARANGE: Function = torch.arange


class _NothingDrawn(TorchFunctionMode):
    """A context in which tensors are not filled with random numbers."""

    def __torch_function__(
        self, function: Function, types: Sequence[type], args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        named = kwargs or {}
        if function in _DRAWS:
            return args[0] if args else named["tensor"]
        if function is _ARANGE:
            return cast(Tensor, function(*args, **{"device": "cpu", **named})).to("meta")
        return function(*args, **named)


@contextmanager
def weightless() -> Iterator[None]:
    """A context in which modules get weights with a shape and dtype only (torch's meta device)."""
    with torch.device("meta"), _NothingDrawn():
        yield
