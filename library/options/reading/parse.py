"""From a command line to the options of a script: command line over --config_file over default, with all errors reported together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from library.console import keep_secret, log
from library.errors import UserError, coded
from library.options.declare import Script, Tool, build, options_of
from library.options.reading import command_line, config_file
from library.paths.faults import new_file_fault
from library.paths.look import exists

S = TypeVar("S", bound=Script)


def parse(spec: type[S], argv: Sequence[str]) -> S:
    """Parse `argv` (without the script's name); the UserError lists every error of the command line and the file.

    `--help` prints the help and `--output_config` writes the options to the --config_file; both end with SystemExit(0).
    """
    options = options_of(spec)
    line = command_line.read(options, argv, issubclass(spec, Tool))
    if line.wants_help:
        from library.options.reading.help_text import help_of

        sys.stdout.write(help_of(spec))
        raise SystemExit(0)
    from_file = config_file.FileOptions()
    problems = list(line.problems)
    problems += [
        coded("OPT-007", f"{option.field} is missing: {option.help}")
        for option in options
        if option.positional and option.field not in line.values
    ]
    file = line.values.get("config_file")
    assert file is None or isinstance(file, str)
    if file is not None and not line.values.get("output_config"):
        from_file = config_file.read(options, file)
        problems += from_file.problems
    if problems:
        raise UserError(*problems)
    for field in dict.fromkeys(line.repeated):
        log.warning("--%s is given more than once; the last value counts", field)
    for warning in (*line.warnings, *from_file.warnings):
        log.warning("%s", warning)
    values = from_file.values | line.values
    origins = from_file.origins | {option.field: option.flag for option in options if option.field in line.values}
    for option in options:
        if option.secret:
            secret = values.get(option.field)
            keep_secret(secret if isinstance(secret, str) else None)
    parsed = build(spec, values, origins)
    if line.values.get("output_config"):
        _write(parsed, file)
        raise SystemExit(0)
    return parsed


def _write(options: Script, name: str | None) -> None:
    if name is None:
        raise UserError(coded("OPT-009", "--output_config: name the file to write with --config_file, such as --config_file settings.toml"))
    if not Path(name).name:
        raise UserError(
            coded("PATH-002", f"--output_config: {name} is a folder; name the file to write with --config_file, such as settings.toml")
        )
    path = Path(name) if name.endswith(".toml") else Path(name + ".toml")
    if exists(path):
        raise UserError(
            coded(
                "PATH-011",
                f"--output_config: {path} already exists and is not overwritten; choose another name with --config_file, or delete it",
            )
        )
    if fault := new_file_fault(path):
        raise UserError(fault.reworded(f"--output_config: {fault}"))
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(config_file.text_of(options))
    except OSError as reason:
        raise UserError(
            coded("PATH-005", f"--output_config: cannot write {path} ({reason.strerror}); choose an existing folder with --config_file")
        ) from None
    log.info("options written to %s", path)
