"""Options that come from, or go to, a file."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class ConfigOptions:
    """Options in a file"""

    config_file: str | None = opt(
        None,
        "A .toml file with options, written as name = value; [sections] are for your own order only. The command line wins over the file.",
    )
    output_config: bool = opt(False, "Write all options with their present values to --config_file, which must not exist yet, and end.")
