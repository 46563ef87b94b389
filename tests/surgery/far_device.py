"""A device that no machine has: tensors sent to it stay on the CPU, marked, and what is computed with them is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NAME = "cuda:7"


class Far(torch.Tensor):
    """A tensor on the device. What is computed with one is one too, which torch sees to for subclasses."""


class _FarDevice(TorchFunctionMode):
    def __init__(self, computed: list[str]) -> None:
        super().__init__()
        self._computed = computed

    def __torch_function__(self, function: Any, types: Any, arguments: tuple = (), named: dict | None = None) -> Any:
        named = dict(named or {})
        tensors = [one for one in _flat(arguments) if isinstance(one, torch.Tensor)]
        far = [one for one in tensors if isinstance(one, Far)]
        if function is torch.Tensor.to and NAME in arguments:
            return arguments[0].as_subclass(Far)
        if named.get("device") == NAME:
            return function(*arguments, **{**named, "device": "cpu"}).as_subclass(Far)
        if not far:
            return function(*arguments, **named)
        if len(far) < len(tensors):
            raise RuntimeError("Expected all tensors to be on the same device")
        if function is torch.Tensor.cpu:
            return arguments[0].as_subclass(torch.Tensor)
        self._computed.append(function.__name__)
        return function(*arguments, **named)


def _flat(arguments: Any) -> Iterator[Any]:
    for one in arguments:
        yield from _flat(one) if isinstance(one, (tuple, list)) else (one,)


@contextmanager
def far_device() -> Iterator[list[str]]:
    """Within it torch has the device NAME; gives the names of the functions that were called with tensors there, as they are called."""
    computed: list[str] = []
    with _FarDevice(computed):
        yield computed
