"""Where a save goes that finds no room: the spare folder, or a wait; and what is given up at last. No test waits: `sleep` is played."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from library.errors import UserError
from library.options.groups.saving import SavingOptions
from library.training.planning.plan import make_plan
from library.training.saving import full_disk
from library.training.saving.checkpointer import Checkpointer, FileNames, SaveKind, SaveKinds, SaveRule
from library.training.saving.full_disk import EVERY, MOST_WITH_OTHERS, FullDiskPolicy, SaveWriter
from tests.messages import message, refused

FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """A folder that takes nothing while it is `full`; `slept` are the seconds of all waits, and `then` what happens in each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.full, self.fault = folder, True, FULL
        self.slept: list[float] = []
        self.then: Callable[[], None] = lambda: None
        monkeypatch.setattr(full_disk, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.then()

    def write(self, path: Path, *_: int) -> None:
        if self.full and path.parent == self.folder:
            raise self.fault
        path.write_text("x", encoding="utf-8")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "out", monkeypatch)


def save(disk: Disk, policy: FullDiskPolicy, needed: bool = True) -> Path | None:
    return SaveWriter(policy).write(disk.folder / "a.txt", 1, disk.write, needed)


def test_a_save_that_would_be_lost_waits_for_room(disk: Disk, heard) -> None:
    def room_comes_at_the_third() -> None:
        disk.full = len(disk.slept) < 3

    disk.then = room_comes_at_the_third
    assert save(disk, FullDiskPolicy(wait=600)) == disk.folder / "a.txt" and (disk.folder / "a.txt").read_text() == "x"
    assert disk.slept == [EVERY] * 3
    message(heard.lines, "10 minutes", "--full_disk_wait")
    assert heard.text.count("waiting") == 1


def test_the_wait_ends(disk: Disk) -> None:
    with refused("DISK-002", "a.txt", "No space left", "--spare_dir"):
        save(disk, FullDiskPolicy(wait=25))
    assert disk.slept == [EVERY, EVERY, 5.0]
    disk.slept.clear()
    with pytest.raises(UserError):
        save(disk, FullDiskPolicy(wait=0))
    assert disk.slept == []


def test_the_spare_folder_takes_it_before_any_wait(disk: Disk, tmp_path: Path, heard) -> None:
    spare = tmp_path / "spare"
    writer = SaveWriter(FullDiskPolicy(spare, wait=600))
    path = disk.folder / "a.txt"
    assert writer.write(path, 1, disk.write, needed=True) == spare / "a.txt" == writer.place_of(path)
    assert disk.slept == []
    message(heard.lines, f"--spare_dir {spare}")
    disk.full = False
    assert writer.write(path, 1, disk.write, needed=True) == path == writer.place_of(path)


@pytest.mark.parametrize("needed", [False, True])
def test_a_run_that_goes_on_waits_only_for_its_last_save(disk: Disk, needed: bool) -> None:
    writer = SaveWriter(FullDiskPolicy(wait=600, go_on=True))
    if needed:
        with pytest.raises(UserError):
            writer.write(disk.folder / "a.txt", 1, disk.write, needed)
        assert len(disk.slept) == 60 and writer.missed == 0
    else:
        assert writer.write(disk.folder / "a.txt", 1, disk.write, needed) is None
        assert disk.slept == [] and writer.missed == 1


def test_what_the_system_refuses_for_another_reason_is_no_full_disk_but_may_pass_too(disk: Disk, tmp_path: Path) -> None:
    from safetensors import SafetensorError

    for fault, reason in (
        (OSError(errno.EIO, "Input/output error"), "(Input/output error)"),
        (SafetensorError('Error while serializing: I/O error: It is gone (os error 107) at path "/x/.tmpQ"'), "(It is gone)"),
    ):
        disk.fault, disk.full = fault, True
        with refused("DISK-002", "a.txt", reason, "choose another folder"):
            save(disk, FullDiskPolicy(go_on=True), needed=False)
        assert save(disk, FullDiskPolicy(tmp_path / "spare")) == tmp_path / "spare" / "a.txt"
    disk.fault = ValueError("a mistake of ours")
    with pytest.raises(ValueError, match="a mistake"):
        save(disk, FullDiskPolicy(tmp_path / "spare", wait=600))


def test_a_file_that_is_too_large_for_its_place_is_not_waited_for(disk: Disk, tmp_path: Path) -> None:
    from safetensors import SafetensorError

    for fault in (OSError(errno.EFBIG, "File too large"), SafetensorError("Error while serializing: I/O error: x (os error 27)")):
        disk.fault = fault
        with refused("DISK-002", "a.txt", "FAT32", "on another disk"):
            save(disk, FullDiskPolicy(wait=600))
        assert save(disk, FullDiskPolicy(tmp_path / "spare", wait=600)) == tmp_path / "spare" / "a.txt"
    assert disk.slept == []


def test_room_is_looked_at_before_bytes_are_written(disk: Disk) -> None:
    disk.full = False
    writer = SaveWriter(FullDiskPolicy(), free=lambda folder: 5 << 20)
    assert writer.write(disk.folder / "a.txt", 4 << 20, disk.write, needed=True)
    with refused("DISK-002", "b.txt", "4 MiB needed", "5 MiB free"):
        SaveWriter(FullDiskPolicy(), free=lambda folder: (5 << 20) - 1).write(disk.folder / "b.txt", 4 << 20, disk.write, needed=True)
    assert not (disk.folder / "b.txt").exists()


def test_other_processes_are_not_kept_waiting_until_they_are_taken_for_dead() -> None:
    saving = SavingOptions(on_full_disk="continue")
    assert FullDiskPolicy.from_options(saving) == FullDiskPolicy(None, 1800.0, True)
    assert FullDiskPolicy.from_options(saving, processes=2).wait == MOST_WITH_OTHERS < 600


def test_one_kind_that_cannot_be_written_keeps_no_other_from_it(disk: Disk) -> None:
    """The state is tried too when the product has no room, but not waited for a second time."""
    plan = make_plan(
        1, accumulation=1, warmup=0, max_train_steps=2, max_train_epochs=None, save_every_n_epochs=None, save_n_epoch_ratio=None,
        save_every_n_steps=None,
    )  # fmt: skip
    states = SaveKind(FileNames(disk.folder, "a", "-state"), lambda path, *_: path.mkdir())
    files, averages = (SaveKind(FileNames(disk.folder, name, ".pt"), disk.write) for name in ("a", "a-ema"))
    keeper = Checkpointer(plan, SaveKinds(files, averages, states), FullDiskPolicy(wait=30))
    with pytest.raises(UserError) as error:
        keeper.at_end(1, 2)
    assert ["a.pt could not" in error.value.problems[0], "a-ema.pt could not" in error.value.problems[1]] == [True, True]
    assert [path.name for path in disk.folder.iterdir()] == ["a-state"] and len(disk.slept) == 3


def test_retention_finds_what_went_elsewhere(disk: Disk, tmp_path: Path) -> None:
    plan = make_plan(
        1, accumulation=1, warmup=0, max_train_steps=4, max_train_epochs=None, save_every_n_epochs=None, save_n_epoch_ratio=None,
        save_every_n_steps=1,
    )  # fmt: skip
    spare = tmp_path / "spare"
    files = SaveKind(FileNames(disk.folder, "a", ".pt"), disk.write, SaveRule(last_n_steps=1))
    states = SaveKind(FileNames(disk.folder, "a", "-state"), lambda path, *_: disk.write(path), SaveRule(last_n_steps=1))
    keeper = Checkpointer(plan, SaveKinds(files, states=states), FullDiskPolicy(spare))
    for step in (1, 2, 3):
        disk.full = step == 1
        keeper.after_update(0, step)
        if step == 1:
            assert sorted(path.name for path in spare.iterdir()) == ["a-step00000001-state", "a-step00000001.pt"]
            assert keeper.newest_state() == keeper.state_at_step(1) == spare / "a-step00000001-state"
            assert keeper.file_at_step(1) == spare / "a-step00000001.pt"
    assert list(spare.iterdir()) == [] and keeper.newest_state() == disk.folder / "a-step00000003-state"


def test_what_to_do_meanwhile_fits_what_is_wrong(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    for fault, remedy in ((FULL, "free about"), (FileExistsError(errno.EEXIST, "File exists"), "a folder that takes files again")):
        disk.fault, disk.full = fault, True
        caplog.clear()
        with pytest.raises(UserError):
            save(disk, FullDiskPolicy(wait=60))
        assert remedy in caplog.text
