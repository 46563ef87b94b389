"""The device that --device, or an option like it, names, looked at before work begins."""

from __future__ import annotations

import torch

from library.errors import UserError, coded, first_line


def usable_device(name: str | None, option: str = "--device") -> str:
    """`name`, or "cpu" where it is None; raises UserError where this torch cannot do there what the tools do: a QR, an SVD, a way back."""
    if name is None:
        return "cpu"
    try:
        torch.linalg.svdvals(torch.linalg.qr(torch.eye(2, device=name))[1]).cpu()
    except (RuntimeError, AssertionError, ImportError) as fault:  # torch has one for each way of not having a device
        reason = first_line(fault).partition(". ")[0]
        raise UserError(coded("OPT-018", f"{option} {name}: cannot be used here ({reason}); remove it to compute on the CPU")) from fault
    return name
