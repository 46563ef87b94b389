"""What a run records about itself: journal and manifest, created with the first event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from library.training.logs.journal import Journal
from library.training.run_context import RunContext
from library.training.saving.file_metadata import FileFacts
from library.training.saving.manifest import moment
from library.training.step.loop_events import UpdateReport


class RunRecord:
    """For the main process only. A run that fails at once leaves nothing behind."""

    def __init__(self, run: RunContext, facts: FileFacts) -> None:
        self.journal = Journal.from_options(run.options, run.state, run.device)
        self.manifest = facts.manifest()
        self.training_began = run.started
        self._run, self._facts = run, facts
        self._first_step = run.state.step
        self._begun = False

    def training_begins(self) -> None:
        """Count the training time from now on."""
        self.training_began = time.time()

    def begin(self) -> None:
        """Write the first lines of log and manifest, unless they are written already."""
        if not self._begun:
            self._begun = True
            self.manifest.write()
            run = self._run
            resumed = run.options.saving.resume if self._first_step else None
            self.journal.note("start", self._first_step, {"seed": run.state.seed, "updates": run.inputs.plan.updates, "resumed": resumed})

    def update(self, report: UpdateReport) -> None:
        """The figures of an update."""
        self.begin()
        self.journal.update(report)

    def samples(self, epoch: int | None, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Generated sample images (path, prompt)."""
        self.begin()
        if files:
            self.journal.images(epoch, step, files)

    def end(self, event: str, product: Path | None) -> None:
        """Close log and manifest with the event `event`, if any update was made."""
        step, now = self._run.state.step, time.time()
        if step > self._first_step:
            self.journal.note(event, step, {"seconds": now - self.training_began, "seconds_in_all": now - self._run.started})
            result = product and (product.name if product.parent == self.manifest.path.parent else str(product))
            self.manifest.write(finished=moment(time.time()), result=result, updates=step, **self._facts.known_late())
