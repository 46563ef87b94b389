"""The samples of a run: drawn when they are due, from the weights that a save would hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from library.model.drawing.generate import evaluating
from library.paths.look import real
from library.training.logs.run_record import RunRecord
from library.training.optim.optimizer import weights_to_keep
from library.training.run_context import RunContext
from library.training.samples.samples import Samples


class RunSamples:
    """On every process, so that the others wait while the main one, which alone has a `record`, draws."""

    def __init__(self, run: RunContext, samples: Samples, record: RunRecord | None) -> None:
        self.samples = samples
        self._run, self._record = run, record

    def before_training(self) -> None:
        """Draw before the first update, where that is asked for, and in a run that goes on what a kill or stop has left out."""
        step = self._run.state.step
        if self.samples.due_at_first(step):
            self._run.on_main(lambda: self._draw(0, 0, self.samples.moment_is_epoch()))
        for epochs, at_epoch_end in self._moments_of_the_state():
            if self.samples.due(step, epochs, at_epoch_end):
                self._run.on_main(partial(self._draw_missing, step, epochs, at_epoch_end))

    def after(self, step: int, epochs: int, at_epoch_end: bool) -> None:
        """Draw after so many updates and epochs, where it is time."""
        if self.samples.due(step, epochs, at_epoch_end):
            self._run.on_main(lambda: self._draw(step, epochs, at_epoch_end))

    def _moments_of_the_state(self) -> list[tuple[int, bool]]:
        """(epochs done, whether one has just ended) as the run stood at when its state was written: samples come after that."""
        state, resumed = self._run.state, self._run.inputs.resumed
        if resumed is None or real(resumed.folder.parent) != real(self._run.options.saving.folder):
            return []  # the samples of another folder lie there
        return [(state.epoch, False), *([(state.epoch, True)] if state.epoch and not state.position and not state.cuts else [])]

    def _draw_missing(self, step: int, epochs: int, at_epoch_end: bool) -> None:
        samples, epoch = self.samples, epochs if at_epoch_end else None
        there = samples.drawn_at(step, epoch, self._run.state.session)
        if len(there) < len(samples.prompts):
            self._draw(step, epochs, at_epoch_end, there)
        elif self._record is not None:
            names = sorted(path.name for path in there.values())
            self._record.journal.note("samples", step, {"epoch": epoch, "files": names})

    def _draw(self, step: int, epochs: int, at_epoch_end: bool, there: Mapping[int, Path] | None = None) -> None:
        run, epoch = self._run, epochs if at_epoch_end else None
        averaged = run.ema.averaged() if run.ema and run.options.averaging.ema_for_samples else weights_to_keep(run.optimizer.optimizer)
        stop, session = run.requests.stop_is_wanted_now, run.state.session
        # a network's own dropouts must not act in samples; generate() sees to the model's parts only
        with averaged, evaluating(*run.method.modules()), run.accelerator.autocast():
            self.samples.draw(run.model, step, epoch, run.device, stop=stop, session=session, there=there)
        if self._record is not None:
            before = [(path, self.samples.prompts[index].prompt) for index, path in sorted((there or {}).items())]
            self._record.samples(epoch, step, sorted([*before, *self.samples.latest]))
