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
_BAR_SIGNS = "\r"  # moves a progress bar to the start of its line
_LINE_UP = "\x1b[A"  # moves one of several bars back to its line


class LastingStream:
    """Wraps `stream` and drops what cannot be written; keeps the reason while that lasts.

    Control characters except newline, tab and carriage return are escaped. `on_fault(line)` is called for the first failure; when the
    stream accepts lines again, it writes a warning about the missing ones.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream, self.name = stream, name
        self.fault = ""
        self.gone = False  # a closed pipe or terminal: permanent
        self.on_fault: Callable[[str], None] = lambda line: None
        self.failed = False  # at any time

    def write(self, text: str) -> int:
        """Write if possible; always returns the length of `text`."""
        shown = text if _moves_bars(text) else plain(text, _BAR_SIGNS)
        self._do(lambda: self._put(shown))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush waiting output."""
        self._do(lambda: None, flush=True)

    def close(self) -> None:
        """Flush only: other code must not close the stream."""
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
            if isinstance(error, ValueError):  # code in this process has closed it on purpose
                return
            self.on_fault(f"{self.name} cannot be written ({self.fault})")


def install() -> None:
    """Replace standard output and error by LastingStreams, and create them if closed; may be called twice."""
    _fill_closed_places()
    sys.stdout = cast("TextIO", _lasting(sys.stdout, "standard output"))
    sys.stderr = cast("TextIO", _lasting(sys.stderr, "standard error"))


def lasting(stream: object) -> LastingStream | None:
    """Return `stream` if `install` created it, else None."""
    return stream if isinstance(stream, LastingStream) else None


def _lasting(stream: TextIO | None, name: str) -> LastingStream:
    if isinstance(stream, LastingStream):
        stream = cast("TextIO", stream.stream)
    if stream is None:  # closed before Python started, or a windowed program without a console on Windows
        stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if hasattr(stream, "reconfigure"):
        with contextlib.suppress(OSError, ValueError):  # its buffered output cannot be written
            stream.reconfigure(errors="backslashreplace")  # Windows encodings cover only one or two scripts
    return LastingStream(stream, name)


def _moves_bars(text: str) -> bool:
    """Whether this is the cursor movement that tqdm writes between two running bars, and no other text."""
    if not text.startswith(_LINE_UP) or text.replace(_LINE_UP, ""):
        return False
    tqdm = sys.modules.get("tqdm")
    return tqdm is not None and len(getattr(tqdm.tqdm, "_instances", ())) > 1


def _is_file(stream: TextIO) -> bool:
    """Whether it writes to a file, where an error may be temporary; pipes and terminals are not files."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def _fill_closed_places() -> None:
    """Open the standard streams that are closed (`2>&-`); otherwise their numbers would go to files, which would then receive messages."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _lead_nowhere(number)


def _let_go(stream: TextIO) -> None:
    """Discard the buffered output of a stream without a reader, so that Python does not report it at exit."""
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
