"""The samples of a run: generated when they are due, from the weights that a save would contain."""

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
    """Exists on every process: the main one, the only one with a `record`, generates while the others wait."""

    def __init__(self, run: RunContext, samples: Samples, record: RunRecord | None) -> None:
        self.samples = samples
        self._run, self._record = run, record

    def before_training(self) -> None:
        """Generate before the first update if that is requested; in a resumed run, generate the samples that an interruption left out."""
        step = self._run.state.step
        if self.samples.due_at_first(step):
            self._run.on_main(lambda: self._draw(0, 0, self.samples.moment_is_epoch()))
        for epochs, at_epoch_end in self._moments_of_the_state():
            if self.samples.due(step, epochs, at_epoch_end):
                self._run.on_main(partial(self._draw_missing, step, epochs, at_epoch_end))

    def after(self, step: int, epochs: int, at_epoch_end: bool) -> None:
        """Generate the samples that are due after `step` updates and `epochs` epochs."""
        if self.samples.due(step, epochs, at_epoch_end):
            self._run.on_main(lambda: self._draw(step, epochs, at_epoch_end))

    def _moments_of_the_state(self) -> list[tuple[int, bool]]:
        """Return (epochs done, whether one has just ended) as of the state that the run resumes from: a save comes before samples."""
        state, resumed = self._run.state, self._run.inputs.resumed
        if resumed is None or real(resumed.folder.parent) != real(self._run.options.saving.folder):
            return []  # the samples are in another folder
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
        # turns off a network's dropouts; generate() does so only for the model's parts
        with averaged, evaluating(*run.method.modules()), run.accelerator.autocast():
            self.samples.draw(run.model, step, epoch, run.device, stop=stop, session=session, there=there)
        if self._record is not None:
            before = [(path, self.samples.prompts[index].prompt) for index, path in sorted((there or {}).items())]
            self._record.samples(epoch, step, sorted([*before, *self.samples.latest]))
