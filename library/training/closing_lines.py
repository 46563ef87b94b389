"""What is told when a run ends: where everything is, how long it took, and, where it was stopped, how to go on."""

from __future__ import annotations

import time
from pathlib import Path

from library.console import log
from library.training.logs.journal import Journal
from library.training.planning.inputs import Inputs
from library.training.samples.samples import Samples
from library.training.saving.file_metadata import FileFacts
from library.training.saving.manifest import Manifest, moment
from library.training.saving.run_saves import Keeping
from library.training.states.state import TrainState


class LastLines:
    """For people on the screen, for programs in the event log and the manifest; for the main process only."""

    def __init__(
        self,
        inputs: Inputs,
        facts: FileFacts,
        manifest: Manifest,
        journal: Journal,
        keeping: Keeping,
        samples: Samples | None,
        state: TrainState,
        started: float,
    ) -> None:
        self._inputs, self._facts, self._manifest, self._journal = inputs, facts, manifest, journal
        self._keeping, self._samples, self._state = keeping, samples, state
        self._first_step, self._started = state.step, started
        self.training_began = started

    def time(self, images_an_epoch: int) -> None:
        """How long it trained, and how fast."""
        plan, done = self._inputs.plan, self._state.step - self._first_step
        seconds, whole = time.time() - self.training_began, time.time() - self._started
        images = images_an_epoch / plan.updates_per_epoch * done
        rate = f"{images / max(seconds, 1e-9):.2f} {self._inputs.source.unit} a second with saves and samples"
        log.info(f"trained {done} updates in {seconds:.0f} s, {rate}; {whole:.0f} s with loading")

    def way_on(self) -> None:
        """How to go on with a run that was stopped."""
        plan, step, checkpointer = self._inputs.plan, self._state.step, self._keeping.checkpointer
        kept = checkpointer.state_at_step(step)
        way = f"to go on, give the same command with --resume {kept}"
        if kept is None:
            way = f"no state was kept, since --save_state was not given; what was trained is in {checkpointer.file_at_step(step)}"
        log.warning(f"stopped after update {step} of {plan.updates}; {way}")

    def end(self, event: str, product: Path | None) -> None:
        """Close log and manifest with the event `event`, wait for uploads, and say where everything is."""
        seconds = {"seconds": time.time() - self.training_began, "seconds_in_all": time.time() - self._started}
        if self._state.step > self._first_step:
            self._journal.note(event, self._state.step, seconds)
            result = product and (product.name if product.parent == self._manifest.path.parent else str(product))
            self._manifest.write(finished=moment(time.time()), result=result, updates=self._state.step, **self._facts.known_late())
        uploads = self._keeping.uploads
        if uploads is not None:
            uploads.close()
        if self._keeping.checkpointer.missed:
            log.warning(f"{self._keeping.checkpointer.missed} saves were left out because the disk was full")
        if self._state.left_out:
            log.warning(f"images left out because of numbers that were not finite: {', '.join(self._state.left_out)}")
        for line in self._places():
            log.info(line)
        if uploads is not None:
            for line in uploads.places():
                log.info(line)
        self._journal.close()

    def _places(self) -> list[str]:
        shares = self._journal.shares(time.time() - self.training_began)
        lines = [shares] if shares else []
        if self._samples is not None:
            if self._samples.drawn:
                self._samples.write_page(running=False)
            lines += self._samples.places()
        lines += self._journal.places()
        return lines + ([f"settings: {self._manifest.path}"] if self._manifest.path.is_file() else [])
