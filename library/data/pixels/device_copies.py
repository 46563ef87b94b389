"""Asynchronous copies to and from a GPU through page-locked memory."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU `tensor` to `device`; returns before a copy to a GPU is finished."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class FromDevice:
    """A float32 copy of a tensor to the CPU, started when created; `wait` waits only for this copy, not for later GPU work."""

    def __init__(self, tensor: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._tensor = tensor.to("cpu", torch.float32)
            return
        self._tensor = torch.empty(tensor.shape, dtype=torch.float32, pin_memory=True)
        self._tensor.copy_(tensor.float(), non_blocking=True)
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._done.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> Tensor:
        """The tensor, once the copy is complete."""
        if self._done is not None:
            self._done.synchronize()
        return self._tensor
