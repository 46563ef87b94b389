"""The tools' options, one frozen dataclass per tool, and the table of tools."""
