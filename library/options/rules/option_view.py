"""A script's options for the rules: by name, even if the script does not have the option."""

from __future__ import annotations

from typing import Any

from library.options.declare import Script, options_of, options_table


class OptionView:
    """The values of a script's options; an option that the script does not have reads as not set."""

    def __init__(self, options: Script) -> None:
        self.script = options
        self._values = options_table(options)

    def __getattr__(self, field: str) -> Any:
        return self._values.get(field)

    def at(self, field: str) -> str:
        """The start of an error line about the option: the source of its value."""
        return self.script.origin(field)

    def differs(self, field: str) -> bool:
        """Whether the script has the option, with a value other than its default."""
        return any(option.field == field and self._values[field] != option.default for option in options_of(type(self.script)))
