"""The one exception for faults that the user can mend: shown as plain lines, never as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """One or more faults of the user's input, each a single line that names option, place, value and remedy.

    Scripts print the lines and end with exit code 2 (`library.console.run_script`).
    """

    def __init__(self, *problems: str) -> None:
        assert problems, "a UserError needs at least one problem"
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self):  # loader workers hand it to the main process by pickling
        return (UserError, self.problems)
