"""A first step on copies of a few small parameters: arguments that a class takes, and with which it fails once it steps."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from library.errors import in_plain_words

MOST_NUMBERS = 1 << 20  # a parameter with more of them is not copied


def first_step_fault(
    build: Callable[[list[dict[str, Any]]], Optimizer], groups: Iterable[Mapping[str, Any]], device: torch.device | None = None
) -> str:
    """Why the optimizer that `build` makes cannot take a first step with finite weights on `device`; "" if it can.

    Which arguments work depends on the device: `capturable=True` works on a GPU, and so do some optimizers only. None is the device of the
    parameters. The smallest parameter of each group is copied twice: with a gradient of which half is 0, and with one of 0, as in a LoRA
    at its start.
    """
    plain = [{key: value for key, value in group.items() if key != "lr"} for group in groups]  # some classes take one rate only
    copies = [
        {**group, "params": [_with_gradient(one, 1e-3, device), _with_gradient(one, 0.0, device)]}
        for group in plain
        if (one := _smallest(group["params"])) is not None
    ]
    if not copies:
        return ""
    with contextlib.redirect_stdout(io.StringIO()):  # some classes greet
        optimizer = build(copies)
        try:
            if hasattr(optimizer, "train"):
                optimizer.train()
            optimizer.step()
        except Exception as fault:  # a class may raise any error
            return f"its first step fails ({in_plain_words(fault)})"
    trained: list[Tensor] = [parameter.detach() for group in copies for parameter in group["params"]]
    return "" if all(bool(weight.isfinite().all()) for weight in trained) else "its first step makes weights that are not finite"


def _smallest(parameters: Iterable[nn.Parameter]) -> nn.Parameter | None:
    return min((one for one in parameters if 0 < one.numel() <= MOST_NUMBERS), key=Tensor.numel, default=None)


def _with_gradient(parameter: nn.Parameter, size: float, device: torch.device | None) -> nn.Parameter:
    copy = nn.Parameter(parameter.detach().to(device or parameter.device, torch.float32, copy=True).nan_to_num())
    gradient = torch.full_like(copy, size)
    gradient.view(-1)[::2] = 0.0
    copy.grad = gradient
    return copy
