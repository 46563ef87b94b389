"""Copies to a GPU and back that the CPU need not wait for: from and to page-locked memory."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` of the CPU on `device`; the CPU goes on while it is copied to a GPU."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class FromDevice:
    """A tensor on its way to the CPU, as float32, since it was made; `wait` is for it alone, not for what the GPU was given after it."""

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
        """The tensor, once all of it is there."""
        if self._done is not None:
            self._done.synchronize()
        return self._tensor
