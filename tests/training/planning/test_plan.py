"""The plan's figures, each worked out by hand."""

import pytest

from library.training.planning.plan import Start, make_plan, plan_lines
from tests.messages import message


def plan(batches: int, **changes):
    settings = dict(
        accumulation=1,
        max_train_steps=1600,
        max_train_epochs=None,
        warmup=0,
        save_every_n_epochs=None,
        save_n_epoch_ratio=None,
        save_every_n_steps=None,
    )
    return make_plan(batches, **(settings | changes))


@pytest.mark.parametrize(
    ("batches", "changes", "per_epoch", "updates", "epochs"),
    [
        (10, {"max_train_steps": 25}, 10, 25, 3),
        (10, {"max_train_epochs": 4}, 10, 40, 4),
        (10, {"max_train_epochs": 4, "accumulation": 4}, 3, 12, 4),  # 4 + 4 + 2 batches
        (10, {"max_train_steps": 7, "accumulation": 4}, 3, 7, 3),
        (1, {"max_train_steps": 5, "accumulation": 8}, 1, 5, 5),
        (7, {"max_train_steps": 7}, 7, 7, 1),
    ],
)
def test_updates_and_epochs_follow_from_batches_and_accumulation(batches, changes, per_epoch, updates, epochs):
    planned = plan(batches, **changes)
    assert (planned.updates_per_epoch, planned.updates, planned.epochs) == (per_epoch, updates, epochs)


def test_epochs_win_over_steps():
    assert plan(10, max_train_epochs=2, max_train_steps=5).updates == 20


def test_the_last_epoch_and_the_last_update_are_kept_under_the_name_of_the_end_only():
    planned = plan(10, max_train_epochs=4, save_every_n_epochs=2, save_every_n_steps=10)
    assert planned.save_epochs == (2,)
    assert planned.save_steps == (10, 20, 30)


def test_named_steps_and_epochs_from_one_on_are_kept():
    planned = plan(
        10, max_train_epochs=6, save_every_n_epochs=2, save_every_n_steps=20, save_at_steps=(7, 40, 60, 33, 7), save_from_epoch=3
    )
    assert planned.save_epochs == (4,)
    assert planned.save_steps == (7, 20, 33, 40)  # the run ends at 60
    assert planned.named_steps == {7, 33, 40}
    assert plan(10, max_train_epochs=4, save_n_epoch_ratio=4, save_from_epoch=2).save_epochs == (2, 3)
    assert plan(10, save_at_steps=(5,)).save_steps == (5,)


def test_a_ratio_of_epochs_becomes_every_so_many():
    assert plan(10, max_train_epochs=10, save_n_epoch_ratio=3).save_epochs == (3, 6, 9)
    assert plan(10, max_train_epochs=2, save_n_epoch_ratio=5).save_epochs == (1,)


def test_the_plan_says_how_its_figures_came_about():
    text = "\n".join(plan_lines(plan(10, max_train_steps=7, accumulation=4), processes=2, max_train_epochs=None))
    message(text, "updates per epoch: 3 = 10 / 4")
    message(text, "updates: 7", "--max_train_steps", "3 epochs", "1 of 3 updates")
    assert "each of 2 processes" in text


def test_one_epoch_and_one_update_are_singular():
    lines = plan_lines(plan(10, max_train_epochs=1, warmup=1), processes=1, max_train_epochs=1)
    assert "updates: 10 = 1 epoch (--max_train_epochs) × 10" in lines and "learning rate warm-up: 1 update" in lines
    resumed = plan_lines(plan(10, max_train_epochs=1), processes=1, max_train_epochs=1, start=Start(4, 0, 6))
    assert "updates: 10 (--max_train_epochs 1), 4 done and 6 to do" in resumed


@pytest.mark.parametrize("changes", [{"max_train_steps": 25}, {"max_train_epochs": 4}, {"max_train_epochs": 4, "accumulation": 4}])
def test_a_resumed_run_has_the_plan_it_had_wherever_it_was_stopped(changes):
    whole = plan(10, save_every_n_epochs=1, save_every_n_steps=3, **changes)
    for step in range(whole.updates):
        epoch, inside = divmod(step, whole.updates_per_epoch)
        start = Start(step, epoch, 10 - inside * whole.accumulation)
        assert plan(10, save_every_n_epochs=1, save_every_n_steps=3, start=start, **changes) == whole
        if step and not inside:  # stopped after the epoch's last update, before the epoch was closed
            assert plan(10, save_every_n_epochs=1, save_every_n_steps=3, start=Start(step, epoch - 1, 0), **changes) == whole


def test_the_rest_of_a_run_follows_the_new_settings():
    planned = plan(20, max_train_epochs=3, start=Start(step=4, epoch=0, batches_left=12))
    assert (planned.updates, planned.epochs) == (4 + 12 + 20 + 20, 3)
    planned = plan(20, max_train_steps=40, start=Start(step=4, epoch=0, batches_left=12))
    assert (planned.updates, planned.epochs) == (40, 3)  # 4 + 12, 20, 4
