"""What a run makes of its validations, and that processes which share the images agree on the figure of one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from library.data.batching.buckets import fill
from library.data.scan.records import scan
from library.options.groups.validation import ValidationOptions
from library.training.states.state import Standing
from library.training.step.task import DiffusionTask
from library.training.validation.measure import Validation
from library.training.validation.validation_plan import ValidationPlan
from tests.data.material import encode, photos, read, shout, tokenize


class Task(nn.Module):
    """A loss that depends on image, noise seed and caption, and remembers in which mode it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.modes: set[bool] = set()

    def evaluate(self, batch, rounds: int) -> Tensor:
        self.modes |= {self.training, self.inner.training}
        torch.rand(3)  # a module that draws
        return batch.latents.square().mean(dim=(1, 2, 3)) + (batch.seeds % 1000) / 1000 + batch.input_ids.float().mean(dim=(1, 2)) / 100


def accelerator(process: int = 0, processes: int = 1, others: Callable[[], Tensor] | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        device=torch.device("cpu"),
        process_index=process,
        num_processes=processes,
        unwrap_model=lambda task: task,
        autocast=contextlib.nullcontext,
        reduce=lambda sums, how: sums + others(),
    )


@pytest.fixture
def prepare(tmp_path: Path):
    """`prepare(accelerator, max_batches)`: five pictures in two buckets, batches of two a process."""
    photos(tmp_path / "a", 3, (96, 64))
    photos(tmp_path / "b", 2, (64, 96))
    text = "[[datasets]]\nresolution = 64\nbatch_size = 2\nenable_bucket = true\nmin_bucket_reso = 64\n"
    text += "".join(f"[[datasets.subsets]]\nimage_dir = '{tmp_path / name}'\nclass_tokens = 'a {name}'\n" for name in "ab")
    data = fill(scan(read(tmp_path, text)))
    model = SimpleNamespace(tokenizer=tokenize, moments=encode, inpaints=False)
    return lambda of, most=None: Validation.prepare(data, 3, most, model, shout, lambda batch: batch, of, workers=0)


def test_two_processes_agree_on_the_figure_of_one(prepare) -> None:
    whole = prepare(accelerator()).measure(accelerator(), Task())
    shares = [prepare(accelerator(process, 2)) for process in range(2)]
    assert sum(len(batch) for share in shares for batch in share.batches) == 6  # the odd fifth picture has a stand-in that counts nothing

    def sums(process: int) -> Tensor:
        seen = []
        of = accelerator(process, 2, lambda: torch.zeros(2, dtype=torch.float64))
        of.reduce = lambda mine, how: seen.append(mine) or mine
        shares[process].measure(of, Task())
        return seen[0]

    for process in range(2):
        found = shares[process].measure(accelerator(process, 2, lambda other=1 - process: sums(other)), Task())
        assert found == pytest.approx(whole, rel=1e-9)


def test_each_image_is_asked_at_its_own_place_in_each_rounds_share_of_the_timesteps() -> None:
    asked = SimpleNamespace(timesteps=range(100, 900), schedule=SimpleNamespace(alphas_cumprod=torch.zeros(1000)))
    batch = SimpleNamespace(seeds=torch.arange(400))
    for number in range(4):
        places, seeds = DiffusionTask._place(asked, batch, number, 4)
        assert 100 + 200 * number <= places.min() and places.max() < 300 + 200 * number
        assert len(set(places.tolist())) > 150 and len(set(seeds.tolist())) == 400  # 400 draws of 200 places meet 173 of them
        assert places.float().mean().item() == pytest.approx(200 + 200 * number, abs=10)
        assert torch.equal(DiffusionTask._place(asked, batch, number, 4)[0], places)


def test_measuring_leaves_modes_and_random_streams_as_they_were_and_repeats_itself(prepare) -> None:
    torch.manual_seed(5)
    task = Task()
    task.inner.eval()
    before = torch.get_rng_state()
    validation = prepare(accelerator())
    first, second = validation.measure(accelerator(), task), validation.measure(accelerator(), task)
    assert first == second and task.modes == {False}
    assert torch.equal(torch.get_rng_state(), before)
    assert task.training and not task.inner.training
    assert prepare(accelerator(), 1).measure(accelerator(), task) != first
    assert len(prepare(accelerator(), 1).batches) == 1


def test_only_a_lower_loss_is_better_and_no_number_is_worse_than_any() -> None:
    standing = Standing()
    for step, loss in enumerate((float("nan"), 2.0, 2.0, 1.5, float("inf"), 1.6), start=1):
        standing = standing.after(loss, step)
    assert (standing.best, standing.best_step, standing.worse, standing.last_step) == (1.5, 4, 2, 6)
    assert ValidationPlan(patience=2).enough(standing) and not ValidationPlan(patience=3).enough(standing)
    assert not ValidationPlan().enough(standing)


def plan(**given: object) -> ValidationPlan:
    return ValidationPlan.from_options(ValidationOptions(**given))


def test_intervals_act_side_by_side_and_without_any_every_epoch_is_measured() -> None:
    assert plan().due(7, 3, at_epoch_end=True) and not plan().due(8, 3, at_epoch_end=False)
    steps = plan(validate_every_n_steps=4)
    assert steps.due(8, 3, at_epoch_end=False) and not steps.due(8, 3, at_epoch_end=True)
    both = plan(validate_every_n_steps=4, validate_every_n_epochs=2)
    assert both.due(4, 1, at_epoch_end=False) and both.due(9, 2, at_epoch_end=True) and not both.due(9, 3, at_epoch_end=True)
    assert plan(early_stop_patience=2).save_best and not plan().save_best
