"""The end of a run, complete or stopped: the last save, and the last lines on the screen, in the log and in the manifest."""

from __future__ import annotations

import sys
from pathlib import Path

from library.console import log
from library.training.closing_lines import ClosingLines
from library.training.logs.run_record import RunRecord
from library.training.run_context import RunContext
from library.training.samples.samples import Samples
from library.training.saving.run_saves import RunSaves


class RunEnd:
    """Exists on every process; the main one, the only one with a `record`, acts."""

    def __init__(self, run: RunContext, saves: RunSaves, record: RunRecord | None, samples: Samples | None) -> None:
        self._run, self._saves, self._record = run, saves, record
        self._lines = None if record is None else ClosingLines(run, record, saves, samples)
        self._first_step = run.state.step

    def finish(self) -> None:
        """Write the product and log where everything is."""
        plan, state = self._run.inputs.plan, self._run.state
        epochs = state.epoch + (state.position > 0) if state.step < plan.updates else plan.epochs
        self._saves.save(lambda checkpointer: checkpointer.at_end(epochs, state.step))
        if self._lines is not None:
            product = self._saves.checkpointer.product()
            self._run.requests.forget()
            self._lines.times()
            log.info(f"result: {', '.join(map(str, self._saves.checkpointer.products()))}")
            self._close_with("end", product)
        self._run.accelerator.wait_for_everyone()

    def stop(self) -> None:
        """Save the progress of a run that was asked to stop, and log how to continue."""
        state = self._run.state
        if state.step == self._first_step:
            log.info("stopped before the first update; nothing new is saved")
        else:
            length = self._run.inputs.sampler(state.seed).length(state.epoch)
            epochs = state.epoch + (1 if state.position >= length else 0)
            self._saves.save(lambda checkpointer: checkpointer.at_stop(epochs, state.step))
            if self._lines is not None:
                self._lines.times()
                self._lines.way_on()
        self._run.requests.forget()
        self._close_with("stopped", None)

    def close(self) -> None:
        """Flush the logs and wait for running uploads, unless a second Ctrl-C ends the run."""
        if self._record is not None:
            self._record.journal.close()
        if self._saves.uploads is not None:
            self._saves.uploads.close(wait=not isinstance(sys.exc_info()[1], KeyboardInterrupt))

    def _close_with(self, event: str, product: Path | None) -> None:
        if self._record is not None and self._lines is not None:
            self._record.end(event, product)
            self._lines.places()
            self._record.journal.close()
