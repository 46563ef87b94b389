"""Loads the weights, optimizer and schedule of an accelerate state, as far as the parameters can be matched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from library.console import log
from library.containers.torch_files import read_plain
from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.method import Method
from library.training.optim.parts.rate_ratios import OWN_RATE, RATIO, own_rates
from library.training.optim.rebuild import Rebuild
from library.training.processes import Scaler
from library.training.states.accelerate_state import AccelerateState
from library.training.states.snapshot import held_tensors
from library.words import counted

_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_LEVEL = "text_model."  # prefix in CLIPTextModel, in transformers before 5.6
_TABLE = "embeddings.token_embedding.weight"
_IN_BLOCK = re.compile(r"^(.*transformer_blocks[._]0[._])(attn1|ff|attn2|norm1|norm2|norm3)(?=[._])")
_BLOCK_ORDER = ("attn1", "ff", "attn2", "norm1", "norm2", "norm3")  # order of the parts of a block in sd-scripts' U-Net
# Keys whose presence identifies an optimizer; the other keys of a group are switches that depend on torch's version.
_KINDS = frozenset("betas eps weight_decay momentum nesterov amsgrad d d_coef k relative_step scale_parameter rho alpha lambd".split())

_RATES = frozenset("lr initial_lr d0 d_max d_numerator".split())


def load_accelerate_weights(accelerate: AccelerateState, method: Method) -> None:
    """Copy the state's weights into the method's modules. Raises UserError if they do not fit."""
    modules = method.modules()
    for place, module in enumerate(modules):
        if place >= len(accelerate.weights):
            raise UserError(
                coded(
                    "STATE-005",
                    f"--resume {accelerate.folder}: has {counted(len(accelerate.weights), 'model')}, but this run trains {len(modules)}; "
                    "train the same parts",
                )
            )
        file = open_weights(accelerate.weights[place], "--resume")
        names = {_WRAPPERS.sub("", name): name for name in file.infos}
        own = held_tensors(module)
        fitting = {name: _source(name, tensor, names, file.infos) for name, tensor in own.items()}
        sources = {name: source for name, source in fitting.items() if source is not None}
        missing = sorted(fitting.keys() - sources.keys())
        if missing:
            raise UserError(
                coded(
                    "STATE-005",
                    f"--resume {accelerate.folder}: {accelerate.weights[place].name} has other weights than this run trains: "
                    f"{counted(len(missing), 'tensor is missing or has', 'tensors are missing or have')} "
                    f"another shape, such as {missing[0]}; "
                    "use the state's script, model and network options",
                )
            )
        tensors = dict(file.read(sources.values()))
        with torch.no_grad():
            for name, tensor in own.items():
                value = tensors[sources[name]]
                tensor.copy_(value if value.shape == tensor.shape else _rows(value, tensor))


def load_accelerate_training(
    accelerate: AccelerateState,
    method: Method,
    optimizer: Optimizer,
    schedule: LRScheduler,
    scaler: Scaler | None,
    new_rates: bool,
    rebuild: Rebuild | None = None,
) -> LRScheduler:
    """Restore optimizer, schedule and scaler from the state's files; what cannot be used is reset, with a warning.

    Returns the schedule at the state's update: of any class with `rebuild`, otherwise only if it is a LambdaLR.
    """
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    commanded = own_rates(optimizer)
    saved = _read(accelerate, accelerate.optimizer)
    if saved is not None:
        _load_optimizer(accelerate, saved, method, optimizer)
    saved = _read(accelerate, accelerate.schedule)
    count = None if saved is None else saved.get("last_epoch")
    if rebuild is not None:
        done = count // accelerate.processes if isinstance(count, int) else 0
        schedule = rebuild.at(optimizer, commanded if new_rates else own_rates(optimizer), done)
    elif saved is not None:
        _load_schedule(saved, schedule, optimizer, accelerate, rates if new_rates else None)
    saved = _read(accelerate, accelerate.scaler) if scaler is not None else None
    if saved and scaler is not None:
        scaler.load_state_dict(saved)
    return schedule


def _source(name: str, tensor: Tensor, names: Mapping[str, str], infos: Mapping[str, Any]) -> str | None:
    """Return the name in the file of one of our tensors; a new word's vectors are the last rows of the text encoder's table."""
    for candidate in (name, _LEVEL + name):
        if candidate in names and tuple(infos[names[candidate]].shape) == tuple(tensor.shape):
            return names[candidate]
    table = names.get(_LEVEL + _TABLE, names.get(_TABLE))
    if name == "vectors" and table is not None and tensor.shape[0] == 1 and infos[table].shape[1] == tensor.shape[2]:
        return table
    return None


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value[-like.shape[1] :].reshape(like.shape)


def _read(accelerate: AccelerateState, path: Path | None) -> Any:
    """Read the file without running code from it; returns None, with a warning, if that is not possible."""
    if path is None:
        return None
    try:
        saved = read_plain(path)
        if isinstance(saved, dict):
            return saved
        reason = "is not in accelerate's format"
    except ValueError as fault:
        reason = str(fault)
    log.warning(f"--resume {accelerate.folder}: {path.name} {reason}; that part is reset")
    return None


def _load_optimizer(accelerate: AccelerateState, saved: Mapping[str, Any], method: Method, optimizer: Optimizer) -> None:
    theirs, ours = saved["param_groups"], optimizer.param_groups
    lacking = (_KINDS & theirs[0].keys()) ^ (_KINDS & ours[0].keys())
    if lacking:
        raise UserError(
            coded(
                "STATE-004",
                f"--resume {accelerate.folder}: optimizer.bin is for another optimizer than {type(optimizer).__name__} (they differ in "
                f"{', '.join(sorted(lacking))}); use the state's --optimizer_type",
            )
        )
    order = _matching_order([parameter for group in ours for parameter in group["params"]], method, saved)
    if order is None:
        log.warning(f"--resume {accelerate.folder}: optimizer.bin cannot be matched to the parameters; the optimizer is reset")
        return
    numbers = {number: group for group in theirs for number in group["params"]}
    state = optimizer.state_dict()
    flat = iter(order)
    memory: dict[int, Any] = {}
    for group, mine in zip(state["param_groups"], ours, strict=True):
        pairs = [(number, next(flat)) for number in group["params"]]
        source = numbers[pairs[0][1]]
        cycled = {"betas", "momentum"} if "max_momentum" in source else set()  # set by a schedule; this run has another one
        group.update({key: source[key] for key in source.keys() & group.keys() & (_KINDS | _RATES) - cycled})
        if "initial_lr" in source and "max_lr" not in source:  # with max_lr, initial_lr is the schedule's own rate
            group[OWN_RATE] = source["initial_lr"] * group.get(RATIO, 1.0)
        for (number, their_number), parameter in zip(pairs, mine["params"], strict=True):
            if their_number in saved["state"]:
                memory[number] = {key: _fitted(value, parameter) for key, value in saved["state"][their_number].items()}
    optimizer.load_state_dict({**state, "state": memory})


def _matching_order(parameters: Sequence[Tensor], method: Method, saved: Mapping[str, Any]) -> list[int] | None:
    """Return the number in the state of each of our parameters, in group order, from the order whose shapes all fit; None if none does."""
    theirs = [number for group in saved["param_groups"] for number in group["params"]]
    if len(theirs) != len(parameters):
        return None
    names = {id(parameter): name for module in method.modules() for name, parameter in module.named_parameters()}
    for ours in (_as_sd_scripts([names.get(id(parameter), "") for parameter in parameters]), list(range(len(parameters)))):
        if all(_fits(saved["state"].get(theirs[place]), parameters[number]) for place, number in enumerate(ours)):
            order = [0] * len(parameters)
            for place, number in enumerate(ours):
                order[number] = theirs[place]
            return order
    return None


def _as_sd_scripts(names: Sequence[str]) -> list[int]:
    """Return our indices in sd-scripts' order, which arranges the parts of each transformer block of the U-Net differently."""
    firsts: dict[str, int] = {}
    keys = []
    for place, name in enumerate(names):
        match = _IN_BLOCK.match(name)
        if match is None:
            keys.append((place, 0, place))
        else:
            keys.append((firsts.setdefault(match[1], place), 1 + _BLOCK_ORDER.index(match[2]), place))
    return sorted(range(len(names)), key=lambda place: keys[place])


def _fits(memory: Mapping[str, Any] | None, parameter: Tensor) -> bool:
    shapes = [value.shape for value in (memory or {}).values() if isinstance(value, Tensor) and value.dim() == max(2, parameter.dim())]
    return all(shape == parameter.shape or _is_table(shape, parameter) for shape in shapes)


def _is_table(shape: Iterable[int], parameter: Tensor) -> bool:
    """Return whether the shape is that of the whole vocabulary's table, whose last rows are the new word's."""
    rows, *width = shape
    return parameter.dim() == 3 and len(parameter) == 1 and width == [parameter.shape[2]] and rows > parameter.shape[1]


def _fitted(value: object, parameter: Tensor) -> object:
    return _rows(value, parameter) if isinstance(value, Tensor) and value.dim() == 2 and _is_table(value.shape, parameter) else value


def _load_schedule(
    saved: Mapping[str, Any], schedule: LRScheduler, optimizer: Optimizer, accelerate: AccelerateState, rates: list[Any] | None
) -> None:
    count = saved.get("last_epoch")
    if not isinstance(count, int) or not isinstance(schedule, LambdaLR):
        log.warning(f"--resume {accelerate.folder}: its schedule cannot be used for {type(schedule).__name__}, which is reset")
        return
    schedule.last_epoch = count // accelerate.processes
    schedule._step_count = schedule.last_epoch + 1
    bases = rates or [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    schedule.base_lrs = list(bases)
    for group, base, curve in zip(optimizer.param_groups, bases, schedule.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = base, base * curve(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
