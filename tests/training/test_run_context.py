"""What a run is built on: how its processes meet."""

from datetime import timedelta

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from library.training import run_context
from library.training.run_context import process_groups


def test_processes_on_windows_meet_without_what_torch_lacks_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert process_groups(True) == []  # one process meets nobody
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert process_groups(False) == []
    (given,) = process_groups(True)
    told = given.to_kwargs()
    assert (told["backend"], told["init_method"]) == ("gloo", "env://?use_libuv=False")


def test_the_time_that_processes_wait_for_each_other_is_in_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    (given,) = process_groups(False, 30)
    assert given.timeout == timedelta(minutes=30) and given.backend == InitProcessGroupKwargs().backend
    (windows,) = process_groups(True, 30)
    assert windows.timeout == timedelta(minutes=30) and windows.backend == "gloo"
    assert process_groups(False, 0) == []
    monkeypatch.delenv("LOCAL_RANK")
    assert process_groups(False, 30) == []


def test_ddp_options_reach_accelerate_which_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Stub:
        device = torch.device("cpu")

        def __init__(self, **given: object) -> None:
            seen.update(given)

    monkeypatch.setattr(run_context, "Accelerator", Stub)
    options = build(TrainNetwork, {}, {})
    run_context._accelerator(options)
    (parallel,) = seen["kwargs_handlers"]
    assert not parallel.gradient_as_bucket_view and not parallel.static_graph and seen["dynamo_backend"] == "NO"
    given = {"ddp_gradient_as_bucket_view": True, "ddp_static_graph": True, "torch_compile": True, "dynamo_backend": "eager"}
    run_context._accelerator(build(TrainNetwork, given, {}))
    (parallel,) = seen["kwargs_handlers"]
    assert parallel.gradient_as_bucket_view and parallel.static_graph and seen["dynamo_backend"] == "NO"


def test_accelerate_leaves_the_compiling_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compile the whole step, also where the launcher alone asks for it."""
    for launcher, given in (("EAGER", {}), ("NO", {"torch_compile": True, "dynamo_backend": "eager"})):
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", launcher)
        accelerator = run_context._accelerator(build(TrainNetwork, given, {}))
        try:
            assert accelerator.state.dynamo_plugin.backend.value == "NO"
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
