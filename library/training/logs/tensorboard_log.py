"""Writes the figures of a run for TensorBoard; errors in the log do not stop the training."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from library.console import log
from library.errors import first_line
from library.packages import install_command
from library.paths.shell_words import shell_word
from library.telling.appended import AppendedFile

FLUSH_SECONDS = 20
MOST_WAITING = 10  # events
DEFAULT_NAMES = {  # by script, the names that users know from other programs
    "train_network.py": "network_train",
    "train_db.py": "dreambooth",
    "fine_tune.py": "finetuning",
    "train_textual_inversion.py": "textual_inversion",
    "train_textual_inversion_XTI.py": "textual_inversion",
}


class Tracker:
    """One log, `<logging_dir>/<prefix><YYYYmmddHHMMSS>/<name>`; for the main process only.

    `failed` counts what could not be written; the first failure is reported.
    """

    def __init__(
        self,
        logging_dir: Path,
        prefix: str = "",
        name: str = "network_train",
        started: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        date = time.strftime("%Y%m%d%H%M%S", time.localtime(started))
        self.folder = Path(logging_dir) / f"{prefix}{date}" / name
        self._writer: EventFile | None = None
        self._failed = 0
        try:
            self._writer = EventFile(self.folder, _tell, **dict(settings or {}))
        except ModuleNotFoundError as error:
            self._fail(f"{(error.name or 'tensorboard').partition('.')[0]} is not installed: {install_command('tensorboard')}")
        except Exception as error:
            self._fail(error)

    @property
    def failed(self) -> int:
        """Figures of updates and epochs that are not in the log."""
        return self._failed + (self._writer.failed if self._writer is not None else 0)

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Write all `values` (name -> figure) at `step`, or at `epoch` where one is given."""
        self._add(lambda: _event(step if epoch is None else epoch, values))

    def images(self, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Does nothing: the log would store a second copy of each sample image."""

    def text(self, name: str, text: str) -> None:
        """Write a text in Markdown, which TensorBoard shows next to the figures."""
        self._add(lambda: _text_event(name, text))

    def place(self) -> str:
        """Where the user finds the log."""
        return f"{self.folder} (view it with: tensorboard --logdir {shell_word(self.folder.parent.parent)})"

    def close(self) -> None:
        """Write out what is still waiting."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, event: Callable[[], Any]) -> None:
        if self._writer is None:
            return
        try:
            self._writer.add_event(event())
        except Exception as error:
            self._fail(error)

    def _fail(self, reason: Exception | str) -> None:
        self._failed += 1
        if self._failed == 1:
            log.warning(f"--logging_dir: the log in {self.folder} cannot be written ({first_line(reason)}); training continues without it")


def _tell(line: str) -> None:
    log.warning(f"--logging_dir: {line}; training continues")


class EventFile:
    """A TensorBoard event file in `folder`, without the thread of TensorBoard's writer, which dies with a traceback on a full disk.

    Events are written once `flush_secs` have passed or `max_queue_size` are waiting. `on_fault(line)` receives each problem with the disk.
    """

    def __init__(
        self,
        folder: Path,
        on_fault: Callable[[str], None],
        max_queue_size: int = MOST_WAITING,
        flush_secs: float = FLUSH_SECONDS,
        filename_suffix: str = "",
    ) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0{filename_suffix}"
        self._file = AppendedFile(folder / name, on_fault)
        self._records = RecordWriter(self)
        self._most, self._seconds = max_queue_size, flush_secs
        self._waiting: list[bytes] = []
        self._due = 0.0  # the first event is written at once
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    @property
    def failed(self) -> int:
        """Events that could not be written."""
        return self._file.failed

    def add_event(self, event: Any) -> None:
        """Queue an event, and write the queue when it is due."""
        self._records.write(event.SerializeToString())
        if time.monotonic() >= self._due or len(self._waiting) >= self._most:
            self._flush()

    def write(self, record: bytes) -> None:
        """Queue a record; RecordWriter calls this."""
        self._waiting.append(record)

    def close(self) -> None:
        """Write the queue and close the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._due = time.monotonic() + self._seconds
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._file.add(record)


def _event(step: int, values: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    figures = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
    return Event(wall_time=time.time(), step=step, summary=Summary(value=figures))


def _text_event(name: str, text: str) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.metadata import create_summary_metadata

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode("utf-8", "replace")], tensor_shape=shape)
    value = Summary.Value(tag=f"{name}/text_summary", metadata=create_summary_metadata(display_name=name, description=""), tensor=tensor)
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))
