"""The folder of a saved state: trained weights, optimizer, schedule and gradient scaler, written atomically and restored exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from library.containers.pickles import ContainsCode
from library.containers.torch_files import read_plain
from library.containers.uncached import torch_save
from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.files import NOT_UNICODE, atomic_folder
from library.method import Method
from library.training.optim.group_curves import GroupCurves
from library.training.optim.parts.rate_ratios import RATIO
from library.training.optim.parts.split_groups import PART, splits_groups
from library.training.processes import Scaler
from library.training.states.saved_state import FACTS_FILE, check_contents, crc32, facts_text, read_own
from library.training.states.snapshot import held_tensors
from library.training.states.state import TrainState
from library.training.states.state_parts import StateParts
from library.words import counted

TRAINING_FILE = "training.pt"
_REMEMBERED = {"optimizer_class": str, "schedule_class": str, "optimizer": dict, "schedule": dict, "scaler": dict | None}


def write_state(folder: Path, parts: StateParts, state: TrainState, run: Mapping[str, Any]) -> None:
    """Write the state into `folder` atomically; `run` are the facts of `library.training.states.resume`."""
    with atomic_folder(folder) as fresh:
        for place, module in enumerate(parts.method.modules()):
            save_file(_own_tensors(held_tensors(module)), fresh / _weights_file(place))
        torch_save(_remembered(parts.optimizer, parts.schedule, parts.scaler), fresh / TRAINING_FILE)
        if parts.ema is not None:
            parts.ema.save(fresh)
        if parts.ledger is not None:
            parts.ledger.save(fresh)
        sizes = {path.name: path.stat().st_size for path in sorted(fresh.iterdir())}
        checksums = {name: crc32(fresh / name) for name in sizes if name.endswith(".safetensors")}
        (fresh / FACTS_FILE).write_text(facts_text(state, run, sizes, checksums), encoding="utf-8", errors=NOT_UNICODE)


def check_can_be_kept(optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Raise UserError if a state cannot save what optimizer or schedule remember; called before training, not at the first save."""
    _remembered(optimizer, schedule, None)


def load_weights(folder: Path, method: Method) -> None:
    """Copy the state's weights into the method's modules; raises UserError if they do not fit, or the state is damaged."""
    check_contents(folder)
    for place, module in enumerate(method.modules()):
        file = open_weights(folder / _weights_file(place), "--resume")
        saved = dict(file.read(file.infos))
        own = held_tensors(module)
        wrong = sorted(name for name in saved.keys() | own.keys() if _shape(saved, name) != _shape(own, name))
        if wrong:
            name = wrong[0]
            raise UserError(
                coded(
                    "STATE-005",
                    f"--resume {folder}: has other weights than this run trains: "
                    f"{counted(len(wrong), 'tensor differs', 'tensors differ')}, such as {name} ("
                    f"{_shape(saved, name)} in the state, {_shape(own, name)} here); use the state's model and network options",
                )
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])


def load_training(folder: Path, optimizer: Optimizer, schedule: LRScheduler, scaler: Scaler | None, new_rates: bool) -> None:
    """Restore optimizer, schedule and scaler; with `new_rates` the optimizer keeps the learning rates it was built with.

    Only for the same class of schedule; `follow_training` takes any. Raises UserError if the class of optimizer or schedule differs.
    """
    saved = read_training(folder)
    refuse_other(folder, saved, "optimizer", type(optimizer).__name__)
    refuse_other(folder, saved, "schedule", schedule_class(schedule))
    ratios = [group.get(RATIO) for group in optimizer.param_groups]
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    load_optimizer(folder, saved, optimizer)
    settle_ratios(folder, optimizer, ratios, new_rates)
    schedule.load_state_dict(saved["schedule"])
    if new_rates:
        _set_base_rates(schedule, optimizer, rates)
    if isinstance(schedule, GroupCurves):
        schedule.stand_at(schedule.last_epoch)
    elif isinstance(schedule, LambdaLR):  # the same value again, unless base rate or curve are new
        for group, base, curve in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = base * curve(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
    load_scaler(saved, scaler)


def read_training(folder: Path, mapped: bool = False) -> dict[str, Any]:
    """Read the state's optimizer, schedule and scaler; with `mapped`, tensors stay on the disk until they are used."""
    try:
        saved = read_plain(folder / TRAINING_FILE, mapped)
    except ValueError as fault:
        code = "FILE-006" if isinstance(fault, ContainsCode) else "STATE-002"
        raise UserError(coded(code, f"--resume {folder}: {TRAINING_FILE} {fault}; use an older state")) from fault
    if not isinstance(saved, dict) or not all(isinstance(saved.get(name), kind) for name, kind in _REMEMBERED.items()):
        raise UserError(coded("STATE-002", f"--resume {folder}: {TRAINING_FILE} is not in this suite's format; use an older state"))
    return saved


def refuse_other(folder: Path, saved: Mapping[str, Any], what: str, name: str) -> None:
    """Raise UserError if the state's optimizer or schedule (`what`) is not of the class `name`."""
    if saved[f"{what}_class"] != name:
        option = {"optimizer": "--optimizer_type", "schedule": "--lr_scheduler"}[what]
        raise UserError(
            coded(
                "STATE-004",
                f"--resume {folder}: its {what} is {saved[f'{what}_class']}, but the command has {name}; use the state's {option}",
            )
        )


def load_optimizer(folder: Path, saved: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Restore the optimizer's state. Raises UserError if the saved one trained other parameters."""
    try:
        optimizer.load_state_dict(saved["optimizer"])
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(
            coded(
                "STATE-005",
                f"--resume {folder}: its optimizer trained other parameters ({fault}); use the state's network and learning rate options "
                "(a rate of 0 turns a part off)",
            )
        ) from fault


def load_scaler(saved: Mapping[str, Any], scaler: Scaler | None) -> None:
    """Restore the factor of the fp16 gradient scaler, if the run and the state both have a scaler."""
    if scaler is not None and saved["scaler"]:
        scaler.load_state_dict(saved["scaler"])


def schedule_class(schedule: LRScheduler) -> str:
    """Return the class name that a state records; all named curves are LambdaLR."""
    return LambdaLR.__name__ if isinstance(schedule, LambdaLR) else type(schedule).__name__


def load_all(folder: Path, parts: StateParts) -> TrainState:
    """Restore everything from a state of this run, and return its counters."""
    state = read_own(folder).state
    load_weights(folder, parts.method)
    load_training(folder, parts.optimizer, parts.schedule, parts.scaler, new_rates=False)
    if parts.ema is not None:
        parts.ema.load(folder)
    return state


def settle_ratios(folder: Path, optimizer: Optimizer, ratios: list[float | None], new_rates: bool) -> None:
    """Keep the state's share of the rate in each group, or with `new_rates` the command's (see `parts.rate_ratios`).

    Raises UserError if split_groups differs, or if only one of them has shares: the hook that applies them exists only if the command's
    own rates differ.
    """
    if any(PART in group for group in optimizer.param_groups) != splits_groups(optimizer):
        raise UserError(
            coded(
                "STATE-005",
                f"--resume {folder}: the state and the command differ in split_groups of --optimizer_args, which cannot be changed when "
                "resuming; use the state's",
            )
        )
    saved = [group.get(RATIO) for group in optimizer.param_groups]
    if any(ratios) != any(saved):
        raise UserError(
            coded(
                "STATE-005",
                f"--resume {folder}: its parts were trained at {'different rates' if any(saved) else 'one rate'}, unlike the command's, "
                "which this optimizer cannot change when resuming; use the state's learning rates",
            )
        )
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        if new_rates and ratio is not None:
            group[RATIO] = ratio
        elif new_rates:
            group.pop(RATIO, None)


def _set_base_rates(schedule: LRScheduler, optimizer: Optimizer, rates: list[Any]) -> None:
    before = list(schedule.base_lrs)
    for inner in _with_inner(schedule):
        inner.base_lrs = list(rates)
    for group, old, new in zip(optimizer.param_groups, before, rates, strict=True):
        group["initial_lr"] = new
        if old and new is not None and group["lr"] is not None:
            group["lr"] = group["lr"] * new / old


def _with_inner(schedule: LRScheduler) -> Iterator[LRScheduler]:
    yield schedule
    for inner in getattr(schedule, "_schedulers", ()):
        yield from _with_inner(inner)


def _remembered(optimizer: Optimizer, schedule: LRScheduler, scaler: Scaler | None) -> dict[str, Any]:
    return {
        "optimizer_class": type(optimizer).__name__,
        "schedule_class": schedule_class(schedule),
        "optimizer": _plain(optimizer.state_dict(), f"--optimizer_type {type(optimizer).__name__}"),
        "schedule": _plain(schedule.state_dict(), f"--lr_scheduler {type(schedule).__name__}"),
        "scaler": None if scaler is None else _plain(scaler.state_dict(), "--mixed_precision fp16"),
    }


def _plain(value: object, owner: str) -> object:
    """Convert `value` to types that torch reads back without running foreign code; raises UserError for any other type."""
    if value is None or isinstance(value, bool | int | float | complex | str | Tensor | torch.dtype):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Counter):
        return value
    if isinstance(value, Mapping):
        return {_plain(key, owner): _plain(part, owner) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_plain(part, owner) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise UserError(
        coded(
            "STATE-008",
            f"--save_state: cannot save the state of {owner} (a {type(value).__name__}); remove --save_state, or choose another",
        )
    )


def _own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, without shared storage, as safetensors requires."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        place = here.untyped_storage().data_ptr()
        own[name] = here.clone() if place in seen else here
        seen.add(place)
    return own


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return "×".join(map(str, tensors[name].shape)) or "a number" if name in tensors else "absent"


def _weights_file(place: int) -> str:
    return f"trained-{place}.safetensors"
