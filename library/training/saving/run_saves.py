"""Writes the saves of a run: product, average and state with their metadata, each uploaded if the options ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from library.console import log
from library.hub import Repository, Uploads
from library.method import Product
from library.options.groups.scripts import TrainingScript
from library.training.ledger.ledger_files import LedgerFiles
from library.training.logs.journal import Journal
from library.training.optim.optimizer import weights_to_keep
from library.training.precision import save_dtype
from library.training.run_context import RunContext
from library.training.saving.checkpointer import Checkpointer, FileNames, SaveKind, SaveKinds
from library.training.saving.disk_room import check_room, file_bytes, state_size
from library.training.saving.file_metadata import FileFacts
from library.training.saving.full_disk import FullDiskPolicy
from library.training.saving.retention import files_to_keep, states_to_keep
from library.training.states.resume import run_facts
from library.training.states.state_files import write_state


class RunSaves:
    """Exists on every process, so that all know the plan; only the main one has a `journal` and `uploads`, and only it may write."""

    def __init__(self, run: RunContext, facts: FileFacts, journal: Journal | None) -> None:
        """Raises UserError if the saves of the plan do not fit on the disk."""
        self._run, self._facts, self._journal = run, facts, journal
        self.uploads = uploads_of(run.options) if journal is not None else None
        kinds, inputs = self._kinds(), run.inputs
        policy = FullDiskPolicy.from_options(run.options.saving, inputs.processes)
        release = self.uploads.release if self.uploads is not None else lambda path: None
        self.ledger = (
            None if run.ledger is None else LedgerFiles(run.ledger, run.options.saving.folder, run.options.saving.output_name or "last")
        )
        self.checkpointer = Checkpointer(inputs.plan, kinds, policy, release)
        log.info(check_room(inputs.plan, kinds.all(), inputs.start, policy))

    def save(self, act: Callable[[Checkpointer], object]) -> None:
        """Have the main process save by `act` and write the image ledger, while the others wait; all must call it together."""
        if self._run.ledger is not None:
            self._run.ledger.collect()
        self._run.on_main(lambda: self._save(act))

    def newest_state(self) -> Path | None:
        """Return the state on the disk to which training could go back: the last one of this run, or the one it resumed from."""
        resumed = self._run.inputs.resumed
        return self.checkpointer.newest_state() or (resumed.folder if resumed is not None and resumed.accelerate is None else None)

    def catch_up(self) -> None:
        """In a resumed run, finish what an interruption prevented after the state was written."""
        state, resumed = self._run.state, self._run.inputs.resumed
        if self._journal is None or resumed is None or resumed.accelerate is not None:
            return
        for is_state, path in self.checkpointer.catch_up(resumed.folder, state.epoch, state.step):
            self._note("saved_state" if is_state else "saved", path, state.step, upload=False)

    def _save(self, act: Callable[[Checkpointer], object]) -> None:
        act(self.checkpointer)
        if self.ledger is not None:
            self.ledger.write()

    def _kinds(self) -> SaveKinds:
        run, saving = self._run, self._run.options.saving
        folder, name = saving.folder, saving.output_name
        files, averages = zip(*map(self._of_product, run.method.products(saving.save_model_as)), strict=True)
        averages = averages if run.ema is not None else ()
        of_state = state_size(run.method, run.optimizer.optimizer, run.optimizer.name)
        states = states_to_keep(saving, FileNames(folder, name, "-state"), self._write_state, of_state)
        with_states = saving.save_state or saving.save_state_on_train_end
        return SaveKinds(files[0], next(iter(averages), None), states if with_states else None, (*files[1:], *averages[1:]))

    def _of_product(self, product: Product) -> tuple[SaveKind, SaveKind]:
        """Return the kinds of a product: its file at each save, and its average."""
        run, saving = self._run, self._run.options.saving
        dtype, name = save_dtype(saving.save_precision), saving.output_name
        size = file_bytes(run.method, run.model, dtype) if product.weights is None else product.weights * (dtype or torch.float32).itemsize
        names = FileNames(saving.folder, name, product.extension, product.suffix)
        files = files_to_keep(saving, names, partial(self._write, product), size)
        average_names = replace(names, name=f"{name or 'last'}-ema")
        return files, replace(files, names=average_names, write=partial(self._write_average, product), what="averages")

    def _write(self, product: Product, path: Path, epochs: int, step: int) -> None:
        run = self._run
        metadata = self._facts.of_save(run, product, epochs, step)
        with weights_to_keep(run.optimizer.optimizer):
            product.write(path, save_dtype(run.options.saving.save_precision), metadata)
        self._note("saved", path, step, upload=True)

    def _write_average(self, product: Product, path: Path, epochs: int, step: int) -> None:
        assert self._run.ema is not None
        with self._run.ema.averaged():
            self._write(product, path, epochs, step)

    def _write_state(self, path: Path, epochs: int, step: int) -> None:
        run, inputs = self._run, self._run.inputs
        facts = run_facts(run.options, inputs.data, inputs.processes, inputs.plan.updates)
        write_state(path, run.state_parts, run.state, facts)
        self._note("saved_state", path, step, upload=run.options.hub.save_state_to_huggingface)

    def _note(self, event: str, path: Path, step: int, upload: bool) -> None:
        assert self._journal is not None
        elsewhere = {} if path.parent == self._run.options.saving.folder else {"folder": str(path.parent)}
        self._journal.note(event, step, {"file": path.name, **elsewhere})
        if upload and self.uploads is not None:
            self.uploads.upload(path)


def uploads_of(options: TrainingScript) -> Uploads | None:
    """Build the uploads from the options; None if there is no repository."""
    hub = options.hub
    if hub.huggingface_repo_id is None:
        return None
    repository = Repository(
        hub.huggingface_repo_id,
        hub.huggingface_repo_type or "model",
        hub.huggingface_path_in_repo or "",
        hub.huggingface_repo_visibility != "public",
    )
    return Uploads(repository, hub.huggingface_token, hub.async_upload)
