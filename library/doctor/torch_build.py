"""Judge PyTorch: whether it loads, matches this machine's GPU and driver, and computes correctly there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from library.doctor.child_process import Answer
from library.doctor.driver import Driver
from library.doctor.findings import Finding, fault, note, ok
from library.telling.broken_torch import GET_STARTED, load_remedy

_UPDATE_DRIVER = "install NVIDIA's newest driver for the card and restart the machine"
# The oldest driver for each major version of CUDA (CUDA Release Notes, table "CUDA Toolkit and Minimum Required Driver Version").
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
_BF16_SINCE = 8  # compute capability 8.0, Ampere


def judge_torch(answer: Answer, driver: Driver) -> Iterator[Finding]:
    """Yield all findings about PyTorch, from the output of its process and the driver."""
    version = answer.first("version")
    if version is None:
        yield fault(f"torch cannot be imported: {answer.failure}", load_remedy(answer.failure or ""))
        return
    cuda, hip = answer.first("cuda"), answer.first("hip")
    build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "the CPU only"
    yield ok(f"PyTorch {version} loads, built for {build}")
    if answer.all("card"):
        yield from _cards(answer)
    elif cuda:
        yield from _no_card(answer, driver, cuda)
    elif not hip:
        yield from _cpu_build(driver)
    else:
        yield note("PyTorch for ROCm sees no card, so training runs on the CPU, slowly", "check that the AMD driver is installed")
    yield from _products(answer)
    if answer.failure is not None:
        yield fault(f"PyTorch crashes: {answer.failure}", f"{_UPDATE_DRIVER}; if that does not help, {GET_STARTED}")


def _cpu_build(driver: Driver) -> Iterator[Finding]:
    if driver.cards:
        yield fault(f"this PyTorch computes on the CPU only, but the machine has {', '.join(driver.cards)}", GET_STARTED)
    elif driver.problem:
        yield fault(f"{driver.problem}, and this PyTorch computes on the CPU only", f"{_UPDATE_DRIVER}, then {GET_STARTED}")
    else:
        yield note("no NVIDIA card found: training runs on the CPU, slowly")


def _no_card(answer: Answer, driver: Driver, cuda: str) -> Iterator[Finding]:
    """PyTorch is built for CUDA but does not detect a GPU."""
    reason = f" ({answer.first('unavailable')})" if answer.first("unavailable") else ""
    needed = _OLDEST_DRIVER.get(int(cuda.partition(".")[0]), 0)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver.problem:
        yield fault(f"PyTorch sees no card: {driver.problem}", _UPDATE_DRIVER)
    elif not driver.cards:
        yield note("no NVIDIA card and no driver found: training runs on the CPU, slowly", "if there is a card, install its driver")
    elif _major(driver.version) < needed:
        yield fault(
            f"the NVIDIA driver {driver.version} is too old for PyTorch's CUDA {cuda}, which needs {needed} or newer",
            f"{_UPDATE_DRIVER}, or install PyTorch for an older CUDA version",
        )
    elif hidden is not None and hidden.strip() in ("", "-1"):
        yield fault("PyTorch sees no card: CUDA_VISIBLE_DEVICES hides them all", "unset CUDA_VISIBLE_DEVICES")
    else:
        yield fault(
            f"PyTorch sees no card, although the machine has {', '.join(driver.cards)}{reason}",
            f"{_UPDATE_DRIVER}; otherwise {GET_STARTED}",
        )


def _cards(answer: Answer) -> Iterator[Finding]:
    built_for = answer.all("architecture")
    for card in answer.all("card"):
        device, capability, name = card.split(" ", 2)
        if answer.first("hip") or runs_on(capability, built_for):
            yield ok(f"{device} is {name} (compute capability {capability})")
        else:
            yield fault(
                f"{device} is {name} with compute capability {capability}, which this PyTorch does not support ({' '.join(built_for)})",
                f"for a new card, {GET_STARTED}; for an old one, install a PyTorch for an older CUDA version",
            )


def runs_on(capability: str, built_for: Sequence[str]) -> bool:
    """Whether code for one of these architectures (sm_86, compute_90, …) runs on a GPU of that compute capability.

    Machine code runs on its own major version from its minor version on, PTX code on everything newer (CUDA Programming Guide, "Compute
    capability"); the suffixes a and f bind code to one architecture.
    """
    major, minor = (int(part) for part in capability.split("."))
    for name in built_for:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        built = (int(match[2]), int(match[3]))
        if built == (major, minor) or (not match[4] and built <= (major, minor) and (match[1] == "compute" or built[0] == major)):
            return True
    return False


def _products(answer: Answer) -> Iterator[Finding]:
    old = {card.split(" ")[0] for card in answer.all("card") if int(card.split(" ")[1].partition(".")[0]) < _BF16_SINCE}
    right: dict[str, list[str]] = {}
    for product in answer.all("product"):
        device, kind, outcome = product.split(" ", 2)
        what = "gives wrong numbers" if outcome == "wrong" else f"fails: {outcome}"
        if outcome == "right":
            right.setdefault(device, []).append(kind)
        elif kind == "bfloat16" and device in old:
            remedy = "train with --mixed_precision fp16"
            yield note(f"a matrix product in bfloat16 on {device} {what}; the card is older than bfloat16", remedy)
        elif device == "cpu" and kind != "float32":
            yield note(f"a matrix product in {kind} on the CPU {what}", "train with --mixed_precision no")
        else:
            yield fault(f"a matrix product in {kind} on {device} {what}", f"{_UPDATE_DRIVER}; if that does not help, {GET_STARTED}")
    for device, kinds in right.items():
        yield ok(f"matrix products on {device} are correct in {', '.join(kinds)}")


def _major(version: str | None) -> int:
    """580 of 580.65.06; for an unknown version a number that is always high enough."""
    first = (version or "").partition(".")[0]
    return int(first) if first.isdigit() else 10**6
