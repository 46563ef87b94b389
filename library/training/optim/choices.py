"""Checks that the optimizer and the schedule of a command exist, to the extent possible without importing torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from library.errors import Problem, UserError, coded
from library.options.groups.optimizer import OptimizerOptions
from library.options.groups.scripts import TrainingScript
from library.options.reading.named_class import did_you_mean
from library.packages import install_command, missing_module
from library.paths.opening import read_text
from library.training.optim import lr_schedule_table, optimizer_table


def check_choices(options: TrainingScript) -> None:
    """Raise UserError for unknown names of optimizer and schedule, with both errors if both are unknown.

    What only an import can show, such as whether a module has the class, is left to the run.
    """
    problems = [*_optimizer(options.optimizer), *_schedule(options.optimizer)]
    if problems:
        raise UserError(*problems)


def _optimizer(chosen: OptimizerOptions) -> Iterator[Problem]:
    try:
        name = optimizer_table.resolve_name(chosen.optimizer_type, chosen.use_8bit_adam, chosen.use_lion_optimizer)
    except UserError:
        return  # the option rules report it
    row = optimizer_table.BY_NAME.get(name.lower())
    if row is not None:
        if missing_module(row.module) is not None:
            yield coded("PKG-001", f"--optimizer_type {row.name}: {row.module} is not installed: {install_command(row.package)}")
    elif "." in name:
        yield from _class_to_import("--optimizer_type", name)
    elif (classes := _names_in_torch("optim/__init__.py")) and name.lower() not in map(str.lower, classes):
        known = [row.name for row in optimizer_table.OPTIMIZERS]
        yield coded(
            "OPT-013",
            f"--optimizer_type {name}: is not known{did_you_mean(name, [*known, *classes])}; known are {', '.join(known)}, "
            "every class of torch.optim, and module.Class for any other",
        )


def _schedule(chosen: OptimizerOptions) -> Iterator[Problem]:
    custom, name = chosen.lr_scheduler_type, chosen.lr_scheduler
    if _has_its_own_schedule(chosen):
        return
    if "." in custom:
        yield from _class_to_import("--lr_scheduler_type", custom)
    elif custom:
        classes = _names_in_torch("optim/lr_scheduler.py")
        if classes and custom.lower() not in map(str.lower, classes):
            meant = did_you_mean(custom, classes)
            yield coded(
                "OPT-014", f"--lr_scheduler_type {custom}: is not known{meant}; give a class of torch.optim.lr_scheduler, or module.Class"
            )
    elif name.lower() not in (*lr_schedule_table.BY_NAME, lr_schedule_table.ADAFACTOR):
        known = [*lr_schedule_table.BY_NAME, lr_schedule_table.ADAFACTOR]
        meant = did_you_mean(name, known)
        yield coded(
            "OPT-014", f"--lr_scheduler {name}: is not known{meant}; known are {', '.join(known)}; --lr_scheduler_type takes a class"
        )


def _has_its_own_schedule(chosen: OptimizerOptions) -> bool:
    """Whether the optimizer may be an AdaFactor with its own schedule, which replaces any named one."""
    plain = "".join("".join(chosen.optimizer_args).lower().split())
    return chosen.optimizer_type.lower().endswith("adafactor") and "relative_step=false" not in plain


def _class_to_import(option: str, dotted: str) -> Iterator[Problem]:
    module = dotted.rpartition(".")[0]
    missing = missing_module(module)
    if missing is not None:
        yield coded("PKG-004", f"{option} {dotted}: module {missing} not found; install the package that contains it, or correct the name")


@functools.cache
def _names_in_torch(file: str) -> tuple[str, ...]:
    """The classes that a source file of torch defines or imports, read from its text; empty if it cannot be read."""
    spec = find_spec("torch")
    names: dict[str, None] = {}
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        try:
            tree = ast.parse(read_text(Path(place) / file, "utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names[node.name] = None
            elif isinstance(node, ast.ImportFrom):
                names.update((alias.asname or alias.name, None) for alias in node.names)
    return tuple(name for name in names if name[:1].isupper())
