"""Judging figures without a run: what fp16's scaler handles alone, gradients, and images that replace others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.errors import UserError
from library.training.states import good_states
from library.training.states.good_states import GoodStates
from library.training.states.state import TrainState
from library.training.states.state_parts import StateParts
from library.training.step.guard import Guard, LeftOutImages, WentBack, all_finite
from library.training.step.pending import Pending, ShownGroup
from tests.messages import message, refusal, refused


def batch(*names: str) -> SimpleNamespace:
    return SimpleNamespace(paths=names, captions=names, records=tuple(range(len(names))), __len__=lambda: len(names))


def pending(loss: float, gradient: float, per_image: tuple[float, ...] = (1.0, 1.0), overflow: bool = False) -> Pending:
    group = ShownGroup([batch("a.png", "b.png")], [torch.tensor(per_image)], lambda _: [7, 8])
    update = Pending(3, 0, group, torch.tensor([loss, 0.0, 0.0]))
    update.send(torch.tensor(gradient))
    update.overflow = overflow
    return update


class Judged:
    """A guard over one small layer; `state` is the position of its run, `left_out` what the sampler excludes."""

    def __init__(
        self, policy: str, state: TrainState | None = None, scale: float | None = None, images: int = 9, on_disk: Path | None = None
    ) -> None:
        self.layer, self.state = torch.nn.Linear(2, 2), state or TrainState(0)
        self.left_out: list[tuple[str, ...]] = []
        scaler = None if scale is None else SimpleNamespace(get_scale=lambda: scale, state_dict=dict, load_state_dict=lambda saved: None)
        processes = SimpleNamespace(scaler=scaler, num_processes=1, is_main_process=True)
        method = SimpleNamespace(modules=lambda: [self.layer], go_on=lambda step: None)
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1)
        parts = StateParts(method, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), scaler)
        images_left_out = LeftOutImages([f"0/0/{number}" for number in range(images)], self.left_out.append)
        self.guard = Guard(policy, processes, self.state, GoodStates(parts, processes, lambda: on_disk), images_left_out)

    def goes_back(self, update: Pending) -> bool:
        try:
            self.guard.go_back(update)
        except WentBack:
            return True
        return False


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_an_overflow_that_the_scaler_handles_is_no_event(policy: str) -> None:
    judged = Judged(policy, scale=1024.0)
    overflow = pending(0.5, float("inf"), overflow=True)
    assert not judged.guard.refuses(overflow)
    judged.guard.check(overflow)


def test_a_scale_that_has_fallen_under_one_is_an_event() -> None:
    with refused("TRAIN-003", "update 3", "fp16"):
        Judged("stop", scale=0.5).guard.check(pending(0.5, float("inf"), overflow=True))


def test_a_loss_is_an_event_whatever_the_scaler_does() -> None:
    with refused("TRAIN-001", "loss is nan"):
        Judged("stop", scale=1024.0).guard.check(pending(float("nan"), float("nan"), overflow=True))


def test_a_gradient_alone_is_an_event_and_blames_all_images() -> None:
    with pytest.raises(UserError) as error:
        Judged("stop").guard.check(pending(0.5, float("inf")))
    refusal(error.value.problems[:1], "TRAIN-001", "update 3", "gradients", "inf")
    assert [line.partition(":")[0] for line in error.value.problems[1:]] == ["a.png", "b.png"]
    message(error.value.problems[2:3], "timestep 8", "loss 1", "“b.png”")


def test_only_images_whose_own_loss_is_not_finite_are_left_out() -> None:
    judged, bad = Judged("rollback", TrainState(0, step=2)), pending(float("nan"), float("nan"), (1.0, float("nan")))
    assert judged.guard.refuses(bad) and judged.goes_back(bad)
    assert judged.left_out == [("0/0/1",)] and judged.state.left_out == ("0/0/1",) and judged.state.step == 2


def test_a_run_that_only_skips_is_given_up() -> None:
    judged, bad = Judged("skip"), pending(float("nan"), 1.0)
    for _ in range(19):
        assert judged.guard.refuses(bad) and not judged.goes_back(bad)
    with refused("TRAIN-004", "20 updates"):
        judged.guard.refuses(bad)


def test_too_many_images_are_not_at_fault() -> None:
    judged = Judged("rollback", TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(2, 9))))
    with refused("TRAIN-004", "9 of 9 images"):
        judged.goes_back(pending(0.5, float("inf")))


def test_as_many_images_may_be_left_out_as_are_told() -> None:
    """Eight, or a quarter where that is more."""
    judged = Judged("rollback", TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(2, 9))))
    assert judged.goes_back(pending(float("nan"), 1.0, (1.0, float("nan")))) and len(judged.left_out[-1]) == 8
    judged = Judged("rollback", TrainState(0, left_out=tuple(f"0/0/{number}" for number in range(10, 19))), images=40)
    assert judged.goes_back(pending(float("nan"), 1.0, (1.0, float("nan")))) and len(judged.left_out[-1]) == 10
    with refused("TRAIN-004", "11 of 40 images"):
        judged.goes_back(pending(float("nan"), 1.0, (float("nan"), 1.0)))


@pytest.mark.parametrize(("on_disk", "loaded"), [(0, 0), (1, 0), (2, 1)])
def test_broken_weights_go_back_to_the_newest_good_state_and_images_left_out_stay_so(monkeypatch, on_disk: int, loaded: int) -> None:
    """The copy in memory is of update 1: one on the disk is only taken where it is newer."""
    loads: list[Path] = []

    def load(folder: Path, parts: StateParts) -> TrainState:
        loads.append(folder)
        with torch.no_grad():
            parts.method.modules()[0].weight.fill_(2.0)
        return TrainState(0, step=on_disk)

    monkeypatch.setattr(good_states, "load_all", load)
    monkeypatch.setattr(good_states, "_steps_of", lambda folder: on_disk)
    judged = Judged("rollback", TrainState(0, step=1), on_disk=Path("a-state"))
    state, weight = judged.state, judged.layer.weight
    good = weight.detach().clone()
    judged.guard.begin()
    state.step, state.left_out = 2, ("0/0/5",)
    assert not judged.guard.refuses(pending(0.5, 1.0))  # the update that breaks the weights
    with torch.no_grad():
        weight.fill_(float("nan"))
    assert judged.goes_back(pending(float("nan"), 1.0))
    assert len(loads) == loaded and state.step == (2 if loaded else 1)
    assert torch.equal(weight, torch.full((2, 2), 2.0) if loaded else good)
    assert state.left_out == judged.left_out[-1] == ("0/0/0", "0/0/1", "0/0/5")


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_weights_that_are_not_finite_are_never_saved(policy: str) -> None:
    judged = Judged(policy)
    with torch.no_grad():
        judged.layer.bias.fill_(float("inf"))
    judged.guard.look_at_weights(saving=False)
    with refused("TRAIN-002", "update 0"):
        judged.guard.look_at_weights(saving=True)


def test_finite_looks_at_every_number_of_every_float() -> None:
    assert all_finite([torch.ones(3), torch.tensor([1, 2])]) and all_finite([])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, float("inf")])])
    assert not all_finite([torch.ones(3, dtype=torch.bfloat16) * float("nan")])
