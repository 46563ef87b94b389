"""A run's last good state in main memory: weights, optimizer, schedule, scaler and counters, to restore without a file."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from library.training.states.state import TrainState
from library.training.states.state_parts import StateParts


class Snapshot:
    """Copies everything when it is created; `restore` may be called any number of times."""

    def __init__(self, parts: StateParts, state: TrainState) -> None:
        self.state = copy.deepcopy(state)
        self._modules = parts.method.modules()
        self._weights = [_copied(held_tensors(module)) for module in self._modules]
        moving = (parts.optimizer, parts.schedule, parts.scaler)
        self._moving = [(part, _copied(part.state_dict())) for part in moving if part is not None]
        self._averages = [(tensor, _copied(tensor)) for tensor in (parts.ema.tensors() if parts.ema is not None else ())]

    def restore(self, state: TrainState) -> None:
        """Restore everything, with `state` set to the counters of the snapshot."""
        for module, weights in zip(self._modules, self._weights, strict=True):
            with torch.no_grad():
                for name, tensor in held_tensors(module).items():
                    tensor.copy_(weights[name])
        for part, saved in self._moving:
            part.load_state_dict(_copied(saved))
        for tensor, saved in self._averages:
            tensor.data.copy_(saved)
        move(state, copy.deepcopy(self.state))


def move(state: TrainState, to: TrainState) -> None:
    """Copy the counters of `to` into `state`, which other objects share."""
    for entry in fields(TrainState):
        setattr(state, entry.name, getattr(to, entry.name))


def held_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's own parameters and buffers under the names of its state_dict.

    Some modules (LyCORIS's) put products of several tensors into their state_dict; writing into those would change nothing.
    """
    held = dict(module.named_buffers(remove_duplicate=False)) | dict(module.named_parameters(remove_duplicate=False))
    named = {name: held.get(name, tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
    return named | dict(module.named_parameters())


def weights_bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all tensors that a state of these modules contains."""
    return sum(tensor.numel() * tensor.element_size() for module in modules for tensor in held_tensors(module).values())


def _copied(value: Any) -> Any:
    """Copy a state_dict with its tensors in main memory; other values are deep-copied."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(part) for part in value) if type(value) in (list, tuple) else copy.deepcopy(value)
    return copy.deepcopy(value)
