"""Names and retention of kept files, as exact sets over whole runs (SPEC R2)."""

from pathlib import Path

import pytest

from library.files import atomic_folder, atomic_write, tidy
from library.training.planning.plan import make_plan
from library.training.saving.checkpointer import Checkpointer, FileNames, SaveKind, SaveKinds, SaveRule, names_of
from tests.messages import message, refused


def files_of_a_run(
    folder: Path, name: str | None, batches: int, last_epochs: int | None = None, last_steps: int | None = None, states=None, **saves
):
    """Play a run's saves through a Checkpointer; returns the names left in the folder."""
    settings = dict(max_train_steps=1, max_train_epochs=None, save_every_n_epochs=None, save_n_epoch_ratio=None, save_every_n_steps=None)
    plan = make_plan(batches, accumulation=1, warmup=0, **(settings | saves))
    files = SaveKind(FileNames(folder, name, ".safetensors"), lambda path, *_: path.write_text("x"), SaveRule(last_epochs, last_steps))
    folders = None if states is None else SaveKind(FileNames(folder, name, "-state"), lambda path, *_: path.mkdir(), SaveRule(*states))
    keeper = Checkpointer(plan, SaveKinds(files, states=folders))
    for step in range(1, plan.updates + 1):
        keeper.after_update(step // batches, step)
        if step % batches == 0:
            keeper.after_epoch(step // batches, step)
    keeper.at_end(plan.epochs, plan.updates)
    return sorted(path.name for path in folder.iterdir())


def test_epochs_have_six_digits_and_steps_eight(tmp_path):
    files = files_of_a_run(tmp_path, "shs", 5, max_train_epochs=3, save_every_n_epochs=1, save_every_n_steps=4)
    assert files == sorted(
        ["shs-000001.safetensors", "shs-000002.safetensors", "shs.safetensors"] + [f"shs-step{step:08d}.safetensors" for step in (4, 8, 12)]
    )


def test_without_an_output_name_files_are_called_epoch_at_and_last(tmp_path):
    files = files_of_a_run(tmp_path, None, 5, max_train_epochs=2, save_every_n_epochs=1, save_every_n_steps=7)
    assert files == ["at-step00000007.safetensors", "epoch-000001.safetensors", "last.safetensors"]


@pytest.mark.parametrize(("keep", "left"), [(1, [8]), (2, [6, 8]), (9, [2, 4, 6, 8])])
def test_the_files_of_the_last_saved_epochs_stay(tmp_path, keep, left):
    files = files_of_a_run(tmp_path, "a", 1, last_epochs=keep, max_train_epochs=9, save_every_n_epochs=2)
    assert files == sorted([f"a-{epoch:06d}.safetensors" for epoch in left] + ["a.safetensors"])


@pytest.mark.parametrize(("keep", "left"), [(30, [20, 30, 40, 50]), (10, [40, 50]), (5, [50]), (29, [30, 40, 50])])
def test_the_files_of_the_last_updates_stay_counted_in_updates(tmp_path, keep, left):
    files = files_of_a_run(tmp_path, "a", 100, last_steps=keep, max_train_steps=55, save_every_n_steps=10)
    assert files == sorted([f"a-step{step:08d}.safetensors" for step in left] + ["a.safetensors"])


@pytest.mark.parametrize("name", ["shs", None])
def test_states_are_named_like_their_files_and_have_a_retention_of_their_own(tmp_path, name):
    saved = files_of_a_run(tmp_path, name, 5, 2, 4, states=(1, 8), max_train_epochs=4, save_every_n_epochs=1, save_every_n_steps=4)
    epoch, step, last = (name, name, name) if name else ("epoch", "at", "last")
    files = [f"{epoch}-000002", f"{epoch}-000003", f"{step}-step00000012", f"{step}-step00000016", last]
    states = [f"{epoch}-000003", f"{step}-step00000008", f"{step}-step00000012", f"{step}-step00000016", last]
    assert saved == sorted([f"{stem}.safetensors" for stem in files] + [f"{stem}-state" for stem in states])


def test_steps_that_the_command_names_stay_whatever_goes(tmp_path):
    files = files_of_a_run(tmp_path, "cat", 9, None, 3, max_train_epochs=2, save_every_n_steps=3, save_at_steps=(4, 6))
    assert files == sorted(f"cat{part}.safetensors" for part in ("-step00000004", "-step00000006", "-step00000012", "-step00000015", ""))


def test_nothing_is_removed_when_the_new_file_cannot_be_written(tmp_path):
    plan = make_plan(
        1, accumulation=1, warmup=0, max_train_steps=1, max_train_epochs=9, save_every_n_epochs=1, save_n_epoch_ratio=None,
        save_every_n_steps=None,
    )  # fmt: skip

    def write(path: Path, epoch: int, step: int) -> None:
        if epoch == 2:
            raise OSError(28, "No space left on device")
        path.write_text("x")

    keeper = Checkpointer(plan, SaveKinds(SaveKind(FileNames(tmp_path, "a", ".safetensors"), write, SaveRule(1))))
    keeper.after_epoch(1, 1)
    with refused("DISK-002", "a-000002.safetensors", "No space left"):
        keeper.after_epoch(2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a-000001.safetensors"]


def test_what_a_kill_leaves_is_tidied_up_and_nothing_of_other_runs(tmp_path):
    ours = [".cat.safetensors.0a1b2c3d.tmp", ".cat-000002.safetensors.0a1b2c3d.tmp.safetensors", ".cat-step00000100-state.0a1b2c3d.tmp",
            "..cat.ckpt.0a1b2c3d.tmp.ckpt.0a1b2c3d.tmp", ".cat-000001-state.0a1b2c3d.old"]  # fmt: skip
    others = [".cat2.safetensors.0a1b2c3d.tmp", ".cat-x.safetensors.0a1b2c3d.tmp", ".cat.safetensors.tmp", "cat.safetensors", ".hidden"]
    for name in [*ours, *others, "cat-000001-state"]:
        (tmp_path / name).mkdir() if "-state" in name else (tmp_path / name).touch()
    moved_aside = tmp_path / ".cat-000003-state.0a1b2c3d.old"  # the kill came before its successor had the name
    moved_aside.mkdir()
    assert sorted(tidy(tmp_path, names_of("cat"))) == sorted(ours)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "cat-000001-state", "cat-000003-state"}


def test_what_is_kept_at_an_update_is_not_written_again_on_demand_or_at_the_stop(tmp_path):
    plan = make_plan(
        9, accumulation=1, warmup=0, max_train_steps=9, max_train_epochs=None, save_every_n_epochs=None, save_n_epoch_ratio=None,
        save_every_n_steps=2,
    )  # fmt: skip
    written: list[str] = []

    def write(path: Path, epoch: int, step: int) -> None:
        written.append(path.name)
        path.write_text("x")

    files, states = (SaveKind(FileNames(tmp_path, "a", end), write, SaveRule(with_saves=end == ".pt")) for end in (".pt", "-state"))
    keeper = Checkpointer(plan, SaveKinds(files, states=states))
    keeper.after_update(0, 2)
    assert written == ["a-step00000002.pt"]
    for save in (keeper.on_demand, keeper.at_stop):
        save(0, 2)
        assert written == ["a-step00000002.pt", "a-step00000002-state"]
    keeper.at_stop(0, 3)
    assert written[2:] == ["a-step00000003.pt", "a-step00000003-state"]


def test_a_product_whose_name_a_program_has_open_is_saved_beside_it(tmp_path, heard, monkeypatch):
    """On Windows, where a program that shows the last run's file keeps it from being replaced."""
    monkeypatch.setattr("library.renaming.DELAYS", ())
    plan = make_plan(1, accumulation=1, warmup=0, max_train_steps=1, max_train_epochs=None, save_every_n_epochs=None,
                     save_n_epoch_ratio=None, save_every_n_steps=None)  # fmt: skip

    def write(path: Path, epoch: int, step: int) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("new", encoding="utf-8")

    def write_state(path: Path, epoch: int, step: int) -> None:
        with atomic_folder(path) as fresh:
            (fresh / "x").write_text("new", encoding="utf-8")

    (tmp_path / "cat.v1.txt").write_text("old", encoding="utf-8")
    (tmp_path / "cat.v1-state").mkdir()
    (tmp_path / "cat.v1-state" / "x").write_text("old", encoding="utf-8")
    keeper = Checkpointer(
        plan,
        SaveKinds(
            SaveKind(FileNames(tmp_path, "cat.v1", ".txt"), write), states=SaveKind(FileNames(tmp_path, "cat.v1", "-state"), write_state)
        ),
    )
    with (tmp_path / "cat.v1.txt").open("rb"), (tmp_path / "cat.v1-state" / "x").open("rb"):
        product = keeper.at_end(1, 1)
    assert product == tmp_path / "cat.v1-2.txt" and keeper.newest_state() == tmp_path / "cat.v1-2-state"
    assert product.read_text("utf-8") == (tmp_path / "cat.v1-2-state" / "x").read_text("utf-8") == "new"
    assert (tmp_path / "cat.v1.txt").read_text("utf-8") == (tmp_path / "cat.v1-state" / "x").read_text("utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 4
    message(heard.lines, "cat.v1.txt", "another program", "cat.v1-2.txt")


def test_an_outdated_state_in_use_is_told_and_stays_whole(tmp_path, heard, monkeypatch):
    monkeypatch.setattr("library.renaming.DELAYS", ())
    plan = make_plan(1, accumulation=1, warmup=0, max_train_steps=1, max_train_epochs=3, save_every_n_epochs=1, save_n_epoch_ratio=None,
                     save_every_n_steps=None)  # fmt: skip

    def write(path: Path, epoch: int, step: int) -> None:
        path.mkdir()
        for name in "abc":
            (path / name).write_text(name, encoding="utf-8")

    keeper = Checkpointer(plan, SaveKinds(SaveKind(FileNames(tmp_path, "a", "-state"), write, SaveRule(1))))
    keeper.after_epoch(1, 1)
    with (tmp_path / "a-000001-state" / "b").open("rb"):
        keeper.after_epoch(2, 2)
    assert sorted(path.name for path in (tmp_path / "a-000001-state").iterdir()) == ["a", "b", "c"]
    message(heard.lines, "a-000001-state", "--save_last_n_")
