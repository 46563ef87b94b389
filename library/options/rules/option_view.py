"""The options of a script as rules read them: by name, whether the script has them or not."""

from __future__ import annotations

from typing import Any

from library.options.declare import Script, options_of, options_table


class Given:
    """The values of a script's options; an option that the script does not have reads as not given."""

    def __init__(self, options: Script) -> None:
        self.options = options
        self._values = options_table(options)

    def __getattr__(self, field: str) -> Any:
        return self._values.get(field)

    def at(self, field: str) -> str:
        """How an error line about the option begins: where its value stood."""
        return self.options.origin(field)

    def differs(self, field: str) -> bool:
        """Whether the script has the option, with another value than its default."""
        return any(option.field == field and self._values[field] != option.default for option in options_of(type(self.options)))
