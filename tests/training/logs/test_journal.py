"""What the loop reports reaches every log with the same figures, and the times of an update add up."""

import mmap
from pathlib import Path

import pytest
import torch

from library.training.logs.event_log import EventLog, read_events
from library.training.logs.journal import Journal, memory_gib
from library.training.optim.parts.gradients import LimitedPart, clipped_norm
from library.training.step.loop_events import UpdateReport
from library.training.step.stopwatch import Stopwatch
from tests.messages import message


class Notes:
    """A log of figures that remembers."""

    failed = 0

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def log(self, step, values, epoch=None) -> None:
        self.told.append((step, epoch, dict(values)))

    def images(self, step, files) -> None:
        self.told.append((step, "images", list(files)))

    def place(self) -> str:
        return "here"

    def close(self) -> None:
        self.told.append(("closed",))


def report(step: int, **extra: float) -> UpdateReport:
    return UpdateReport(step, 0, 0.5, 0.25, 2.0, extra)


def test_every_log_gets_the_same_figures(tmp_path: Path) -> None:
    first, second = Notes(), Notes()
    journal = Journal([first, second], EventLog(tmp_path, "cat", "a"))
    journal.update(report(1, **{"lr/unet": 1e-4, "seconds/data": 1.0, "seconds/step": 2.0, "seconds/other": 1.0}))
    journal.epoch(1, 1, {"loss/epoch": 0.5})
    journal.images(1, 1, [(Path("sample/a.png"), "a cat")])
    journal.close()
    assert first.told == second.told
    (step, epoch, values), ending, images, closed = first.told
    assert (step, epoch) == (1, None)
    expected = {"loss/current": 0.5, "loss/average": 0.25, "grad_norm": 2.0, "lr/unet": 1e-4, "seconds/data": 1.0}
    assert expected.items() <= values.items() and values["memory/gib"] > 0
    assert ending == (1, 1, {"loss/epoch": 0.5})
    assert images == (1, "images", [(Path("sample/a.png"), "a cat")]) and closed == ("closed",)
    update, epoch_line, samples = read_events(tmp_path / "events.jsonl")
    assert {name: update[name] for name in expected} == expected
    assert (epoch_line["event"], epoch_line["loss/epoch"]) == ("epoch", 0.5)
    assert samples["files"] == ["a.png"]


def test_the_shares_of_the_time_are_told(tmp_path: Path) -> None:
    journal = Journal([], EventLog(tmp_path, "cat", "a"))
    assert journal.shares(3.0) == ""
    journal.update(report(1, **{"seconds/data": 1.0, "seconds/step": 6.0, "seconds/other": 1.0}))
    journal.update(report(2, **{"seconds/data": 0.0, "seconds/step": 2.0, "seconds/other": 0.0}))
    message(journal.shares(10.0), "time:", "10% waiting", "80% training", "10% saves", "memory:")
    after_the_last_update = 30.0  # which no update includes: samples and the product
    message(journal.shares(10.0 + after_the_last_update), "2% waiting", "20% training", "78% saves")
    journal.close()


def test_memory_is_what_the_process_has(tmp_path: Path) -> None:
    before = memory_gib()
    with mmap.mmap(-1, 256 << 20) as held:  # separate pages: the heap may still have what an earlier run freed
        for _ in range(256):
            held.write(bytes(1 << 20))
        assert 0.2 < memory_gib() - before < 0.4


def test_each_moment_belongs_to_one_kind_of_work() -> None:
    moments = iter([0.0, 1.0, 3.0, 3.5, 10.0])
    clock = Stopwatch("data", "step", now=lambda: next(moments))
    clock.mark("data"), clock.mark("step"), clock.mark("data")
    assert clock.take("seconds/") == {"seconds/data": 1.5, "seconds/step": 2.0}
    clock.mark("step")
    assert clock.take() == {"data": 0.0, "step": 6.5}


class Alone:
    """What `clipped_norm` needs of an accelerator."""

    device = torch.device("cpu")
    scaler = None

    def clip_grad_norm_(self, parameters, limit):
        return torch.nn.utils.clip_grad_norm_(parameters, limit)


@pytest.mark.parametrize(("limit", "left"), [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_the_norm_is_that_before_clipping_and_known_without_it(limit: float, left: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])  # the third has no gradient
    assert clipped_norm(Alone(), [LimitedPart(parameters, limit)]).tolist() == [5.0]
    now = torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None]).norm()
    assert float(now) == pytest.approx(left, abs=1e-4)


def test_a_scaled_loss_does_not_show_in_the_norm() -> None:
    class Scaled(Alone):
        class scaler:
            @staticmethod
            def is_enabled() -> bool:
                return True

            @staticmethod
            def get_scale() -> float:
                return 4.0

    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([8.0])
    assert clipped_norm(Scaled(), [LimitedPart([parameter], 0.0)]).tolist() == [2.0]
    assert parameter.grad.tolist() == [8.0]  # the scaler's to take out
