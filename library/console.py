"""Console output: log lines and progress of the main process only; user errors as plain lines with an exit code.

A failed write never ends a run (`library.telling`), and control characters never reach the terminal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from library.errors import PartlyDone, Stopped, UserError, coded
from library.telling.appended import AppendedFile
from library.telling.broken_torch import torch_fault
from library.telling.leaving import ending_with
from library.telling.signs import plain, plain_line
from library.telling.streams import install, lasting

log = logging.getLogger("sd")

_secrets: set[str] = set()
_tells = False  # standard output has messages only, no result

EXIT_PARTLY_DONE = 1  # a tool did everything except what it lists
EXIT_FAULT = 2  # the user's input has to change
EXIT_INTERRUPTED = 130  # Ctrl-C; SIGTERM gives 143


def keep_secret(value: str | None) -> None:
    """Remove `value` (a token, a key) from all messages from now on."""
    if value and value.strip():
        _secrets.update({value.strip(), repr(value.strip())[1:-1]})  # an error may quote its repr


def secret_free(text: str) -> str:
    """Return the text without secrets: other packages repeat a token in their error messages."""
    for secret in _secrets:
        text = text.replace(secret, "(secret)")
    return text


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # generic from Python 3.11 on


class _Lines(logging.Formatter):
    """Format information unchanged, and warnings and errors after their level; without secrets and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        text = plain(secret_free(super().format(record)))
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


class _ThroughTqdm(_StreamHandler):
    """Write above a running progress bar instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            super().emit(record)
            return
        try:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # an error in the record itself: report it as `logging` does; the run continues
            self.handleError(record)


def is_main_process() -> bool:
    """Whether this is the first of the processes started by `accelerate launch` or `torchrun` (known before torch is imported)."""
    return os.environ.get("RANK", "0") == "0"


class _LogFile(logging.Handler):
    """Write to a file that was just emptied; lines that cannot be written go to standard error."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be written."""
        super().__init__()
        path.open("wb").close()
        self._on_screen = _ThroughTqdm()
        self._on_screen.setFormatter(_LINES)
        self.setFormatter(_LINES)
        self._file = AppendedFile(
            path, lambda line: self._on_screen.emit(_warning(f"--console_log_file: {line}; lines are shown here for now"))
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if not self._file.add(text.encode("utf-8", "backslashreplace")):
            self._on_screen.emit(record)

    def close(self) -> None:
        self._file.close()
        super().close()


_LINES = _Lines("%(message)s")


def _warning(text: str) -> logging.LogRecord:
    return log.makeRecord(log.name, logging.WARNING, "", 0, text, (), None)


def setup() -> None:
    """Send log lines to standard error; processes other than the first log errors only."""
    global _tells
    _tells = False
    install()
    output, errors = lasting(sys.stdout), lasting(sys.stderr)
    if output is not None and errors is not None:
        output.on_fault = lambda line: None if output.gone and not _tells else log.warning(line)
        errors.on_fault = lambda line: print(f"warning: {line}; lines are lost") if _tells or output.isatty() else None
    handler = _ThroughTqdm()
    handler.setFormatter(_LINES)
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # at import bitsandbytes warns about a missing kernel for 4-bit weights, which nothing here uses
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def tell_as(level: str | None, file: Path | None) -> None:
    """Log records of `level` (INFO, WARNING, …) and above only, to `file` instead of standard error if it is set.

    Processes other than the first do not change. Raises OSError for a file that cannot be written.
    """
    if not is_main_process():
        return
    if level is not None:
        log.setLevel(level)
    if file is not None:
        handler = _LogFile(file)
        _close_files()
        log.handlers[:] = [handler]


def _close_files() -> None:
    for handler in log.handlers:
        if isinstance(handler, _LogFile):
            handler.close()


def progress(items: Iterable[Any] | None = None, *, total: int | None = None, initial: int = 0, label: str = "", unit: str = "it") -> Any:
    """Return a tqdm bar that only the main process shows."""
    from tqdm import tqdm

    hidden, text = not is_main_process(), plain_line(label)
    return tqdm(items, total=total, initial=initial, desc=text, unit=unit, smoothing=0.1, dynamic_ncols=True, disable=hidden)


def only_tells() -> None:
    """Declare that standard output has messages and no result, so a failed write there loses nothing of the outcome."""
    global _tells
    _tells = True


def run_script(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)` and return its exit code; a UserError is printed to standard error as its lines."""
    return ending_with(_run_script(main, argv))


def _run_script(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None) -> int:
    setup()
    try:
        _check_working_folder()
        main(sys.argv[1:] if argv is None else argv)
        _check_result()
    except UserError as fault:
        for problem in fault.lines if is_main_process() else ():
            _tell_error(problem)
        return EXIT_PARTLY_DONE if isinstance(fault, PartlyDone) else EXIT_FAULT
    except (ImportError, OSError, MemoryError) as fault:
        broken = torch_fault(fault)
        if broken is None:
            raise
        if is_main_process():
            _tell_error(broken.line)
        return EXIT_FAULT
    except Stopped as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        log.warning("stopped by Ctrl-C")
        return EXIT_INTERRUPTED
    finally:
        _close_files()
    return 0


def _check_working_folder() -> None:
    """Raise UserError if the current folder was removed: nothing relative to it can be found or written."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as fault:
        reason = "it was removed" if isinstance(fault, FileNotFoundError) else fault.strerror or str(fault)
        raise UserError(coded("PATH-001", f"the current folder cannot be used ({reason}); go to another one with cd")) from fault


def _tell_error(problem: str) -> None:
    """Print an error that ends the run, and write it to the log file too."""
    print(f"error: {plain_line(secret_free(problem))}", file=sys.stderr)
    for handler in log.handlers:
        if isinstance(handler, _LogFile):
            handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, problem, (), None))


def _check_result() -> None:
    """Raise PartlyDone if standard output has a result and could not be written completely; a closed pipe (`| head`) is no error."""
    output = lasting(sys.stdout)
    if output is None or _tells:
        return
    output.flush()
    if output.failed and not output.gone:
        reason = f" ({output.fault})" if output.fault else ""  # empty if it takes lines again
        raise PartlyDone(coded("TOOL-011", f"standard output: could not be written completely{reason}; free some space and run this again"))
