"""Writes the figures of a run where TensorBoard finds them; whatever goes wrong with the log, the training goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from library.console import log
from library.errors import first_line
from library.packages import install_command

FLUSH_SECONDS = 20
DEFAULT_NAMES = {  # the names that users of the ecosystem look for, by script
    "train_network.py": "network_train",
    "train_db.py": "dreambooth",
    "fine_tune.py": "finetuning",
    "train_textual_inversion.py": "textual_inversion",
    "train_textual_inversion_XTI.py": "textual_inversion",
}


class Tracker:
    """One log, `<logging_dir>/<prefix><YYYYmmddHHMMSS>/<name>`; for the main process only.

    `failed` counts what could not be written; the first time is told.
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
        self.failed = 0
        self._writer: Any = None
        try:
            self._writer = _open(self.folder, {"flush_secs": FLUSH_SECONDS} | dict(settings or {}))
        except ModuleNotFoundError as error:
            self._fail(f"{(error.name or 'tensorboard').partition('.')[0]} is not installed: {install_command('tensorboard')}")
        except Exception as error:
            self._fail(error)

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Write all `values` (name -> figure) at `step`, or at `epoch` where one is given."""
        if self._writer is None:
            return
        try:
            self._writer.add_event(_event(step if epoch is None else epoch, values))
        except Exception as error:
            self._fail(error)

    def images(self, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Sample images stay where they are: the log would hold each once more."""

    def text(self, name: str, text: str) -> None:
        """Write a text in Markdown, which TensorBoard shows beside the figures."""
        if self._writer is None:
            return
        try:
            self._writer.add_event(_text_event(name, text))
        except Exception as error:
            self._fail(error)

    def place(self) -> str:
        """Where to look, for people."""
        return f"{self.folder} (look at it with: tensorboard --logdir {self.folder.parent.parent})"

    def close(self) -> None:
        """Write out what is still waiting."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, reason: Exception | str) -> None:
        self.failed += 1
        if self.failed == 1:
            line = first_line(reason)
            log.warning(f"--logging_dir: the log in {self.folder} cannot be written ({line}); training goes on without it")


def _open(folder: Path, settings: Mapping[str, Any]) -> Any:
    """TensorBoard's own event writer: a thread that takes events from a queue.

    A module of the name tensorboard.compat.notf makes it use its stand-in for TensorFlow: the real one, if installed, loads for seconds.
    """
    name = "tensorboard.compat.notf"
    sys.modules.setdefault(name, ModuleType(name))
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    return EventFileWriter(str(folder), **settings)


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
