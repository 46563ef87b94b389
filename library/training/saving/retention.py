"""How long the saves of a run are kept, from the options for files and states; used for saving and to estimate the disk space."""

from __future__ import annotations

from library.options.groups.saving import SavingOptions
from library.training.saving.checkpointer import FileNames, SaveKind, SaveRule, WriteFile


def files_to_keep(saving: SavingOptions, names: FileNames, write: WriteFile, size: int) -> SaveKind:
    """Return the kind of the products, of about `size` bytes each."""
    return SaveKind(names, write, SaveRule(saving.save_last_n_epochs, saving.save_last_n_steps), bytes=size)


def states_to_keep(saving: SavingOptions, names: FileNames, write: WriteFile, size: int) -> SaveKind:
    """Return the kind of the states, which are kept as long as the products unless the options for states differ."""
    epochs = saving.save_last_n_epochs_state or saving.save_last_n_epochs
    steps = saving.save_last_n_steps_state or saving.save_last_n_steps
    return SaveKind(names, write, SaveRule(epochs, steps, with_saves=saving.save_state), "states", size)
