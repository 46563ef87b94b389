"""The last lines of a run: where everything is, how long it took, and how to continue if it was stopped."""

from __future__ import annotations

import time

from library.console import log
from library.paths.look import is_file
from library.training.logs.run_record import RunRecord
from library.training.run_context import RunContext
from library.training.samples.samples import Samples
from library.training.saving.run_saves import RunSaves
from library.words import counted


class ClosingLines:
    """Messages on the screen; for the main process only."""

    def __init__(self, run: RunContext, record: RunRecord, saves: RunSaves, samples: Samples | None) -> None:
        self._run, self._record, self._saves, self._samples = run, record, saves, samples
        self._first_step = run.state.step

    def times(self) -> None:
        """Log how long the run trained, and how fast."""
        inputs, done = self._run.inputs, self._run.state.step - self._first_step
        seconds, whole = time.time() - self._record.training_began, time.time() - self._run.started
        an_epoch = sum(bucket.count for bucket in inputs.data.buckets)
        images = an_epoch / inputs.plan.updates_per_epoch * done
        rate = f"{images / max(seconds, 1e-9):.2f} {inputs.source.unit} per second including saves and samples"
        log.info(f"trained {counted(done, 'update')} in {seconds:.0f} s, {rate}; {whole:.0f} s including loading")

    def way_on(self) -> None:
        """Log how to continue a run that was stopped."""
        plan, step, checkpointer = self._run.inputs.plan, self._run.state.step, self._saves.checkpointer
        state = checkpointer.state_at_step(step)
        way = f"to continue, repeat the command with --resume {state}"
        if state is None:
            way = f"no state was saved, since --save_state was not set; the result is in {checkpointer.file_at_step(step)}"
        log.info(f"stopped after update {step} of {plan.updates}; {way}")

    def places(self) -> None:
        """Wait for uploads, and log where everything is and what was skipped."""
        uploads, missed, left_out = self._saves.uploads, self._saves.checkpointer.missed, self._run.state.left_out
        if uploads is not None:
            uploads.close()
        if missed:
            log.warning(f"{counted(missed, 'save was', 'saves were')} skipped because the disk was full")
        if left_out:
            log.warning(f"images excluded because of numbers that were not finite: {', '.join(left_out)}")
        for line in self._places():
            log.info(line)
        if uploads is not None:
            for line in uploads.places():
                log.info(line)

    def _places(self) -> list[str]:
        journal, manifest = self._record.journal, self._record.manifest
        shares = journal.shares(time.time() - self._record.training_began)
        lines = [shares] if shares else []
        if self._samples is not None:
            if self._samples.drawn:
                self._samples.write_page(running=False)
            lines += self._samples.places()
        if self._saves.ledger is not None:
            lines += [f"images: {path}" for path in self._saves.ledger.places()]
        lines += journal.places()
        return lines + ([f"settings: {manifest.path}"] if is_file(manifest.path) else [])
