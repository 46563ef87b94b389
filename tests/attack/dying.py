"""What a forked child of the attack by kills does: a run that counts what it changes on the disk, and kills itself at one of these."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "fsync", "half a record")


def run(given: Mapping[str, Any]) -> int:
    """The script with its arguments; how many operations there were stands in the file `counts` afterwards."""
    counted = _count_operations(given["folder"], given["operation"])
    _kill_before(given["line"])
    if given["prepare"]:
        module, _, name = given["prepare"][0].partition(":")
        getattr(importlib.import_module(module), name)(given["prepare"][1])
    from library.console import run_script

    code = run_script(importlib.import_module(given["script"]).main, given["argv"])
    Path(given["counts"]).write_text(str(counted[0]), encoding="utf-8")
    return code


def _count_operations(folder: str, kill_at: int | None) -> list[int]:
    """Counts operations below `folder` that change something there; at number `kill_at`, from 1, the process kills itself instead."""
    from library.telling.appended import AppendedFile

    counted = [0]

    def count(what: object) -> bool:
        """Whether this one is to be the last."""
        if isinstance(what, str | os.PathLike) and os.fspath(what).startswith(folder):
            counted[0] += 1
            return counted[0] == kill_at
        return False

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and count(path):
                end()
        elif event in OPERATIONS and count(arguments[0]):
            end()

    real_fsync, real_write = os.fsync, AppendedFile._write

    def fsync(handle: int) -> None:
        link = Path(f"/proc/self/fd/{handle}")
        if count(link.readlink() if link.is_symlink() else folder):
            end()
        real_fsync(handle)

    def write(self: AppendedFile, record: bytes) -> None:
        if count(self.path):
            self._opened().write(record[: len(record) // 2])
            end()
        real_write(self, record)

    os.fsync = fsync
    AppendedFile._write = write  # type: ignore[method-assign]
    sys.addaudithook(hear)
    return counted


def _kill_before(line: str | None) -> None:
    """The process kills itself before it writes an event's line."""
    from library.training.logs.event_log import EventLog

    real = EventLog.write

    def write(self: EventLog, event: str, step: int, values: Mapping[str, Any]) -> None:
        if f"{event} {step}" == line:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, event, step, values)

    EventLog.write = write  # type: ignore[method-assign]
