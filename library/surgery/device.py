"""The device that --device names, looked at before work begins."""

from __future__ import annotations

import torch

from library.errors import UserError


def usable_device(name: str | None) -> str:
    """`name`, or "cpu" where it is None; raises UserError where this torch cannot use it."""
    if name is None:
        return "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as fault:
        raise UserError(
            f"--device {name}: cannot be used here ({str(fault).splitlines()[0]}); leave it out to compute on the CPU"
        ) from fault
    return name
