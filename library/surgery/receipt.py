"""The receipt of a merge, an extraction or a resize: the error of each module, the worst modules, and numbers too large for fp16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from library.console import log
from library.errors import UserError, coded
from library.words import counted, verb

WORST = 5  # modules listed without --verbose


@dataclass(frozen=True)
class Entry:
    """One module: `error` = ‖saved − wanted‖ / ‖wanted‖, `overflows` = numbers that became infinite."""

    key: str
    error: float
    norm: float  # ‖wanted‖, for the mean over all modules
    overflows: int = 0
    note: str = ""


def overflows(before: Tensor, after: Tensor) -> int:
    """How many finite numbers were too large for the dtype of `after`."""
    return int((before.isfinite() & ~after.isfinite()).sum())


def total_error(entries: Sequence[Entry]) -> float:
    """The error of all modules taken as one large matrix."""
    wanted = sum(entry.norm**2 for entry in entries)
    lost = sum((entry.error * entry.norm) ** 2 for entry in entries if entry.norm)
    return math.sqrt(lost / wanted) if wanted else 0.0


def hand_over(entries: Sequence[Entry], what: str, verbose: bool, max_error: float | None) -> None:
    """Print the receipt; `what` describes the quantity that the error is relative to. Raises UserError if a module exceeds `max_error`.

    Call it before the file gets its name, so that no file remains if it raises.
    """
    modules = {entry.key.partition(" ")[0] for entry in entries}  # a module's bias has a separate line
    lines = [f"receipt: {counted(len(modules), 'module')}; error = {what}"]
    by_error = sorted(entries, key=lambda entry: -entry.error)
    for entry in entries if verbose else by_error[:WORST] if by_error and by_error[0].error > 0 else ():
        lines.append(f"  {entry.error:9.2e}  {entry.key}" + (f"  {entry.note}" if entry.note else ""))
    if not verbose and len(entries) > WORST and by_error[0].error > 0:
        lines.append(f"  … and {counted(len(entries) - WORST, 'module')} with smaller errors (--verbose names all)")
    if by_error:
        lines.append(f"  in total {total_error(entries):.2e}, worst {by_error[0].error:.2e} in {by_error[0].key}")
    lost = sum(entry.overflows for entry in entries)
    lines.append(f"  numbers too large for the saved precision: {lost}")
    print("\n".join(lines))
    if lost:
        worst = max(entries, key=lambda entry: entry.overflows)
        log.warning(f"{counted(lost, 'number')} became infinite, most in {worst.key}; save with --save_precision float or bf16")
    if max_error is not None and by_error and not by_error[0].error <= max_error:
        over = sum(not entry.error <= max_error for entry in entries)
        raise UserError(
            coded(
                "TOOL-008",
                f"--max_error {max_error:g}: {over} of {counted(len(entries), 'module')} {verb(over, 'exceeds', 'exceed')} "
                f"it, the worst is {by_error[0].key} with "
                f"{by_error[0].error:.2e}; nothing was written; raise the limit, the rank or the precision",
            )
        )


def rounded(tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Return the tensor as saved, on the CPU and contiguous, and how many of its numbers overflowed."""
    saved = tensor.to("cpu", dtype).contiguous()
    return saved, overflows(tensor.cpu(), saved) if dtype == torch.float16 else 0
