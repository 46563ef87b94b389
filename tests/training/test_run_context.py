"""What a run is built on: how its processes meet."""

import pytest

from library.training.run_context import process_groups


def test_processes_on_windows_meet_without_what_torch_lacks_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert process_groups(True) == []  # one process meets nobody
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert process_groups(False) == []
    (given,) = process_groups(True)
    told = given.to_kwargs()
    assert (told["backend"], told["init_method"]) == ("gloo", "env://?use_libuv=False")
