"""Folders without rights, full disks, and folders of a sync program or on a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import pytest

from library.doctor.findings import Finding
from library.doctor.folders import Place, judge_place
from library.doctor.places import cloud_of, network_of
from tests.doctor.fakes import ROOT
from tests.messages import message

IS_ROOT = getattr(os, "geteuid", lambda: 1)() == 0
POSIX = pytest.mark.skipif(os.name != "posix", reason="rights as POSIX systems have them")
NOBODY = 65534


def judged(path: Path, written: bool, **more: bool) -> list[Finding]:
    return list(judge_place(Place("--output_dir" if written else "image_dir", path, written, **more)))


def lines_of_another_user(path: Path, written: bool) -> str:
    """The findings as somebody without rights sees them; root becomes the user `nobody`."""
    code = (
        "import os, sys; from pathlib import Path; from library.doctor.folders import Place, judge_place\n"
        f"os.geteuid() == 0 and os.setuid({NOBODY})\n"
        f"for finding in judge_place(Place('place', Path({str(path)!r}), {written})): print(finding.line())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users can get to, as those of pytest cannot be."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_sound_folder_is_one_line_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert [finding.level for finding in judged(tmp_path, True)] in (["ok"], ["note"])
    (tmp_path / "a.png").write_bytes(b"a")
    assert [finding.level for finding in judged(tmp_path, False)] == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_folder_that_is_made_later_is_judged_by_the_one_around_it(tmp_path: Path) -> None:
    assert "free" in judged(tmp_path / "new" / "newer", True)[0].text
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    message(judged(tmp_path / "file" / "out", True)[0].text, tmp_path / "file", "not a folder")
    assert judged(tmp_path / "file", True, is_file=True)[0].level != "error"


@POSIX
def test_folder_without_the_right_to_write_is_a_fault(open_path: Path) -> None:
    (open_path / "closed").mkdir(mode=0o555)
    said = lines_of_another_user(open_path / "closed" / "out", True)
    assert said.startswith("error")
    message(said, open_path / "closed", "permission to write", "another place")


@POSIX
def test_images_without_the_right_to_read_are_a_fault(open_path: Path) -> None:
    (open_path / "a.png").write_bytes(b"a")
    (open_path / "b.png").write_bytes(b"b")
    (open_path / "b.png").chmod(0)
    message(lines_of_another_user(open_path, False), "permission to read", "1 of 2", "b.png")
    (open_path / "shut").mkdir(mode=0)
    message(lines_of_another_user(open_path / "shut", False), "permission to read", open_path / "shut")


def test_missing_folder_is_a_fault_unless_it_is_told_already(tmp_path: Path) -> None:
    assert judged(tmp_path / "gone", False)[0].level == "error"
    assert not judged(tmp_path / "gone", False, may_be_missing=True)


def test_link_to_nothing_beside_the_images_is_no_fault(tmp_path: Path) -> None:
    try:
        (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    except OSError:
        pytest.skip("no right to create links")
    assert [finding.level for finding in judged(tmp_path, False)] == ["ok"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = IS_ROOT and shutil.which("mount")
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_too_small_for_the_probe_is_a_fault(small_disk: Path) -> None:
    (finding,) = judged(small_disk / "out", True)
    assert finding.level == "error" and "full" in finding.text and "free some space" in finding.remedy
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize(("free", "level"), [(100 << 20, "error"), (1 << 30, "note"), (50 << 30, "ok")])
def test_room_is_judged_by_what_saves_need(free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert judged(tmp_path, True)[0].level == level


@pytest.mark.parametrize(
    ("path", "cloud"),
    [
        (PureWindowsPath(r"C:\Users\a\OneDrive\Pictures"), "OneDrive"),
        (PureWindowsPath(r"C:\Users\a\OneDrive - Firm Ltd\x"), "OneDrive"),
        (PureWindowsPath(r"D:\Dropbox (Firm)\x"), "Dropbox"),
        (PureWindowsPath(r"C:\Users\a\iCloudDrive"), "iCloud"),
        (PureWindowsPath(r"G:\My Drive\x"), "Google Drive"),
        (PurePosixPath("/Users/a/Library/Mobile Documents/com~apple~CloudDocs/x"), "iCloud"),
        (PurePosixPath("/home/a/Dropbox/x"), "Dropbox"),
        (PurePosixPath("/home/a/dropboxes/x"), None),
        (PureWindowsPath(r"C:\pictures\onedrive_backup"), None),
    ],
)
def test_synced_folders_are_known_by_name(path: PureWindowsPath | PurePosixPath, cloud: str | None) -> None:
    assert cloud_of(path, {}) == cloud


def test_synced_folder_of_any_name_is_known_by_the_programs_variable() -> None:
    variables = {"OneDriveCommercial": r"E:\Synced"}
    assert cloud_of(PureWindowsPath(r"E:\Synced\pictures"), variables) == "OneDrive"
    assert cloud_of(PureWindowsPath(r"E:\Other"), variables) is None


@pytest.mark.skipif(sys.platform == "win32", reason="mounts as Linux has them")
@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/mnt/nas/dog/out", "a network folder (nfs4)"),
        ("/mnt/my share/x", "a network folder (cifs)"),
        ("/mnt/nas/local/x", None),  # a disk mounted below the share
        ("/mnt/nasty", None),
        (r"\\server\share\dog", "a network share"),
        ("//server/share/dog", "a network share"),
        (r"\\?\UNC\server\share", "a network share"),
        (r"\\?\C:\dog", None),
    ],
)
def test_network_folders_are_known(path: str, network: str | None) -> None:
    mounts = "nas:/x /mnt/nas nfs4 rw 0 0\n//s/x /mnt/my\\040share cifs rw 0 0\n/dev/b /mnt/nas/local ext4 rw 0 0\n/dev/a / ext4 rw 0 0\n"
    assert network_of(Path(path), mounts) == network


def test_folder_of_a_sync_program_is_a_note_beside_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "OneDrive").mkdir()
    verdict, noted = judged(tmp_path / "OneDrive", True)
    assert verdict.level != "error" and noted.level == "note" and "synced by OneDrive" in noted.text
