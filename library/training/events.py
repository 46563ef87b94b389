"""Handles the events of the loop: saves, validation, samples and logs, each when it is due."""

from __future__ import annotations

from library.console import log
from library.training.logs.run_record import RunRecord
from library.training.run_context import RunContext
from library.training.samples.run_samples import RunSamples
from library.training.saving.run_saves import RunSaves
from library.training.step.loop_events import UpdateReport
from library.training.validation.validator import Validator


class RunEvents:
    """`library.training.step.loop_events.Events` of a run.

    The main process, the only one with a `record`, acts; the others wait while it writes or generates.
    """

    def __init__(
        self, run: RunContext, saves: RunSaves, record: RunRecord | None, samples: RunSamples | None, validator: Validator | None
    ) -> None:
        self._run, self._saves, self._record, self._samples, self._validator = run, saves, record, samples, validator

    def before_training(self) -> None:
        """Validate and generate samples before the first update, if requested."""
        if self._validator is not None and self._run.state.step == 0:
            loss = self._validator.at_start()
            if self._record is not None:
                self._record.begin()
                self._record.journal.validation(0, loss)
        if self._record is not None:
            if self._run.state.step and self._run.inputs.resumed is not None:
                self._record.begin()
                self._saves.catch_up()
            self._record.training_begins()
        if self._samples is not None:
            self._samples.before_training()

    def on_update(self, report: UpdateReport) -> None:
        """Write the figures of an update into the logs."""
        self._run.state.epoch_losses.append(report.loss)
        if self._run.ledger is not None:
            self._run.ledger.note(report)
        if self._record is not None:
            self._record.update(report)

    def after_update(self, epochs: int, step: int) -> None:
        """Average the weights, validate, save and generate samples, if due."""
        if self._run.ema is not None:
            self._run.ema.update()
        self._validate(epochs, step, at_epoch_end=False)
        if self._run.inputs.plan.is_save_step(step):
            self._saves.save(lambda checkpointer: checkpointer.after_update(epochs, step))
        if self._samples is not None:
            self._samples.after(step, epochs, at_epoch_end=False)

    def on_demand(self, epochs: int, step: int) -> None:
        """Save on request."""
        log.info(f"asked to save: update {step}")
        self._saves.save(lambda checkpointer: checkpointer.on_demand(epochs, step))
        self._run.requests.forget("save")

    def after_epoch(self, epochs: int, step: int) -> None:
        """Write the epoch's figures, validate, save and generate samples, if due."""
        losses = self._run.state.epoch_losses
        if self._record is not None and losses:
            self._record.journal.epoch(epochs, step, {"loss/epoch": sum(losses) / len(losses)})
        losses.clear()
        self._validate(epochs, step, at_epoch_end=True)
        if self._run.inputs.plan.is_save_epoch(epochs):
            self._saves.save(lambda checkpointer: checkpointer.after_epoch(epochs, step))
        if self._samples is not None:
            self._samples.after(step, epochs, at_epoch_end=True)

    def went_back(self, step: int) -> None:
        """Forget what was recorded of later updates."""
        if self._run.ledger is not None:
            self._run.ledger.go_back(step)

    def enough(self) -> bool:
        """Return whether validation shows that more training does not help."""
        return self._validator is not None and self._validator.enough

    def _validate(self, epochs: int, step: int, at_epoch_end: bool) -> None:
        """Validate before anything is saved: a state includes the validation of its update."""
        if self._validator is None:
            return
        measured = self._validator.after(step, epochs, at_epoch_end)
        if measured is None:
            return
        if self._record is not None:
            self._record.journal.validation(step, measured.loss)
        if measured.is_best and self._validator.plan.save_best:
            self._saves.save(lambda checkpointer: checkpointer.best(epochs, step))
