"""What happens at the loop's joints in a run: saves, validation, samples and logs are due, and each is called in its turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from library.console import log
from library.method import Method
from library.model.bundle import StableDiffusion
from library.model.generate import evaluating
from library.options.groups.scripts import TrainingScript
from library.training.closing_lines import LastLines
from library.training.logs.journal import Journal
from library.training.optim.ema import Ema
from library.training.optim.optimizer import MadeOptimizer, logged_rates, weights_to_keep
from library.training.planning.inputs import Inputs
from library.training.samples.samples import Samples
from library.training.saving.file_metadata import FileFacts
from library.training.saving.run_saves import Keeping
from library.training.states.state import TrainState
from library.training.step.loop import Events, UpdateReport
from library.training.step.request_files import FileWishes
from library.training.validation.validator import Validator


class RunEvents:
    """The main process acts; the others wait where it writes or draws."""

    def __init__(
        self,
        options: TrainingScript,
        inputs: Inputs,
        method: Method,
        seed: int,
        accelerator: Any,
        samples: Samples | None,
        started: float,
    ) -> None:
        self._options, self._inputs, self._method, self._seed = options, inputs, method, seed
        self._accelerator, self._started = accelerator, started
        self._facts = FileFacts(options, inputs, method, seed, started, accelerator.is_main_process)
        self._samples = samples
        self.wishes = FileWishes(options.saving.folder)
        self.wishes.forget_old()
        self.stop_asked: Callable[[], bool] = lambda: False  # by a signal
        self._journal: Journal | None = None  # only on the main process, like `last`
        self._keeping: Keeping | None = None
        self._last: LastLines | None = None

    def attach(
        self,
        model: StableDiffusion,
        made: MadeOptimizer,
        schedule: Any,
        state: TrainState,
        ema: Ema | None = None,
        validator: Validator | None = None,
    ) -> Events:
        """The loop's events, now that model and optimizer exist; `state` is the one that the loop moves on."""
        self._ema, self._validator = ema, validator
        self._model, self._made, self._state = model, made, state
        self._first_step = state.step
        if self._accelerator.is_main_process:
            self._journal = Journal.from_options(self._options, state, self._accelerator.device)
            self._manifest = self._facts.manifest()
        scaler = self._accelerator.scaler
        self._keeping = Keeping(
            self._options, self._inputs, self._method, self._facts, self._journal, model, made, schedule, scaler, state, ema
        )
        if self._journal is not None:
            self._last = LastLines(
                self._inputs, self._facts, self._manifest, self._journal, self._keeping, self._samples, state, self._started
            )
        return Events(
            before_training=self._before_training,
            rates=self._rates,
            on_update=self._on_update,
            after_update=self._after_update,
            on_demand=self._on_demand,
            after_epoch=self._after_epoch,
            enough=lambda: validator is not None and validator.enough,
        )

    def finish(self) -> None:
        """Write the product and say where everything is."""
        if self._last is not None:
            plan, state = self._inputs.plan, self._state
            epochs = state.epoch + (state.position > 0) if state.step < plan.updates else plan.epochs
            product = self._keeping.checkpointer.at_end(epochs, state.step)
            self.wishes.forget()
            self._last.time(self._images_an_epoch())
            log.info(f"result: {product}")
            self._last.end("end", product)
        self._accelerator.wait_for_everyone()

    def stopped(self) -> None:
        """Keep what a run that was asked to stop has reached, and say how to go on."""
        state = self._state
        if state.step == self._first_step:
            log.warning("stopped before the first update was done; nothing new is saved")
        else:
            epochs = state.epoch + (1 if state.position >= self._inputs.sampler(self._seed).length(state.epoch) else 0)
            self._on_main(lambda: self._keeping.checkpointer.at_stop(epochs, state.step))
            if self._last is not None:
                self._last.time(self._images_an_epoch())
                self._last.way_on()
        self.wishes.forget()
        if self._last is not None:
            self._last.end("stopped", None)

    def close(self) -> None:
        """Write out what logs still hold and wait for uploads under way, unless a second Ctrl-C is what ends the run."""
        if self._journal is not None:
            self._journal.close()
        if self._keeping is not None and self._keeping.uploads is not None:
            self._keeping.uploads.close(wait=not isinstance(sys.exc_info()[1], KeyboardInterrupt))

    def newest_state(self) -> Path | None:
        """The state on the disk that training could go back to."""
        return self._keeping.newest_state()

    def _images_an_epoch(self) -> int:
        return sum(len(batch) for batch in self._inputs.sampler(self._seed).epoch(0))

    def _before_training(self) -> None:
        self._begun = False
        if self._validator is not None and self._state.step == 0:
            loss = self._validator.at_start()
            if self._journal is not None:
                self._begin()
                self._journal.validation(0, loss)
        if self._last is not None:
            self._last.training_began = time.time()
        if self._samples is not None and self._samples.due_at_first(self._state.step):
            self._on_main(lambda: self._drawn(0, 0, self._samples.moment_is_epoch()))

    def _rates(self) -> dict[str, float]:
        if self._journal is None:
            return {}
        return logged_rates(self._made.optimizer, [group["name"] for group in self._made.optimizer.param_groups])

    def _on_update(self, report: UpdateReport) -> None:
        self._state.epoch_losses.append(report.loss)
        if self._journal is None:
            return
        self._begin()
        self._journal.update(report)

    def _begin(self) -> None:
        """The first lines of log and manifest; not before there is something to tell: a run that fails at once leaves nothing behind."""
        if not self._begun:
            self._begun = True
            self._manifest.write()
            resumed = self._options.saving.resume if self._first_step else None
            self._journal.note("start", self._first_step, {"seed": self._seed, "updates": self._inputs.plan.updates, "resumed": resumed})

    def _validate(self, epochs: int, step: int, at_epoch_end: bool) -> None:
        """Before anything is saved: a state holds the validation of its moment."""
        found = None if self._validator is None else self._validator.after(step, epochs, at_epoch_end)
        if found is None:
            return
        if self._journal is not None:
            self._journal.validation(step, found.loss)
        if found.is_best and self._validator.plan.save_best:
            self._on_main(lambda: self._keeping.checkpointer.best(epochs, step))

    def _after_update(self, epochs: int, step: int) -> None:
        if self._ema is not None:
            self._ema.update()
        self._validate(epochs, step, at_epoch_end=False)
        if self._inputs.plan.is_save_step(step):
            self._on_main(lambda: self._keeping.checkpointer.after_update(epochs, step))
        self._draw(step, epochs, at_epoch_end=False)

    def _on_demand(self, epochs: int, step: int) -> None:
        log.info(f"asked to save: update {step}")
        self._on_main(lambda: self._keeping.checkpointer.on_demand(epochs, step))
        self.wishes.forget("save")

    def _after_epoch(self, epochs: int, step: int) -> None:
        losses = self._state.epoch_losses
        if self._journal is not None and losses:
            self._journal.epoch(epochs, step, {"loss/epoch": sum(losses) / len(losses)})
        losses.clear()
        self._validate(epochs, step, at_epoch_end=True)
        if self._inputs.plan.is_save_epoch(epochs):
            self._on_main(lambda: self._keeping.checkpointer.after_epoch(epochs, step))
        self._draw(step, epochs, at_epoch_end=True)

    def _draw(self, step: int, epoch: int, at_epoch_end: bool) -> None:
        if self._samples is not None and self._samples.due(step, epoch, at_epoch_end):
            self._on_main(lambda: self._drawn(step, epoch, at_epoch_end))

    def _drawn(self, step: int, epoch: int, at_epoch_end: bool) -> None:
        # a network's own dropouts must not act in samples; generate() sees to the model's parts only
        kept = self._ema.averaged() if self._ema and self._options.averaging.ema_for_samples else weights_to_keep(self._made.optimizer)
        with kept, evaluating(*self._method.modules()), self._accelerator.autocast():
            self._samples.draw(self._model, step, epoch if at_epoch_end else None, self._accelerator.device, stop=self._is_to_stop)
        self._begin()
        if self._samples.latest:
            self._journal.images(epoch if at_epoch_end else None, step, self._samples.latest)

    def _is_to_stop(self) -> bool:
        self.wishes.look()
        return self.wishes.stop or self.stop_asked()

    def _on_main(self, act: Any) -> None:
        if self._accelerator.is_main_process:
            act()
        self._accelerator.wait_for_everyone()
