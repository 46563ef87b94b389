"""Builds the optimizer that the user named, with the arguments it needs and none it does not know, and reports its rates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from warnings import filterwarnings

import torch
from torch.optim import Optimizer

from library.errors import UserError, coded, in_plain_words
from library.options.reading.named_class import (
    check_arguments,
    classes_of,
    did_you_mean,
    find_class,
    import_class,
    import_package,
    parse_arguments,
)
from library.packages import install_command
from library.training.optim.optimizer_table import BY_NAME, OPTIMIZERS, Kind, OptimizerRow, row_of_class
from library.training.optim.parts.first_step import first_step_fault
from library.training.optim.parts.rate_ratios import OWN_RATE, effective_rate, give_one_rate
from library.training.optim.parts.split_groups import PART, part_of_group, splits_groups, with_split_groups
from library.training.optim.stochastic_rounding import with_float32_steps
from library.training.processes import PreparedOptimizer

_OPTION = "--optimizer_type"
_ARGS = "--optimizer_args"
_OURS = {"self": "", "params": "", "lr": "is set with --learning_rate (and --unet_lr, --text_encoder_lr)"}
_FUSED = frozenset({torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD})
_CHOOSES_KERNEL = frozenset({"fused", "foreach", "differentiable", "capturable"})
_UNUSABLE = {
    torch.optim.LBFGS: "computes the loss several times per update, which training on batches cannot do",
    torch.optim.SparseAdam: "only takes sparse gradients, which these models do not have",
}


@dataclass(frozen=True, eq=False)
class BuiltOptimizer:
    """`kind` says what learning rates mean to it; `notes` and `warnings` are lines for the user.

    `schedule` is the only schedule that it works with; None: any.
    """

    optimizer: Optimizer
    name: str
    kind: Kind
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    schedule: str | None = None


def make_optimizer(
    name: str,
    param_groups: Sequence[dict[str, Any]],
    learning_rate: float,
    args: Sequence[str] | None = None,
    fused: bool = True,
    rounding_seed: int | None = None,
    device: torch.device | None = None,
) -> BuiltOptimizer:
    """The optimizer `name` (a row of the table, a class of torch.optim, or module.Class) over `param_groups`.

    Groups are {"params": …, "lr": …}; one without "lr" gets `learning_rate`. `args` are `key=value` texts. `fused=False` avoids torch's
    fused kernels, which hide from the gradient scaler that an update was skipped. With `rounding_seed` the parameters are in 16 bits: steps
    are computed in float32 and rounded at random from that seed. `device` is where the run trains, if the parameters are elsewhere.
    Raises UserError.
    """
    row, target = _find(name)
    arguments = parse_arguments(_ARGS, args)
    groups = [{**group, "params": list(group["params"])} for group in param_groups]
    if splits := _takes_split_groups(row, arguments):
        groups = [{**group, PART: part_of_group(str(group.get("name", place)))} for place, group in enumerate(groups)]
    filterwarnings("ignore", "Paged optimizers are not supported on CPU", UserWarning)  # bitsandbytes; they work there without paging
    notes: list[str] = []
    warnings: list[str] = []
    for key, value in row.defaults.items():
        if key not in arguments and not (key == "relative_step" and arguments.get("warmup_init")):
            notes.append(f"{row.name}: {key}={value} is added; set {_ARGS} {key}=… for another value")
            arguments[key] = value
    kind = row.kind
    if kind == "relative":
        kind = _settle_adafactor(arguments, notes)
    _check(row, target, arguments)
    rates = [group.get("lr", learning_rate) for group in groups]
    # Some classes refuse a default rate of 0, even where every group has a rate and none uses the default.
    rate: float | None = learning_rate or max(rates, default=0.0)
    if kind == "relative":
        rate = None
        groups = [{key: value for key, value in group.items() if key != "lr"} for group in groups]
        notes.append(f"{row.name} finds its own learning rate: the given rates are ignored, and --lr_scheduler is adafactor")
    kind_of = with_split_groups(target) if splits else target
    optimizer = _build(row, kind_of, groups, rate, {**row.fixed, **arguments}, fused, rounding_seed is not None, bool(args), device)
    if rounding_seed is not None:
        _settle_rounding(row, target, optimizer, rounding_seed)
    if kind == "factor":
        _settle_factor(row, optimizer, notes, warnings)
    if kind != "relative":
        for group in optimizer.param_groups:
            group[OWN_RATE] = effective_rate(group)
    if hasattr(optimizer, "train"):  # schedule-free optimizers: see weights_to_keep
        optimizer.train()
    return BuiltOptimizer(optimizer, row.name, kind, tuple(notes), tuple(warnings), "adafactor" if kind == "relative" else None)


def logged_rates(optimizer: Optimizer | PreparedOptimizer, names: Sequence[str]) -> dict[str, float]:
    """What TensorBoard shows per group of parameters: `lr/<name>`, and `lr/d*lr/<name>` for optimizers that find the rate d themselves.

    A frozen group, such as a text encoder after --stop_text_encoder_training, has no rate.
    """
    rates: dict[str, float] = {}
    for name, group in zip(names, optimizer.param_groups, strict=True):
        if not any(parameter.requires_grad for parameter in group["params"]):
            continue
        rates[f"lr/{name}"] = effective_rate(group)
        if "d" in group:
            rates[f"lr/d*lr/{name}"] = float(group["d"]) * effective_rate(group)
    return rates


@contextlib.contextmanager
def weights_to_keep(optimizer: Optimizer) -> Iterator[None]:
    """Inside, the parameters are the weights to save or sample with.

    Only schedule-free optimizers (Defazio et al. 2024) distinguish these from the weights that they train at; for others nothing happens.
    """
    to_kept, to_trained = getattr(optimizer, "eval", None), getattr(optimizer, "train", None)
    if to_kept is None or to_trained is None:
        yield
        return
    to_kept()
    try:
        yield
    finally:
        to_trained()


def _find(name: str) -> tuple[OptimizerRow, type]:
    """The row and the class of a name; a class outside the table gets a plain row."""
    row = BY_NAME.get(name.lower())
    if row:
        module = import_package(_OPTION, row.name, row.module, row.package)
        target = getattr(module, row.class_name, None)
        if target is None:
            reason = f"the installed {row.package} has no {row.class_name}; install the tested version: {install_command(row.package)}"
            raise UserError(coded("PKG-003", f"{_OPTION} {row.name}: {reason}"))
        return row, target
    if "." in name:
        target = import_class(_OPTION, name)
    else:
        target = find_class(torch.optim, Optimizer, name)
    if target is None:
        known = [row.name for row in OPTIMIZERS]
        others = sorted(classes_of(torch.optim, Optimizer))
        raise UserError(
            coded(
                "OPT-013",
                f"{_OPTION} {name}: is not known{did_you_mean(name, known + others)}; known are {', '.join(known)}, "
                "every class of torch.optim, and module.Class for any other",
            )
        )
    if target in _UNUSABLE:
        raise UserError(coded("OPT-016", f"{_OPTION} {name}: {target.__name__} {_UNUSABLE[target]}; choose another optimizer"))
    if not issubclass(target, Optimizer):
        raise UserError(coded("OPT-013", f"{_OPTION} {name}: is not an optimizer (a class derived from torch.optim.Optimizer)"))
    return _row_of(name, target), target


def _row_of(name: str, target: type) -> OptimizerRow:
    """The table's row for a class that was named by its module, so that it is treated the same; otherwise a plain row."""
    made_up = OptimizerRow(name if "." in name else target.__name__, target.__module__, target.__name__, "")
    return row_of_class(target) or made_up


def _takes_split_groups(row: OptimizerRow, arguments: dict[str, Any]) -> bool:
    """Whether each part of the model finds its own rate; removes the argument, which the package does not know, from `arguments`."""
    if not row.splits or "split_groups" not in arguments:
        return False
    value = arguments.pop("split_groups")
    if not isinstance(value, bool):
        raise UserError(coded("OPT-011", f"{_ARGS} split_groups={value}: must be True (a rate for each part) or False (one for all)"))
    return value


def _check(row: OptimizerRow, target: type, arguments: dict[str, Any]) -> None:
    check_arguments(_ARGS, row.name, target, arguments, _OURS)
    contrary = [key for key, value in row.fixed.items() if arguments.get(key, value) != value]
    if contrary:
        key = contrary[0]
        raise UserError(
            coded(
                "OPT-011", f"{_ARGS} {key}={arguments[key]}: {row.name} requires {key}={row.fixed[key]}; remove it or use another optimizer"
            )
        )
    if arguments.get("use_triton") and not _installed("triton"):  # lion-pytorch ends the whole process in this case
        raise UserError(
            coded(
                "PKG-001",
                f"{_ARGS} use_triton=True: triton is not installed: pip install triton (Linux with an NVIDIA GPU), or remove it",
            )
        )


def _settle_adafactor(arguments: dict[str, Any], notes: list[str]) -> Kind:
    """Whether AdaFactor finds its own rate (the guide's rules); fills in `arguments` and `notes`."""
    if arguments.get("warmup_init") and not arguments.get("relative_step"):
        arguments["relative_step"] = True
        notes.append("AdaFactor: relative_step=True, because warmup_init=True needs it")
    if arguments["relative_step"]:
        return "relative"
    notes.append("AdaFactor with relative_step=False: --lr_scheduler constant_with_warmup and --max_grad_norm 0 are recommended with it")
    return "plain"


def _settle_factor(row: OptimizerRow, optimizer: Optimizer, notes: list[str], warnings: list[str]) -> None:
    """Warn if rates that are factors are not around 1, and set up each group's share if they differ."""
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    shown = ", ".join(f"{rate:g}" for rate in rates)
    if rates[-1] != 1.0:
        warnings.append(f"{row.name} finds the learning rate itself and uses yours as a factor: 1.0 is expected, not {shown}")
    positive = [rate for rate in rates if rate > 0]
    if len(positive) > 1 and row.one_rate:
        raise UserError(
            coded(
                "OPT-016", f"{_OPTION} {row.name}: takes one learning rate for everything, not {shown}; make them equal or use DAdaptAdam"
            )
        )
    if splits_groups(optimizer):
        names = ", ".join(dict.fromkeys(group[PART] for group in optimizer.param_groups))
        notes.append(f"{row.name} with split_groups=True finds a rate for each part: {names}")
    if give_one_rate(optimizer):
        notes.append(f"{row.name} finds one rate for everything; parts with smaller factors use a fraction of it ({shown})")


def _settle_rounding(row: OptimizerRow, target: type, optimizer: Any, seed: int) -> None:
    """Set what `with_float32_steps` needs; refuse optimizers that change the weights outside of their steps."""
    if hasattr(optimizer, "train"):
        raise UserError(
            coded(
                "OPT-016",
                f"{_OPTION} {row.name}: changes the weights between its steps too, which 16 bits cannot represent; "
                "remove --full_fp16 and --full_bf16, or use another optimizer",
            )
        )
    if row.kind == "factor" and len({group["lr"] for group in optimizer.param_groups if group["lr"] > 0}) > 1:
        raise UserError(
            coded(
                "OPT-016", f"{_OPTION} {row.name}: takes one learning rate for everything with --full_fp16 and --full_bf16; make them equal"
            )
        )
    optimizer.seed = seed
    # other optimizers of the table, like torch's, update each parameter separately; other classes may not
    optimizer.one_by_one = row.kind != "factor" and (row in OPTIMIZERS or target in classes_of(torch.optim, Optimizer).values())


def _build(
    row: OptimizerRow,
    target: type,
    groups: list[dict[str, Any]],
    rate: float | None,
    args: dict[str, Any],
    fused: bool,
    in_float32: bool,
    tried: bool,
    device: torch.device | None,
) -> Optimizer:
    """Construct the optimizer; an error of its class, or of its first step with `tried`, becomes a UserError with its message."""
    kind = with_float32_steps(target) if in_float32 else target
    ways = [args]
    if fused and target in _FUSED and not _CHOOSES_KERNEL & args.keys():
        ways.insert(0, {**args, "fused": True})  # several times faster on CPU and GPU; not every device has it
    for way in ways:
        try:
            optimizer: Optimizer = kind([dict(group) for group in groups], lr=rate, **way)
            problem = first_step_fault(partial(target, lr=rate, **way), groups, device) if tried else ""
            if not problem:
                return optimizer
        except (TypeError, ValueError, AssertionError, RuntimeError, SystemExit) as error:
            problem = in_plain_words(error)
    shown = " ".join(f"{key}={value}" for key, value in args.items()) or "(none)"
    remedy = "change or remove them" if tried else "use another optimizer"
    raise UserError(coded("OPT-011", f"{_OPTION} {row.name} with {_ARGS} {shown}: refused by {target.__name__}: {problem}; {remedy}"))


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
