"""How a run writes what it keeps: product, average and state with the facts that they tell, each uploaded where the options ask for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from library.console import log
from library.hub import Repository, Uploads
from library.method import Method
from library.model.bundle import StableDiffusion
from library.options.groups.scripts import TrainingScript
from library.training.logs.journal import Journal
from library.training.optim.ema import Ema
from library.training.optim.optimizer import MadeOptimizer, weights_to_keep
from library.training.planning.inputs import Inputs
from library.training.precision import save_dtype
from library.training.saving.checkpointer import Checkpointer, FileNames, Kept
from library.training.saving.disk_room import check_room, file_bytes, state_size
from library.training.saving.file_metadata import FileFacts
from library.training.saving.full_disk import Refuge
from library.training.saving.retention import files_to_keep, states_to_keep
from library.training.states.resume import run_facts
from library.training.states.state import TrainState
from library.training.states.state_files import write_state


class Keeping:
    """On every process, so that all know the plan; only the main one has a `journal` and `uploads`, and only it may write."""

    def __init__(
        self,
        options: TrainingScript,
        inputs: Inputs,
        method: Method,
        facts: FileFacts,
        journal: Journal | None,
        model: StableDiffusion,
        made: MadeOptimizer,
        schedule: Any,
        scaler: Any,
        state: TrainState,
        ema: Ema | None,
    ) -> None:
        """Raises UserError where the disk has too little room for all that the plan keeps."""
        self._options, self._inputs, self._method, self._facts, self._journal = options, inputs, method, facts, journal
        self._model, self._made, self._schedule, self._scaler = model, made, schedule, scaler
        self._state, self._ema = state, ema
        self.uploads = uploads_of(options) if journal is not None else None
        saving, plan = options.saving, inputs.plan
        files, states, averages = self._kinds()
        keeps_states = saving.save_state or saving.save_state_on_train_end
        release = self.uploads.release if self.uploads is not None else None
        refuge = Refuge.from_options(saving, inputs.processes)
        self.checkpointer = Checkpointer(plan, files, states if keeps_states else None, averages, release, refuge)
        log.info(check_room(plan, self.checkpointer.kinds, inputs.start, refuge.go_on, spare=refuge.spare))

    def newest_state(self) -> Path | None:
        """The state on the disk that training could go back to: the last one of this run, or that from which it was resumed."""
        resumed = self._inputs.resumed
        return self.checkpointer.newest_state() or (resumed.folder if resumed is not None and resumed.old is None else None)

    def _kinds(self) -> tuple[Kept, Kept, Kept | None]:
        saving, model, made = self._options.saving, self._model, self._made
        folder, name = saving.folder, saving.output_name
        names = FileNames(folder, name, self._method.extension(saving.save_model_as))
        size = file_bytes(self._method, model, save_dtype(saving.save_precision))
        files = files_to_keep(saving, names, self._write, size)
        of_state = state_size(self._method, made.optimizer, made.name)
        states = states_to_keep(saving, FileNames(folder, name, "-state"), self._write_state, of_state)
        average_names = replace(names, name=f"{name or 'last'}-ema")
        averages = replace(files, names=average_names, write=self._write_average, what="averages") if self._ema else None
        return files, states, averages

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
        write_state(path, self._method, self._made.optimizer, self._schedule, self._scaler, self._state, facts, self._ema)
        self._kept("saved_state", path, step, upload=self._options.hub.save_state_to_huggingface)

    def _kept(self, event: str, path: Path, step: int, upload: bool) -> None:
        assert self._journal is not None
        elsewhere = {} if path.parent == self._options.saving.folder else {"folder": str(path.parent)}
        self._journal.note(event, step, {"file": path.name, **elsewhere})
        if upload and self.uploads is not None:
            self.uploads.upload(path)


def uploads_of(options: TrainingScript) -> Uploads | None:
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
