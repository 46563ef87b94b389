"""Reads --log_tracker_config: settings of TensorBoard and Weights & Biases, under the names that those programs use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from library.errors import UserError, coded
from library.options.groups.scripts import TrainingScript
from library.options.suggest import closest
from library.parsing.bounds import TooMuch
from library.parsing.toml_text import TomlFault, parse_toml
from library.paths.faults import file_fault
from library.paths.opening import read_text

TENSORBOARD = {"max_queue": "max_queue_size", "flush_secs": "flush_secs", "filename_suffix": "filename_suffix"}
_OURS = ("dir", "settings", "reinit", "sync_tensorboard", "tensorboard")  # arguments of wandb.init that the suite sets itself


def trackers(options: TrainingScript) -> tuple[str, ...]:
    """The requested logs: tensorboard if --logging_dir is set, unless --log_with names others."""
    log_options = options.logging
    chosen = {"all": ("tensorboard", "wandb"), "wandb": ("wandb",)}.get(log_options.log_with or "", ("tensorboard",))
    return tuple(name for name in chosen if name == "wandb" or log_options.logging_dir is not None)


def tracker_settings(options: TrainingScript) -> dict[str, dict[str, Any]]:
    """`{"tensorboard": {…}, "wandb": {…}}`, empty where nothing is set. Raises UserError with all errors in the file.

    The file has a table per tracker. Keys of [wandb] are arguments of `wandb.init` (name, entity, group, tags, …), those of [tensorboard]
    are `flush_secs`, `max_queue` and `filename_suffix`.
    """
    path = options.logging.log_tracker_config
    settings: dict[str, dict[str, Any]] = {"tensorboard": {}, "wandb": {}}
    if path is None:
        return settings
    place = f"{options.origin('log_tracker_config')}: {path}"
    known = {"tensorboard": tuple(TENSORBOARD), "wandb": _wandb_keys() if "wandb" in trackers(options) else None}
    problems = []
    for table, content in _load(Path(path), place).items():
        if table not in known or not isinstance(content, Mapping):
            problems.append(coded("CFG-006", f"{place}: {table} is unknown; settings belong in the tables [wandb] and [tensorboard]"))
            continue
        keys = known[table]
        for key in content:
            if keys is not None and key not in keys:
                near = closest(key, keys)
                meant = f" (did you mean {near}?)" if near else ""
                problems.append(coded("CFG-006", f"{place}, [{table}] {key}: is unknown{meant}; known are {', '.join(keys)}"))
        settings[table] = dict(content)
    if problems:
        raise UserError(*problems)
    settings["tensorboard"] = {TENSORBOARD[key]: value for key, value in settings["tensorboard"].items()}
    return settings


def _load(path: Path, place: str) -> dict[str, Any]:
    if wrong := file_fault(path):
        raise UserError(wrong.reworded(f"{place.removesuffix(str(path))}{wrong}"))
    try:
        return parse_toml(read_text(path))
    except UnicodeDecodeError:
        raise UserError(coded("CFG-001", f"{place}: is not UTF-8; save it as UTF-8")) from None
    except OSError as error:
        raise UserError(coded("CFG-004", f"{place}: cannot be read ({error.strerror or error})")) from None
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{place}: {fault}")) from None
    except TomlFault as fault:
        where = f" line {fault.line}" if fault.line else ""
        raise UserError(
            coded("CFG-002", f"{place}{where}: is not valid TOML; write tables such as [wandb] with lines name = value")
        ) from None


def _wandb_keys() -> tuple[str, ...] | None:
    try:
        import wandb
    except ImportError:
        return None  # reported when the log is opened
    return tuple(name for name in inspect.signature(wandb.init).parameters if name not in _OURS)
