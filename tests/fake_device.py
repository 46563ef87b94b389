"""A device that no machine has, to see what a step would do on a GPU: tensors there have a shape and no values, so that mixing devices
is an error, as is asking for a value, for which a GPU would have to be waited for; copies are written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")  # "cuda" itself cannot be pretended where torch is built without it


@dataclass(frozen=True)
class Copy:
    """A tensor sent from one device to the other; not `waits` for copies of which the sender does not await the end."""

    shape: tuple[int, ...]
    there: bool  # to the device, not from it
    waits: bool


@dataclass
class FakeDevice:
    """`copies` made so far, in order."""

    copies: list[Copy] = field(default_factory=list)

    def bring(self, *networks: nn.Module) -> None:
        """Put the networks' parameters and buffers on the device; those that they share stay shared."""
        seen: dict[int, Any] = {}
        for module in [module for network in networks for module in network.modules()]:
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    fresh = seen.get(id(parameter)) or nn.Parameter(self.twin(parameter), requires_grad=parameter.requires_grad)
                    module._parameters[name] = seen[id(parameter)] = seen[id(fresh)] = fresh
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.twin(buffer)

    def twin(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape and type on the device."""
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)


class _Written(TorchDispatchMode):
    def __init__(self, copies: list[Copy]) -> None:
        super().__init__()
        self._copies = copies

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = dict(kwargs or {})
        result = function(*args, **named)
        if function is torch.ops.aten._to_copy.default and args[0].device != result.device:
            self._copies.append(Copy(tuple(result.shape), result.device == DEVICE, not named.get("non_blocking", False)))
        elif function is torch.ops.aten.copy_.default and args[0].device != args[1].device:
            self._copies.append(Copy(tuple(result.shape), result.device == DEVICE, not (len(args) > 2 and args[2])))
        return result


@contextmanager
def fake_device() -> Iterator[FakeDevice]:
    """Inside, torch has the device, and no tensor that is made has values."""
    device = FakeDevice()
    with functorch_config.patch(fake_tensor_allow_meta=True), FakeTensorMode(), _Written(device.copies):
        yield device
