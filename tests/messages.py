"""What tests ask of messages: the code, the place and the value, and not the sentence around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from library.errors import Problem, UserError

Messages = BaseException | str | Iterable[str]  # an error, the output of a script, or a list of problems, warnings or lines


def message(messages: Messages, *names: object) -> str:
    """The first line that has all these names and figures, each as a whole word: 5 is not in 15, 0.5 or 5.1."""
    lines = _lines(messages)
    for line in lines:
        if all(_has(line, str(name)) for name in names):
            return line
    pytest.fail(f"no line has all of {', '.join(str(name) for name in names)} in:\n" + ("\n".join(lines) or "(nothing)"))


def refusal(messages: Messages, code: str, *names: object) -> str:
    """The first line with this code, such as DATA-012, and all these names and figures."""
    return message(messages, f"[SD-{code}]", *names)


def refusals(messages: Messages, *expected: tuple[object, ...]) -> None:
    """As many lines as there are (code, name, …), each with what is asked of it, in this order."""
    lines = _lines(messages)
    assert len(lines) == len(expected), f"{len(lines)} lines instead of {len(expected)}:\n" + "\n".join(lines)
    for line, (code, *names) in zip(lines, expected, strict=True):
        refusal([line], str(code), *names)


@contextmanager
def refused(code: str, *names: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Inside, a UserError is raised, and one of its lines has this code and all these names and figures."""
    with pytest.raises(UserError) as error:
        yield error
    refusal(error.value, code, *names)


def _lines(messages: Messages) -> list[str]:
    if isinstance(messages, UserError):
        return list(messages.lines)
    if isinstance(messages, Problem):
        return [messages.line]
    if isinstance(messages, (str, BaseException)):
        return str(messages).splitlines()
    return [message.line if isinstance(message, Problem) else message for message in messages]


def _has(line: str, name: str) -> bool:
    before = r"(?<!\w)(?<!\d\.)" if name[:1].isdigit() else r"(?<!\w)" if name[:1].isalnum() else ""
    after = r"(?!\w)(?!\.\d)" if name[-1:].isdigit() else r"(?!\w)" if name[-1:].isalnum() else ""
    return re.search(before + re.escape(name) + after, line) is not None
