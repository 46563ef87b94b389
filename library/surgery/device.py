"""The device that --device, or a similar option, names, checked before work starts."""

from __future__ import annotations

import torch

from library.errors import UserError, coded, first_line


def usable_device(name: str | None, option: str = "--device") -> str:
    """Return `name`, or "cpu" if it is None; raises UserError if torch cannot run there what the tools need: QR, SVD, copying back."""
    if name is None:
        return "cpu"
    try:
        torch.linalg.svdvals(torch.linalg.qr(torch.eye(2, device=name))[1]).cpu()
    except (RuntimeError, AssertionError, ImportError) as fault:  # torch raises a different one for each reason that a device is missing
        reason = first_line(fault).partition(". ")[0]
        raise UserError(coded("OPT-018", f"{option} {name}: cannot be used here ({reason}); remove it to compute on the CPU")) from fault
    return name
