"""Faults that the user can mend, shown as plain lines and never as a traceback, and the wish to stop."""

from __future__ import annotations

from library.refusals.table import REFUSALS
from library.words import cut

LONGEST_LINE = 1500  # letters


class Problem(str):
    """A line that names option, place, value and remedy, and the code of its kind, which stands in `library/refusals`.

    A text of thousands of letters, out of a value that a user gave, loses its middle. It has no code in it: `line` has, and is what a
    script ends with.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Problem:
        """The line `text` of the kind `code`, such as DATA-002."""
        assert code in REFUSALS, f"{code} is not in library/refusals"
        problem = super().__new__(cls, cut(text, LONGEST_LINE))
        problem.code = code
        return problem

    def __reduce__(self) -> tuple[type[Problem], tuple[str, str]]:  # loader workers hand it to the main process by pickling
        return (Problem, (self.code, str(self)))

    @property
    def line(self) -> str:
        """The text with the code at its end."""
        return f"{self} [SD-{self.code}]"

    def reworded(self, text: str) -> Problem:
        """Another line of the same kind."""
        return Problem(self.code, text)


def coded(code: str, text: str) -> Problem:
    """The line with its code: coded("DATA-002", f"image {path}: …")."""
    return Problem(code, text)


class UserError(Exception):
    """One or more faults of the user's input, each a single line that names option, place, value and remedy.

    Scripts print the lines and end with exit code 2 (`library.console.run_script`).
    """

    def __init__(self, *problems: Problem) -> None:
        assert problems, "a UserError needs at least one problem"
        assert all(isinstance(problem, Problem) for problem in problems), "each line needs its code: coded(code, text)"
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[UserError], tuple[Problem, ...]]:  # loader workers hand it to the main process by pickling
        return (type(self), self.problems)

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems with their codes, for whoever reads them."""
        return tuple(problem.line for problem in self.problems)


def first_line(error: BaseException | str) -> str:
    """The first line of what an exception (or a text) says, and the name of its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def named_line(error: BaseException) -> str:
    """The name of its class before the first line: `ValueError: no such size`."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


class PartlyDone(UserError):
    """What a tool could not do, one line each, when it has done all the rest; scripts end with exit code 1."""


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; `exit_code` is 128 + its number (130 Ctrl-C, 143 SIGTERM). No `except Exception` swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
