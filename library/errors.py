"""Errors that the user can fix, shown as plain lines and never as a traceback, and the request to stop."""

from __future__ import annotations

import re

from library.refusals.table import REFUSALS
from library.words import cut

LONGEST_LINE = 1500  # characters


class Problem(str):
    """A line that names option, place, value and remedy, with its code from `library/refusals`.

    A text longer than LONGEST_LINE, because of a value that a user gave, loses its middle. The text itself does not contain the code:
    `line` does, and scripts print that.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Problem:
        """Create the line `text` with the code `code`, such as DATA-002."""
        assert code in REFUSALS, f"{code} is not in library/refusals"
        problem = super().__new__(cls, cut(text, LONGEST_LINE))
        problem.code = code
        return problem

    def __reduce__(self) -> tuple[type[Problem], tuple[str, str]]:  # loader workers send it to the main process by pickle
        return (Problem, (self.code, str(self)))

    @property
    def line(self) -> str:
        """The text with the code at its end."""
        return f"{self} [SD-{self.code}]"

    def reworded(self, text: str) -> Problem:
        """Return another text with the same code."""
        return Problem(self.code, text)


def coded(code: str, text: str) -> Problem:
    """Return a line with its code: coded("DATA-002", f"image {path}: …")."""
    return Problem(code, text)


class UserError(Exception):
    """One or more errors in the user's input, each a single line that names option, place, value and remedy.

    Scripts print the lines and end with exit code 2 (`library.console.run_script`).
    """

    def __init__(self, *problems: Problem) -> None:
        assert problems, "a UserError needs at least one problem"
        assert all(isinstance(problem, Problem) for problem in problems), "each line needs its code: coded(code, text)"
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[UserError], tuple[Problem, ...]]:  # loader workers send it to the main process by pickle
        return (type(self), self.problems)

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems with their codes, as scripts print them."""
        return tuple(problem.line for problem in self.problems)


def first_line(error: BaseException | str) -> str:
    """Return the first line of an exception's message (or of a text), or the name of its class if the message is empty.

    Of an error of the system it is the system's reason, without its number and path.
    """
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return str(error.strerror)
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_plain_words(error: BaseException) -> str:
    """Return the first line of a package's message about a value, or what it means where the message is Python's own."""
    text = first_line(error)
    if isinstance(error, ZeroDivisionError):
        return "a value is 0 that must not be"
    if isinstance(error, AttributeError | LookupError | TypeError) or not str(error).strip() or _OF_PYTHON.match(text):
        return "a value has the wrong form"
    return text.rstrip(".")


_OF_PYTHON = re.compile(
    r"could not convert |invalid literal |too many values |not enough values |slice step |math domain |a leaf Variable "
)


def named_line(error: BaseException) -> str:
    """Return the name of the class and the first line of its message: `ValueError: invalid size`."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


class PartlyDone(UserError):
    """What a tool could not do, one line each, after it did all the rest; scripts end with exit code 1."""


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; `exit_code` is 128 + its number (130 Ctrl-C, 143 SIGTERM). No `except Exception` swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
