"""The exact set of files and states that a run leaves, and the most room they take, over a grid of epochs, steps and retention.

What is expected is worked out here by other means than in the library: from the whole history of a run, backwards (SPEC R2, R3).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from library.training.planning.plan import RunPlan, Start, make_plan
from library.training.saving.checkpointer import Checkpointer, FileNames, SaveKind, SaveKinds, SaveRule, names_of
from library.training.saving.disk_room import check_room, most_bytes, saves
from library.training.saving.full_disk import MARGIN, FullDiskPolicy
from tests.messages import message, refused

EPOCHS, STEPS, KEEP_EPOCHS, KEEP_STEPS = (None, 1, 2), (None, 2, 5), (None, 1, 2), (None, 0, 4)
STATES = ("no", "including saves", "at the end")


def plan_of(every_epochs: int | None, every_steps: int | None, start: Start | None = None) -> RunPlan:
    """Three epochs of 5 batches, 3 updates each."""
    return make_plan(
        5, accumulation=2, max_train_steps=1, max_train_epochs=3, warmup=0, save_every_n_epochs=every_epochs, save_n_epoch_ratio=None,
        save_every_n_steps=every_steps, start=start,
    )  # fmt: skip


def kinds_of(folder: Path, name: str | None, keep_epochs, keep_steps, states: str) -> tuple[SaveKind, ...]:
    rule = SaveRule(keep_epochs, keep_steps)
    files = SaveKind(FileNames(folder, name, ".safetensors"), lambda path, *_: path.write_bytes(b"x" * 10), rule, bytes=10)
    if states == "no":
        return (files,)
    names = FileNames(folder, name, "-state")
    rule = SaveRule(keep_epochs, keep_steps, with_saves=states == "including saves")
    return files, SaveKind(names, lambda path, *_: _state(path), rule, what="states", bytes=100)


def _state(path: Path) -> None:
    path.mkdir(exist_ok=True)
    (path / "a").write_bytes(b"x" * 100)


def play(plan: RunPlan, kinds: tuple[SaveKind, ...], until: int | None = None, start: int = 0) -> None:
    """The moments of a run as the loop has them."""
    keeper = Checkpointer(plan, SaveKinds(kinds[0], states=kinds[1] if len(kinds) > 1 else None))
    if start and start % plan.updates_per_epoch == 0:
        keeper.after_epoch(start // plan.updates_per_epoch, start)  # the epoch was left open
    for step in range(start + 1, (until or plan.updates) + 1):
        keeper.after_update(step // plan.updates_per_epoch, step)
        if step == until:
            keeper.at_stop(step // plan.updates_per_epoch, step)
            return
        if step % plan.updates_per_epoch == 0:
            keeper.after_epoch(step // plan.updates_per_epoch, step)
    keeper.at_end(plan.epochs, plan.updates)


def expected(name: str | None, every_epochs, every_steps, keep_epochs, keep_steps, states: str) -> set[str]:
    """9 updates, 3 an epoch. The last epoch and the last update have the name of the end instead of a separate one."""
    epochs = [epoch for epoch in (1, 2) if every_epochs and epoch % every_epochs == 0]
    steps = [step for step in range(1, 9) if every_steps and step % every_steps == 0]
    if keep_epochs is not None:
        epochs = epochs[-keep_epochs:]
    if keep_steps is not None:
        steps = [step for step in steps if step + keep_steps >= max(steps)]
    stems = [f"{name or 'epoch'}-{epoch:06d}" for epoch in epochs] + [f"{name or 'at'}-step{step:08d}" for step in steps]
    last = name or "last"
    names = {f"{stem}.safetensors" for stem in [*stems, last]}
    return names | {f"{stem}-state" for stem in {"no": [], "including saves": [*stems, last], "at the end": [last]}[states]}


def test_the_files_and_states_of_every_run_of_the_grid(tmp_path: Path) -> None:
    for number, choices in enumerate(itertools.product(EPOCHS, STEPS, KEEP_EPOCHS, KEEP_STEPS, STATES)):
        every_epochs, every_steps, keep_epochs, keep_steps, states = choices
        name = "cat" if number % 2 else None  # neighbours differ in `states`, of which there are three: each meets both
        folder = tmp_path / str(number)
        plan = plan_of(every_epochs, every_steps)
        play(plan, kinds_of(folder, name, keep_epochs, keep_steps, states))
        assert {path.name for path in folder.iterdir()} == expected(name, *choices), (name, choices)


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_run_that_is_stopped_keeps_its_place_and_ends_with_the_same_files(tmp_path: Path, stop: int) -> None:
    plan, kinds = plan_of(1, 2), kinds_of(tmp_path, "cat", 1, 4, "including saves")
    play(plan, kinds, until=stop)
    assert (tmp_path / f"cat-step{stop:08d}-state").is_dir() and (tmp_path / f"cat-step{stop:08d}.safetensors").is_file()
    play(plan, kinds, start=stop)
    more = set() if stop % 2 == 0 else {f"cat-step{stop:08d}.safetensors", f"cat-step{stop:08d}-state"}  # not the plan's: it stays
    assert {path.name for path in tmp_path.iterdir()} == expected("cat", 1, 2, 1, 4, "including saves") | more


def test_the_most_room_is_that_of_the_play(tmp_path: Path) -> None:
    """The most that ever exists at once, seen each time a file has come and before the old ones go."""
    for number, choices in enumerate(itertools.product(EPOCHS, STEPS, KEEP_EPOCHS, KEEP_STEPS, STATES)):
        every_epochs, every_steps, *rest = choices
        folder, seen = tmp_path / str(number), []
        folder.mkdir()
        kinds = kinds_of(folder, "cat", *rest)
        kinds = tuple(replace(kind, write=_measured(kind.write, folder, seen)) for kind in kinds)
        plan = plan_of(every_epochs, every_steps)
        play(plan, kinds)
        assert most_bytes(saves(plan, kinds)) == max(seen), choices


def _measured(write, folder: Path, seen: list[int]):
    def measured(path: Path, *moment: int) -> None:
        write(path, *moment)
        seen.append(sum(inside.stat().st_size for inside in folder.rglob("*") if inside.is_file()))

    return measured


def test_a_resumed_run_needs_room_for_what_is_left_only(tmp_path: Path) -> None:
    kinds = kinds_of(tmp_path, "cat", None, None, "including saves")
    left = list(saves(plan_of(1, 2, Start(4, 1, 3, 2)), kinds, Start(4, 1, 3, 2)))
    assert [(save.step, save.path.name) for save in left if save.kind is kinds[0]] == [
        (6, "cat-step00000006.safetensors"), (6, "cat-000002.safetensors"), (8, "cat-step00000008.safetensors"), (9, "cat.safetensors"),
    ]  # fmt: skip


def test_too_little_room_is_told_before_the_training(tmp_path: Path) -> None:
    plan, kinds = plan_of(1, None), kinds_of(tmp_path, "cat", None, None, "including saves")
    line = check_room(plan, kinds, None, FullDiskPolicy(), free=330 + MARGIN)
    message(line, "disk:", "3 files of about 10 bytes", "3 states of about 100 bytes", "1 MiB free")
    with refused("DISK-001", "--on_full_disk continue"):
        check_room(plan, kinds, None, FullDiskPolicy(), free=329 + MARGIN)
    check_room(plan, kinds, None, FullDiskPolicy(go_on=True), free=0)


@pytest.mark.parametrize(("name", "expected"), [(None, ("epoch", "at", "last", "last")), ("cat", ("cat",) * 4)])
def test_the_file_of_a_word_has_the_stem_of_the_networks(name: str | None, expected: tuple[str, ...]) -> None:
    names = FileNames(Path("out"), name, ".pt", "-my-dog")
    found = [path.name for path in (names.epoch(1), names.step(100), names.best(), names.last())]
    ends = ("-000001.pt", "-step00000100.pt", "-best.pt", ".pt")
    assert found == [f"{stem}-my-dog{end}" for stem, end in zip(expected, ends, strict=True)]
    assert all(names_of(name, ["", "-my-dog"]).fullmatch(one) for one in found)
