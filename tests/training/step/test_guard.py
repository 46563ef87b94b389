"""Judging figures without a run: what fp16's scaler handles by itself, gradients, and images that hold others' places."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.errors import UserError
from library.training.states.state import TrainState
from library.training.step.guard import Guard, all_finite
from library.training.step.pending import Pending


def batch(*names: str) -> SimpleNamespace:
    return SimpleNamespace(paths=names, captions=names, records=tuple(range(len(names))), __len__=lambda: len(names))


def pending(loss: float, gradient: float, per_image: tuple[float, ...] = (1.0, 1.0), overflow: bool = False) -> Pending:
    made = Pending(
        3, 0, [batch("a.png", "b.png")], torch.tensor([loss, 0.0, 0.0]), [torch.tensor(per_image)], lambda _: torch.tensor([7, 8])
    )
    made.send(torch.tensor(gradient))
    made.overflow = overflow
    return made


def guard(policy: str, scale: float | None = None, images: int = 9, layer: torch.nn.Module | None = None, **more) -> tuple[Guard, list]:
    layer, told = layer or torch.nn.Linear(2, 2), []
    scaler = None if scale is None else SimpleNamespace(get_scale=lambda: scale)
    made = Guard(
        policy,
        accelerator=SimpleNamespace(scaler=scaler, num_processes=1, is_main_process=True),
        method=SimpleNamespace(modules=lambda: [layer], go_on=lambda step: None),
        optimizer=SimpleNamespace(param_groups=[], state_dict=dict, load_state_dict=lambda saved: None),
        schedule=None,
        leave_out=told.append,
        keys=[f"0/0/{number}" for number in range(images)],
        **{"saved_state": lambda: None, "load": lambda folder: TrainState(0), **more},
    )
    return made, told


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_an_overflow_that_the_scaler_handles_is_no_event(policy: str) -> None:
    made, _ = guard(policy, scale=1024.0)
    overflow = pending(0.5, float("inf"), overflow=True)
    assert not made.refuses(overflow, TrainState(0))
    made.check(overflow)


def test_a_scale_that_has_fallen_under_one_is_an_event() -> None:
    made, _ = guard("stop", scale=0.5)
    with pytest.raises(UserError, match="update 3: fp16 cannot hold the gradients at any scale"):
        made.check(pending(0.5, float("inf"), overflow=True))


def test_a_loss_is_an_event_whatever_the_scaler_does() -> None:
    made, _ = guard("stop", scale=1024.0)
    with pytest.raises(UserError, match="the loss is nan"):
        made.check(pending(float("nan"), float("nan"), overflow=True))


def test_a_gradient_alone_is_an_event_and_blames_all_images() -> None:
    made, _ = guard("stop")
    with pytest.raises(UserError) as fault:
        made.check(pending(0.5, float("inf")))
    assert fault.value.problems[0].startswith("update 3: the norm of the gradients is inf")
    assert [line.partition(":")[0] for line in fault.value.problems[1:]] == ["a.png", "b.png"]
    assert "timestep 8, loss 1, caption “b.png”" in fault.value.problems[2]


def test_only_images_whose_own_loss_is_not_finite_are_left_out() -> None:
    made, told = guard("rollback")
    state, bad = TrainState(0, step=2), pending(float("nan"), float("nan"), (1.0, float("nan")))
    assert made.refuses(bad, state) and made.goes_back(bad, state)
    assert told == [("0/0/1",)] and state.left_out == ("0/0/1",) and state.step == 2


def test_a_run_that_only_skips_is_given_up() -> None:
    made, _ = guard("skip")
    for _ in range(19):
        assert made.refuses(pending(float("nan"), 1.0), TrainState(0))
    with pytest.raises(UserError, match="the last 20 updates were all left out"):
        made.refuses(pending(float("nan"), 1.0), TrainState(0))


def test_too_many_images_are_not_at_fault() -> None:
    made, _ = guard("rollback")
    state = TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(2, 9)))
    with pytest.raises(UserError, match="9 of 9 images would be left out, and that many are hardly at fault"):
        made.goes_back(pending(0.5, float("inf")), state)


def test_as_many_images_may_be_left_out_as_are_told() -> None:
    """Eight, or a quarter where that is more."""
    made, told = guard("rollback")
    state = TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(2, 9)))
    assert made.goes_back(pending(float("nan"), 1.0, (1.0, float("nan"))), state) and len(told[-1]) == 8
    made, told = guard("rollback", images=40)
    state = TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(10, 19)))
    assert made.goes_back(pending(float("nan"), 1.0, (1.0, float("nan"))), state) and len(told[-1]) == 10
    with pytest.raises(UserError, match="11 of 40 images would be left out"):
        made.goes_back(pending(float("nan"), 1.0, (float("nan"), 1.0)), state)


@pytest.mark.parametrize(("on_disk", "loaded"), [(0, 0), (1, 0), (2, 1)])
def test_broken_weights_go_back_to_the_newest_good_state_and_images_left_out_stay_so(monkeypatch, on_disk: int, loaded: int) -> None:
    """The copy in memory is of update 1: one on the disk is only taken where it is newer."""
    layer = torch.nn.Linear(2, 2)
    good = layer.weight.detach().clone()
    loads: list[Path] = []

    def load(folder: Path) -> TrainState:
        loads.append(folder)
        with torch.no_grad():
            layer.weight.fill_(2.0)
        return TrainState(0, step=on_disk)

    made, told = guard("rollback", layer=layer, saved_state=lambda: Path("a-state"), load=load)
    monkeypatch.setattr("library.training.step.guard._steps_of", lambda folder: on_disk)
    state = TrainState(0, step=1)
    made.begin(state)
    state.step, state.left_out = 2, ("0/0/5",)
    assert not made.refuses(pending(0.5, 1.0), state)  # the update that breaks the weights
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    assert made.goes_back(pending(float("nan"), 1.0), state)
    assert len(loads) == loaded and state.step == (2 if loaded else 1)
    assert torch.equal(layer.weight, torch.full((2, 2), 2.0) if loaded else good)
    assert state.left_out == told[-1] == ("0/0/0", "0/0/1", "0/0/5")


def test_finite_looks_at_every_number_of_every_float() -> None:
    assert all_finite([torch.ones(3), torch.tensor([1, 2])]) and all_finite([])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, float("inf")])])
    assert not all_finite([torch.ones(3, dtype=torch.bfloat16) * float("nan")])
