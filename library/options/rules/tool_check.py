"""Find paths of a tool's command line that cannot work, before anything is read: missing, a file instead of a folder, not writable."""

from __future__ import annotations

from collections.abc import Container

from library.errors import UserError, coded
from library.options.declare import Tool, options_of, options_table
from library.options.rules.declared_paths import path_faults


def check_paths(options: Tool, idle: Container[str] = ()) -> None:
    """Raise UserError with all errors in the paths that the tool's options name, except those in `idle`, and with options in the tool's
    `required` that are not set."""
    values = options_table(options)
    problems = [
        coded("OPT-007", f"--{option.field} is missing: {option.help}")
        for option in options_of(type(options))
        if option.field in options.required and values[option.field] in (None, ())
    ]
    problems += path_faults(options, idle)
    if problems:
        raise UserError(*problems)
