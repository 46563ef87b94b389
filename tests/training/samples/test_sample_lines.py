"""The line of the plan on samples has the number that a run generates, counted here as the loop asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.pictures.prompt_files import SamplePrompt
from library.training.planning.plan import RunPlan, Start, make_plan
from library.training.samples.sample_lines import sample_lines
from library.training.samples.samples import SamplePlan, Samples
from tests.messages import message

PROMPTS = (SamplePrompt("a", width=512, height=768), SamplePrompt("b"), SamplePrompt("c"))


def plan_of(updates: int) -> RunPlan:
    """Five updates an epoch."""
    return make_plan(
        5, accumulation=1, max_train_steps=updates, max_train_epochs=None, warmup=0, save_every_n_epochs=None, save_n_epoch_ratio=None,
        save_every_n_steps=None,
    )  # fmt: skip


def drawn(samples: Samples, plan: RunPlan, done: int) -> int:
    """The moments at which the loop would have samples generated."""
    count = int(samples.due_at_first(done))
    for step in range(done + 1, plan.updates + 1):
        count += samples.due(step, step // 5, False)
        if step % 5 == 0 or step == plan.updates:
            count += samples.due(step, -(-step // 5), True)
    return count


@pytest.mark.parametrize("done", [0, 10])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("steps", "epochs"), [(None, 1), (None, 2), (3, None), (1, None), (4, 3), (None, 99)])
@pytest.mark.parametrize("updates", [15, 17])
def test_the_number_is_that_of_the_run(tmp_path: Path, updates: int, steps, epochs, first: bool, done: int) -> None:
    samples, plan = Samples(PROMPTS, SamplePlan(tmp_path, None, steps, epochs, at_first=first)), plan_of(updates)
    (line,) = sample_lines(samples, plan, Start(done, done // 5, 5) if done else None)
    times = drawn(samples, plan, done)
    if times:
        assert line.startswith(f"samples: {3 * times} = 3 prompts × {times} (") and line.endswith("), 512×768, 512×512 px")
        assert ("before training" in line) == (first and not done)
    else:
        assert line.startswith("samples: none")


def test_a_prompt_without_a_size_is_pointed_out_where_training_has_another_one(tmp_path: Path) -> None:
    def line(*prompts: SamplePrompt, trained: list[tuple[int, int]]) -> str:
        samples = Samples(prompts, SamplePlan(tmp_path, None, None, 1))
        return sample_lines(samples, plan_of(5), None, trained)[0]

    small = SamplePrompt("a", width=64, height=64)
    message(line(small, SamplePrompt("b"), trained=[(64, 64)]), "512×512 px", "training is at 64×64 px", "--w 64 --h 64")
    assert line(small, trained=[(64, 64)]).endswith("64×64 px")
    for trained in ([(512, 512)], [(64, 64), (512, 512)], [(0, 0)], []):
        assert line(SamplePrompt("b"), trained=trained).endswith("512×512 px")


def test_a_run_without_samples_has_no_line(tmp_path: Path) -> None:
    assert sample_lines(None, plan_of(5), None) == [] and sample_lines(Samples((), SamplePlan(tmp_path)), plan_of(5), None) == []
