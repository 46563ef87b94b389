"""Passes the events of the training loop to the logs: trackers and events.jsonl; also sums up where the time went."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from library.options.declare import options_of, options_table
from library.options.groups.scripts import TrainingScript
from library.training.logs.event_log import EventLog
from library.training.logs.tensorboard_log import DEFAULT_NAMES, Tracker
from library.training.logs.tracker_settings import tracker_settings, trackers
from library.training.logs.wandb_log import WandbLog
from library.training.states.state import TrainState
from library.training.step.loop_events import UpdateReport
from library.words import counted, in_words

if TYPE_CHECKING:
    import torch

_SECONDS = "seconds/"


class FigureLog(Protocol):
    """A log of figures that a Journal fills; none of its methods raises."""

    @property
    def failed(self) -> int:
        """How much could not be written."""

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Write `values` at an update, or at the end of an epoch."""

    def images(self, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Show sample images (path, prompt)."""

    def place(self) -> str:
        """Where the user finds the log."""

    def close(self) -> None:
        """Write out what is still waiting."""


class Journal:
    """For the main process only. Its errors never reach the training."""

    def __init__(self, logs: Sequence[FigureLog], events: EventLog, device: torch.device | None = None) -> None:
        self._logs, self._events, self._device = tuple(logs), events, device
        self._seconds: dict[str, float] = {}
        self._peak = 0.0

    @classmethod
    def from_options(cls, options: TrainingScript, state: TrainState, device: torch.device | None = None) -> Journal:
        """The logs that the options ask for, and the event log in `--output_dir`."""
        log_options, folder = options.logging, options.saving.folder
        settings = tracker_settings(options)
        name = log_options.log_tracker_name or DEFAULT_NAMES.get(options.name, "training")
        run = options.saving.output_name or "last"
        logs: list[FigureLog] = []
        for kind in trackers(options):
            if kind == "tensorboard":
                assert log_options.logging_dir is not None  # checked by `trackers`
                tracker = Tracker(Path(log_options.logging_dir), log_options.log_prefix or "", name, settings=settings[kind])
                if log_options.log_config:
                    tracker.text("options", _as_table(_config(options)))
                logs.append(tracker)
            else:
                place = folder if log_options.logging_dir is None else Path(log_options.logging_dir)
                shown = log_options.wandb_run_name or f"{log_options.log_prefix or ''}{options.saving.output_name or ''}" or None
                logs.append(WandbLog(place, name, shown, log_options.wandb_api_key, settings[kind], _config(options)))
        return cls(logs, EventLog(folder, run, state.session, state.step, state.epoch), device)

    def update(self, report: UpdateReport) -> None:
        """The figures of one update."""
        memory = memory_gib(self._device)
        self._peak = max(self._peak, memory)
        for name, value in report.extra.items():
            if name.startswith(_SECONDS):
                self._seconds[name] = self._seconds.get(name, 0.0) + value
        values = {"loss/current": report.loss, "loss/average": report.average, "grad_norm": report.grad_norm, **report.extra}
        values["memory/gib"] = memory
        for figures in self._logs:
            figures.log(report.step, values)
        self._events.write("update", report.step, {"epoch": report.epoch + 1, **values})

    def epoch(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """The figures of an epoch; `epoch` counts from 1."""
        for figures in self._logs:
            figures.log(step, values, epoch)
        self._events.write("epoch", step, {"epoch": epoch, **values})

    def validation(self, step: int, loss: float) -> None:
        """The loss on images that are not trained on, at an update (0: before the first)."""
        values = {"loss/validation": loss}
        for figures in self._logs:
            figures.log(step, values)
        self._events.write("validation", step, values)

    def images(self, epoch: int | None, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Generated sample images (path, prompt)."""
        for figures in self._logs:
            figures.images(step, files)
        self.note("samples", step, {"epoch": epoch, "files": [path.name for path, _ in files]})

    def note(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write an event to the event log."""
        self._events.write(event, step, values)

    def shares(self, seconds: float) -> str:
        """Where the `seconds` of training went and how much memory was in use, as a line for the user; empty before the first update.

        Time that no update reports was spent after the last one: on its saves and samples, and the product.
        """
        if not self._seconds:
            return ""
        spent = {kind: self._seconds.get(_SECONDS + kind, 0.0) for kind in ("data", "step")}
        spent["other"] = max(self._seconds.get(_SECONDS + "other", 0.0), seconds - sum(spent.values()))
        total = max(sum(spent.values()), 1e-9)
        names = {"data": "waiting for images", "step": "training", "other": "saves, samples and logs"}
        parts = [f"{spent[kind] / total:.0%} {words}" for kind, words in names.items()]
        return f"time: {', '.join(parts)}; {'GPU ' if _on_gpu(self._device) else ''}memory: {in_words(self._peak * 2**30)} at most"

    def places(self) -> list[str]:
        """Where the logs are, one line each, with the number of failed writes."""
        lines = [f"log: {figures.place()}{_failures(figures.failed)}" for figures in self._logs]
        return [*lines, f"events: {self._events.path}{_failures(self._events.failed)}"]

    def close(self) -> None:
        """Write out what is still waiting."""
        for figures in self._logs:
            figures.close()
        self._events.close()


def memory_gib(device: torch.device | None = None) -> float:
    """Memory in GiB: torch's peak on a CUDA device, otherwise the resident memory of this process."""
    if _on_gpu(device):
        return float(sys.modules["torch"].cuda.max_memory_allocated(device) / 2**30)
    import psutil

    return float(psutil.Process().memory_info().rss / 2**30)


def _on_gpu(device: torch.device | None) -> bool:
    return getattr(device, "type", "") == "cuda"


def _failures(count: int) -> str:
    return f" (could not be written {counted(count, 'time')})" if count else ""


def _config(options: TrainingScript) -> dict[str, object]:
    """The options that a tracker stores with a run, without secrets and paths."""
    secret = {option.field for option in options_of(type(options)) if option.secret}
    return {field: value for field, value in options_table(options).items() if field not in secret and not _is_private(value)}


def _as_table(values: Mapping[str, object]) -> str:
    """Names and values as a Markdown table for TensorBoard, without options that are not set."""
    rows = [f"| {name} | {value} |" for name, value in values.items() if value not in (None, (), "", False)]
    return "\n".join(["| option | value |", "| --- | --- |", *rows])


def _is_private(value: object) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_private, value))
    return isinstance(value, Path) or (isinstance(value, str) and ("/" in value or "\\" in value))
