"""How long files and states stay: the options of states, and those of files where they are not given."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.options.declare import build
from library.options.groups.scripts import TrainDb
from library.training.saving.checkpointer import FileNames
from library.training.saving.retention import files_to_keep, states_to_keep

NAMES = FileNames(Path("out"), "cat", ".safetensors")


@pytest.mark.parametrize(
    ("values", "files", "states"),
    [
        ({}, (None, None), (None, None)),
        ({"save_last_n_epochs": 2, "save_last_n_steps": 30}, (2, 30), (2, 30)),
        ({"save_last_n_epochs": 2, "save_last_n_epochs_state": 1, "save_last_n_steps_state": 5}, (2, None), (1, 5)),
    ],
)
def test_states_stay_as_long_as_files_unless_said_otherwise(values: dict[str, int], files: tuple, states: tuple) -> None:
    saving = build(TrainDb, values, {}).saving
    files_kind, states_kind = (kind(saving, NAMES, lambda *_: None, 7) for kind in (files_to_keep, states_to_keep))
    assert (files_kind.rule.last_n_epochs, files_kind.rule.last_n_steps) == files
    assert (states_kind.rule.last_n_epochs, states_kind.rule.last_n_steps) == states
    assert files_kind.bytes == states_kind.bytes == 7 and (files_kind.what, states_kind.what) == ("files", "states")


@pytest.mark.parametrize("save_state", [True, False])
def test_states_are_written_with_each_save_only_where_that_is_asked_for(save_state: bool) -> None:
    saving = build(TrainDb, {"save_state": save_state}, {}).saving
    assert states_to_keep(saving, NAMES, lambda *_: None, 1).rule.with_saves is save_state
    assert files_to_keep(saving, NAMES, lambda *_: None, 1).rule.with_saves
