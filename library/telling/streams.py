"""Standard output and standard error that never raise: a full disk, a closed pipe or a vanished terminal ends no run."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO, cast

from library.telling.signs import plain

_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ESHUTDOWN, errno.EINVAL})  # EINVAL: a closed pipe on Windows
_BAR_SIGNS = "\r"  # with which a progress bar writes over itself
_LINE_UP = "\x1b[A"  # with which one of several bars goes back to its line


class LastingStream:
    """Stands in for `stream`: what cannot be written is dropped, and `fault` says why for as long as it is so.

    Control signs but newline, tab and return are spelled out. `on_fault(line)` hears of the first fault; when the stream takes lines
    again, it says itself that some are missing.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream, self.name = stream, name
        self.fault = ""
        self.gone = False  # nobody will ever read it again: a closed pipe, a closed terminal
        self.on_fault: Callable[[str], None] = lambda line: None
        self.failed = False  # at any time

    def write(self, text: str) -> int:
        """Write what can be written; returns the length of `text` in any case."""
        shown = text if _moves_bars(text) else plain(text, _BAR_SIGNS)
        self._do(lambda: self._put(shown))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """The same for several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what waits."""
        self._do(lambda: None, flush=True)

    def close(self) -> None:
        """Others are not to close it."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _put(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            self.stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))

    def _do(self, act: Callable[[], object], flush: bool = False) -> None:
        if self.gone:
            return
        try:
            act()
            if flush or self.fault:
                self.stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)
            return
        if self.fault:
            reason, self.fault = self.fault, ""
            self._do(lambda: self.stream.write(f"\nwarning: {self.name} could not be written ({reason}); lines are missing here\n"))

    def _fail(self, error: OSError | ValueError) -> None:
        self.fault = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self.gone = isinstance(error, ValueError) or (error.errno in _GONE and not _is_file(self.stream))
        if self.gone:
            _let_go(self.stream)
        if not self.failed:
            self.failed = True
            if isinstance(error, ValueError):  # somebody of this process has closed it: that is meant so
                return
            self.on_fault(f"{self.name} cannot be written ({self.fault})")


def install() -> None:
    """Put lasting streams in the place of standard output and error, both there from now on; done twice it does no harm."""
    _fill_closed_places()
    sys.stdout = cast("TextIO", _lasting(sys.stdout, "standard output"))
    sys.stderr = cast("TextIO", _lasting(sys.stderr, "standard error"))


def lasting(stream: object) -> LastingStream | None:
    """`stream` as what `install` made of it."""
    return stream if isinstance(stream, LastingStream) else None


def _lasting(stream: TextIO | None, name: str) -> LastingStream:
    if isinstance(stream, LastingStream):
        stream = cast("TextIO", stream.stream)
    if stream is None:  # closed before Python began, or a window without console on Windows
        stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if hasattr(stream, "reconfigure"):
        with contextlib.suppress(OSError, ValueError):  # what waits in it cannot be written
            stream.reconfigure(errors="backslashreplace")  # outputs of Windows know one script or two
    return LastingStream(stream, name)


def _moves_bars(text: str) -> bool:
    """Whether it is what tqdm writes between two bars that run, and nothing that anyone has named."""
    if not text.startswith(_LINE_UP) or text.replace(_LINE_UP, ""):
        return False
    tqdm = sys.modules.get("tqdm")
    return tqdm is not None and len(getattr(tqdm.tqdm, "_instances", ())) > 1


def _is_file(stream: TextIO) -> bool:
    """Whether it leads into a file, of which a fault may pass: no pipe and no terminal."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def _fill_closed_places() -> None:
    """A process that was begun without outputs (`2>&-`) would give their numbers to files that it opens, and write messages into those."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _lead_nowhere(number)


def _let_go(stream: TextIO) -> None:
    """What still waits in a stream that nobody reads goes nowhere, or Python would complain of it when it ends."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return
    if number not in (1, 2) or os.name == "nt":
        return
    with contextlib.suppress(OSError, ValueError):
        _lead_nowhere(number)
        stream.flush()


def _lead_nowhere(number: int) -> None:
    handle = os.open(os.devnull, os.O_RDWR)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
