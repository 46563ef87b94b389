"""The samples of a run: drawn when they are due, from the weights that a save would hold."""

from __future__ import annotations

from library.model.generate import evaluating
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
        """Draw before the first update, where that is asked for."""
        if self.samples.due_at_first(self._run.state.step):
            self._run.on_main(lambda: self._draw(0, 0, self.samples.moment_is_epoch()))

    def after(self, step: int, epochs: int, at_epoch_end: bool) -> None:
        """Draw after so many updates and epochs, where it is time."""
        if self.samples.due(step, epochs, at_epoch_end):
            self._run.on_main(lambda: self._draw(step, epochs, at_epoch_end))

    def _draw(self, step: int, epochs: int, at_epoch_end: bool) -> None:
        run, epoch = self._run, epochs if at_epoch_end else None
        averaged = run.ema.averaged() if run.ema and run.options.averaging.ema_for_samples else weights_to_keep(run.optimizer.optimizer)
        # a network's own dropouts must not act in samples; generate() sees to the model's parts only
        with averaged, evaluating(*run.method.modules()), run.accelerator.autocast():
            self.samples.draw(run.model, step, epoch, run.device, stop=run.requests.stop_is_wanted_now)
        if self._record is not None:
            self._record.samples(epoch, step, self.samples.latest)
