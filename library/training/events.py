"""What happens at the loop's joints in a run: files are kept, samples drawn, values logged, and the end is told."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from library.console import log
from library.hub import Repository, Uploads
from library.model.generate import evaluating
from library.options.declare import Script
from library.training.checkpointer import Checkpointer, FileNames, Kept
from library.training.disk_room import check_room, file_bytes, state_size
from library.training.ema import Ema
from library.training.file_facts import FileFacts
from library.training.inputs import Inputs
from library.training.journal import Journal
from library.training.loop import Events, UpdateReport
from library.training.manifest import moment
from library.training.method import Method
from library.training.optimizer import MadeOptimizer, logged_rates, weights_to_keep
from library.training.precision import save_dtype
from library.training.resume import run_facts
from library.training.samples import Samples
from library.training.state import TrainState
from library.training.state_files import write_state
from library.training.validator import Validator
from library.training.wishes import FileWishes


class RunEvents:
    """The main process acts; the others wait where it writes or draws."""

    def __init__(
        self,
        options: Script,
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
        self.wishes = FileWishes(Path(options.saving.output_dir))
        self.wishes.forget_old()
        self._journal: Journal | None = None
        self._uploads: Uploads | None = None
        self._model: Any = None
        self._made: MadeOptimizer | None = None
        self._training_began = 0.0

    def attach(
        self,
        model: Any,
        made: MadeOptimizer,
        schedule: Any,
        state: TrainState,
        ema: Ema | None = None,
        validator: Validator | None = None,
    ) -> Events:
        """The loop's events, now that model and optimizer exist; `state` is the one that the loop moves on."""
        saving = self._options.saving
        self._ema, self._validator = ema, validator
        self._model, self._made, self._schedule, self._state = model, made, schedule, state
        self._first_step = state.step
        folder, name = Path(saving.output_dir), saving.output_name
        names = FileNames(folder, name, self._method.extension(saving.save_model_as))
        size = file_bytes(self._method, model, save_dtype(saving.save_precision))
        files = Kept(names, self._write, saving.save_last_n_epochs, saving.save_last_n_steps, bytes=size)
        states = Kept(
            FileNames(folder, name, "-state"),
            self._write_state,
            saving.save_last_n_epochs_state or saving.save_last_n_epochs,
            saving.save_last_n_steps_state or saving.save_last_n_steps,
            with_saves=saving.save_state,
            what="states",
            bytes=state_size(self._method, made.optimizer, made.name),
        )
        average_names = replace(names, name=f"{name or 'last'}-ema")
        averages = replace(files, names=average_names, write=self._write_average, what="averages") if ema else None
        if self._accelerator.is_main_process:
            self._journal = Journal.from_options(self._options, state, self._accelerator.device)
            self._manifest = self._facts.manifest()
            self._uploads = _uploads(self._options)
        release = self._uploads.release if self._uploads is not None else None
        go_on, plan = saving.on_full_disk == "continue", self._inputs.plan
        keeps_states = saving.save_state or saving.save_state_on_train_end
        self._checkpointer = Checkpointer(plan, files, states if keeps_states else None, averages, release, go_on)
        log.info(check_room(plan, self._checkpointer.kinds, self._inputs.start, go_on))
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
        if not self._accelerator.is_main_process:
            self._accelerator.wait_for_everyone()
            return
        plan, state = self._inputs.plan, self._state
        ended_early = state.step < plan.updates
        product = self._checkpointer.at_end(state.epoch + (state.position > 0) if ended_early else plan.epochs, state.step)
        self.wishes.forget()
        self._tell_time()
        log.info(f"result: {product}")
        self._end("end", product)
        self._accelerator.wait_for_everyone()

    def stopped(self) -> None:
        """Keep what a run that was asked to stop has reached, and say how to go on."""
        state, plan = self._state, self._inputs.plan
        if state.step == self._first_step:
            log.warning("stopped before the first update was done; nothing new is saved")
        else:
            epochs = state.epoch + (1 if state.position >= self._inputs.sampler(self._seed).length(state.epoch) else 0)
            self._on_main(lambda: self._checkpointer.at_stop(epochs, state.step))
            self._tell_time()
            log.warning(f"stopped after update {state.step} of {plan.updates}; {self._way_on(state.step)}")
        self.wishes.forget()
        if self._accelerator.is_main_process:
            self._end("stopped", None)

    def close(self) -> None:
        """Write out what logs still hold and wait for uploads under way, unless a second Ctrl-C is what ends the run."""
        if self._journal is not None:
            self._journal.close()
        if self._uploads is not None:
            self._uploads.close(wait=not isinstance(sys.exc_info()[1], KeyboardInterrupt))

    def newest_state(self) -> Path | None:
        """The state on the disk that training could go back to: the last one of this run, or that from which it was resumed."""
        resumed = self._inputs.resumed
        return self._checkpointer.newest_state() or (resumed.folder if resumed is not None and resumed.old is None else None)

    def _way_on(self, step: int) -> str:
        kept = self._checkpointer.state_at_step(step)
        if kept is not None:
            return f"to go on, give the same command with --resume {kept}"
        return "no state was kept, since --save_state was not given; what was trained is in " + str(
            self._checkpointer.kinds[0].names.step(step)
        )

    def _tell_time(self) -> None:
        plan, done = self._inputs.plan, self._state.step - self._first_step
        seconds, whole = time.time() - self._training_began, time.time() - self._started
        images = sum(len(batch) for batch in self._inputs.sampler(self._seed).epoch(0)) / plan.updates_per_epoch * done
        rate = f"{images / max(seconds, 1e-9):.2f} {self._inputs.source.unit} a second with saves and samples"
        log.info(f"trained {done} updates in {seconds:.0f} s, {rate}; {whole:.0f} s with loading")

    def _end(self, event: str, product: Path | None) -> None:
        """Tell where everything is: people on the screen, programs in the event log and the manifest."""
        assert self._journal is not None
        seconds = {"seconds": time.time() - self._training_began, "seconds_in_all": time.time() - self._started}
        if self._state.step > self._first_step:
            self._journal.note(event, self._state.step, seconds)
            self._manifest.write(
                finished=moment(time.time()), result=product.name if product else None, updates=self._state.step, **self._facts.known_late()
            )
        if self._uploads is not None:
            self._uploads.close()
        if self._checkpointer.missed:
            log.warning(f"{self._checkpointer.missed} saves were left out because the disk was full")
        if self._state.left_out:
            log.warning(f"images left out because of numbers that were not finite: {', '.join(self._state.left_out)}")
        shares = self._journal.shares()
        samples = []
        if self._samples is not None:
            if self._samples.drawn:
                self._samples.write_page(running=False)
            samples = self._samples.places()
        uploads = self._uploads.places() if self._uploads is not None else []
        manifest = [f"settings: {self._manifest.path}"] if self._manifest.path.exists() else []
        for line in [*([shares] if shares else []), *samples, *self._journal.places(), *manifest, *uploads]:
            log.info(line)
        self._journal.close()

    def _before_training(self) -> None:
        self._begun = False
        if self._validator is not None and self._state.step == 0:
            loss = self._validator.at_start()
            if self._journal is not None:
                self._begin()
                self._journal.validation(0, loss)
        self._training_began = time.time()
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
            self._on_main(lambda: self._checkpointer.best(epochs, step))

    def _after_update(self, epochs: int, step: int) -> None:
        if self._ema is not None:
            self._ema.update()
        self._validate(epochs, step, at_epoch_end=False)
        if self._inputs.plan.is_save_step(step):
            self._on_main(lambda: self._checkpointer.after_update(epochs, step))
        self._draw(step, epochs, at_epoch_end=False)

    def _on_demand(self, epochs: int, step: int) -> None:
        log.info(f"asked to save: update {step}")
        self._on_main(lambda: self._checkpointer.on_demand(epochs, step))
        self.wishes.forget("save")

    def _after_epoch(self, epochs: int, step: int) -> None:
        losses = self._state.epoch_losses
        if self._journal is not None and losses:
            self._journal.epoch(epochs, step, {"loss/epoch": sum(losses) / len(losses)})
        losses.clear()
        self._validate(epochs, step, at_epoch_end=True)
        if self._inputs.plan.is_save_epoch(epochs):
            self._on_main(lambda: self._checkpointer.after_epoch(epochs, step))
        self._draw(step, epochs, at_epoch_end=True)

    def _draw(self, step: int, epoch: int, at_epoch_end: bool) -> None:
        if self._samples is not None and self._samples.due(step, epoch, at_epoch_end):
            self._on_main(lambda: self._drawn(step, epoch, at_epoch_end))

    def _drawn(self, step: int, epoch: int, at_epoch_end: bool) -> None:
        # a network's own dropouts must not act in samples; generate() sees to the model's parts only
        kept = self._ema.averaged() if self._ema and self._options.averaging.ema_for_samples else weights_to_keep(self._made.optimizer)
        with kept, evaluating(*self._method.modules()), self._accelerator.autocast():
            self._samples.draw(self._model, step, epoch if at_epoch_end else None, self._accelerator.device)
        self._begin()
        if self._samples.latest:
            self._journal.images(epoch if at_epoch_end else None, step, self._samples.latest)

    def _on_main(self, act: Any) -> None:
        if self._accelerator.is_main_process:
            act()
        self._accelerator.wait_for_everyone()

    def _write(self, path: Path, epochs: int, step: int) -> None:
        metadata = self._facts.of_save(self._model, self._made, self._state.session, epochs, step)
        with weights_to_keep(self._made.optimizer):
            self._method.save(path, save_dtype(self._options.saving.save_precision), metadata)
        self._kept("saved", path, step, upload=True)

    def _write_average(self, path: Path, epochs: int, step: int) -> None:
        assert self._ema is not None
        with self._ema.averaged():
            self._write(path, epochs, step)

    def _write_state(self, path: Path, epochs: int, step: int) -> None:
        inputs = self._inputs
        facts = run_facts(self._options, inputs.data, inputs.processes, inputs.plan.updates)
        write_state(path, self._method, self._made.optimizer, self._schedule, self._accelerator.scaler, self._state, facts, self._ema)
        self._kept("saved_state", path, step, upload=self._options.hub.save_state_to_huggingface)

    def _kept(self, event: str, path: Path, step: int, upload: bool) -> None:
        self._journal.note(event, step, {"file": path.name})
        if upload and self._uploads is not None:
            self._uploads.upload(path)


def _uploads(options: Script) -> Uploads | None:
    """The uploads that the options ask for."""
    given = options.hub
    if given.huggingface_repo_id is None:
        return None
    repository = Repository(
        given.huggingface_repo_id,
        given.huggingface_repo_type or "model",
        given.huggingface_path_in_repo or "",
        given.huggingface_repo_visibility != "public",
    )
    return Uploads(repository, given.huggingface_token, given.async_upload)
