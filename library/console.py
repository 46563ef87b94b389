"""What a run says: log lines and progress on the main process only, and user faults as plain lines with an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from library.errors import PartlyDone, Stopped, UserError

log = logging.getLogger("sd")

_secrets: set[str] = set()

EXIT_PARTLY_DONE = 1  # a tool has done all but what it lists
EXIT_FAULT = 2  # the user's input has to change
EXIT_INTERRUPTED = 130  # Ctrl-C; SIGTERM gives 143


def keep_secret(value: str | None) -> None:
    """From now on `value` (a token, a key) is struck out of whatever is told."""
    if value and value.strip():
        _secrets.update({value.strip(), repr(value.strip())[1:-1]})  # an error may quote it as Python writes it


def secret_free(text: str) -> str:
    """The text without any secret: other packages repeat a token in their error messages."""
    for secret in _secrets:
        text = text.replace(secret, "(secret)")
    return text


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # generic from Python 3.11 on


class _Lines(logging.Formatter):
    """Information as it is; warnings and errors with their level in front; never a secret."""

    def format(self, record: logging.LogRecord) -> str:
        text = secret_free(super().format(record))
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


class _ThroughTqdm(_StreamHandler):
    """Writes above a running progress bar instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            super().emit(record)
        else:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)


def is_main_process() -> bool:
    """Whether this is the first of the processes started by `accelerate launch` or `torchrun` (known before torch is imported)."""
    return os.environ.get("RANK", "0") == "0"


def prints_all(*streams: object) -> None:
    """Let streams spell what their encoding has no sign for, rather than fail: outputs of Windows know one script or two."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def setup() -> None:
    """Send log lines to standard error; processes other than the first speak only from errors on."""
    prints_all(sys.stdout, sys.stderr)
    handler = _ThroughTqdm()
    handler.setFormatter(_Lines("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # bitsandbytes tells at import that it misses a kernel for 4-bit weights, which nothing here uses
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def tell_as(level: str | None, file: Path | None) -> None:
    """From now on tell what is of `level` (INFO, WARNING, …) or above, in `file` instead of on standard error where one is given.

    Other processes than the first go on as they are. Raises OSError for a file that cannot be written.
    """
    if not is_main_process():
        return
    if level is not None:
        log.setLevel(level)
    if file is not None:
        handler = logging.FileHandler(file, mode="w", encoding="utf-8", errors="backslashreplace", delay=False)
        handler.setFormatter(_Lines("%(message)s"))
        _close_files()
        log.handlers[:] = [handler]


def _close_files() -> None:
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def progress(items: Iterable[Any] | None = None, *, total: int | None = None, initial: int = 0, label: str = "", unit: str = "it") -> Any:
    """A tqdm bar that only the main process shows."""
    from tqdm import tqdm

    return tqdm(
        items, total=total, initial=initial, desc=label, unit=unit, smoothing=0.1, dynamic_ncols=True, disable=not is_main_process()
    )


def run_script(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)` and turn its outcome into an exit code; a UserError becomes its lines on standard error."""
    setup()
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UserError as fault:
        if is_main_process():
            for problem in fault.lines:
                print(f"error: {secret_free(problem)}", file=sys.stderr)
                _into_file(problem)
        return EXIT_PARTLY_DONE if isinstance(fault, PartlyDone) else EXIT_FAULT
    except Stopped as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        log.warning("stopped by Ctrl-C")
        return EXIT_INTERRUPTED
    finally:
        _close_files()
    return 0


def _into_file(problem: str) -> None:
    """An error that ends the run, for those who read the log file alone."""
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, problem, (), None))
