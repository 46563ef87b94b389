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
    assert "updates: 10 = 4 done + 6 to do (--max_train_epochs 1: 6 in epoch 1)" in resumed


def test_what_a_resumed_run_has_to_do_is_worked_out():
    def line(batches, epochs, start):
        lines = plan_lines(plan(batches, max_train_epochs=epochs, start=start), processes=1, max_train_epochs=epochs, start=start)
        return message(lines, "to do")

    assert line(4, 7, Start(14, 0, 4)).endswith("42 = 14 done + 28 to do (--max_train_epochs 7: 7 epochs × 4, from epoch 1 on)")
    assert line(10, 3, Start(4, 0, 6)).endswith("30 = 4 done + 26 to do (--max_train_epochs 3: 6 in epoch 1 + 2 epochs × 10)")
    assert line(10, 3, Start(10, 0, 0)).endswith("30 = 10 done + 20 to do (--max_train_epochs 3: 2 epochs × 10)")


@pytest.mark.parametrize(
    ("changes", "start", "shown"),
    [
        ({"max_train_epochs": 3}, None, "images shown: 6,000 = 2,000 per epoch × 3 epochs"),
        ({"max_train_steps": 25}, None, "images shown: about 5,000 in 25 updates"),
        ({"max_train_epochs": 3}, Start(4, 0, 6), "images shown: about 5,200 in 26 updates"),
    ],
)
def test_the_images_that_a_run_shows_are_counted(changes, start, shown):
    options = {"processes": 1, "max_train_epochs": changes.get("max_train_epochs"), "start": start}
    assert shown in plan_lines(plan(10, start=start, **changes), **options, images=2000)
    assert not any("images shown" in line for line in plan_lines(plan(10, start=start, **changes), **options))


@pytest.mark.parametrize(
    ("epochs", "shown"), [(8, "after epoch 1, 2, 3, 4, 5, 6, 7; "), (9, "after epoch 1, 2, 3, 4, 5, …, 8 (8 in all); ")]
)
def test_only_a_long_list_of_saves_is_shortened(epochs, shown):
    lines = plan_lines(plan(10, max_train_epochs=epochs, save_every_n_epochs=1), processes=1, max_train_epochs=epochs)
    assert f"saves: {shown}at the end" in lines


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
