"""The tools' options, one frozen dataclass a tool, and the table of tools."""
