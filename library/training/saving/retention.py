"""How long the saves of a run stay: the options of files and of states, for the saves themselves and for the room they will need."""

from __future__ import annotations

from library.options.groups.saving import SavingOptions
from library.training.saving.checkpointer import FileNames, SaveKind, SaveRule, WriteFile


def files_to_keep(saving: SavingOptions, names: FileNames, write: WriteFile, size: int) -> SaveKind:
    """The products, of about `size` bytes each."""
    return SaveKind(names, write, SaveRule(saving.save_last_n_epochs, saving.save_last_n_steps), bytes=size)


def states_to_keep(saving: SavingOptions, names: FileNames, write: WriteFile, size: int) -> SaveKind:
    """The states, which stay as long as the products where no option of their own says otherwise."""
    epochs = saving.save_last_n_epochs_state or saving.save_last_n_epochs
    steps = saving.save_last_n_steps_state or saving.save_last_n_steps
    return SaveKind(names, write, SaveRule(epochs, steps, with_saves=saving.save_state), "states", size)
