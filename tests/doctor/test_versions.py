"""Installed packages against the lists: real dist-info folders, lists of our own."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from library.doctor.findings import Finding
from library.doctor.versions import installed_version, judge_python, judge_versions
from tests.doctor.fakes import distribution
from tests.messages import message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text("# what training needs\nsound-one==1.2  # a remark\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages in front of the real ones."""
    folder = tmp_path / "site"
    distribution(folder, "sound-one", "1.2")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def add(root: Path, name: str, text: str) -> None:
    with (root / name).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def judged(root: Path, level: str) -> list[Finding]:
    return [finding for finding in judge_versions(root) if finding.level == level]


def test_right_versions_are_one_line(root: Path, site: Path) -> None:
    (finding,) = judge_versions(root)
    assert finding.level == "ok" and "sound-one 1.2" in finding.text


def test_missing_required_package_is_a_fault_and_a_missing_optional_one_a_note(root: Path, site: Path) -> None:
    add(root, "requirements.txt", "no-such-package>=2")
    add(root, "requirements-cuda.txt", "no-such-extra==0.0.35")
    (wrong,), (noted,) = judged(root, "error"), judged(root, "note")
    message(wrong.line(), "error", "no-such-package", "pip install -r requirements.txt")
    message(noted.text, "no-such-extra", "optional")


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-optional.txt"])
def test_another_version_is_a_fault_with_the_command_that_mends_it(file: str, root: Path, site: Path) -> None:
    distribution(site, "other-one", "2.0")
    add(root, file, "other-one==2.1")
    add(root, "constraints.txt", "sound-one==1.2")
    (wrong,) = judged(root, "error")
    message(wrong.text, "other-one 2.0", "==2.1")
    assert wrong.remedy == f"pip install -r {file} -c constraints.txt"


def test_pin_of_the_lock_counts_for_a_range_of_the_list(root: Path, site: Path) -> None:
    distribution(site, "other-one", "2.5")
    add(root, "requirements.txt", "other-one>=2,<3")
    assert not judged(root, "error")
    add(root, "constraints.txt", "other_one==2.4 ; python_version >= '3'\n    # via sound-one")
    (wrong,) = judged(root, "error")
    message(wrong.text, "other-one 2.5", "<3,>=2,==2.4")


@pytest.mark.parametrize(("installed", "pin"), [("2.13.0+cpu", "==2.13.0"), ("2.13.0+cu130", "<=2.13.0"), ("2.13.0+cpu", "==2.13.0+cu130")])
def test_build_of_a_version_is_that_version(installed: str, pin: str, root: Path, site: Path) -> None:
    distribution(site, "other-one", installed)
    add(root, "requirements.txt", f"other-one{pin}")
    assert not judged(root, "error")


def test_lines_for_another_python_or_system_do_not_count(root: Path, site: Path) -> None:
    add(root, "requirements.txt", 'no-such-package==1 ; python_version < "3"\nnor-this==1 ; sys_platform == "amiga"')
    assert not judged(root, "error")


def test_package_that_does_the_same_is_as_good(root: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(root, "requirements.txt", "opencv-python>=4.10,<6")
    only_headless = {"sound-one": "1.2", "opencv-python-headless": "4.12"}
    assert [finding.level for finding in judge_versions(root, only_headless.get)] == ["ok"]


def test_another_version_of_what_packages_bring_along_is_one_note(root: Path, site: Path) -> None:
    distribution(site, "beneath-it", "1.0")
    add(root, "constraints.txt", "sound-one==1.2\nbeneath-it==1.1\nnot-installed==3")
    (noted,) = judged(root, "note")
    assert "another version" in noted.text and "beneath-it 1.0 (==1.1)" in noted.text
    assert not judged(root, "error")


def test_package_without_its_files_is_a_fault(root: Path, site: Path) -> None:
    (site / "half_one-1.0.dist-info").mkdir()
    (site / "half_one-1.0.dist-info" / "METADATA").write_text("", encoding="utf-8")
    add(root, "requirements.txt", "half-one==1.0")
    (wrong,) = judged(root, "error")
    message(wrong.text, "half-one", "incomplete")


def test_without_packaging_there_is_a_clear_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "packaging"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging", None)
    (wrong,) = judge_versions(root)
    assert wrong.level == "error" and "packaging is missing" in wrong.text and wrong.remedy.startswith("pip install packaging")


def test_other_virtual_environment_is_named_where_packages_are_missing(root: Path, site: Path) -> None:
    add(root, "requirements.txt", "no-such-package==1")
    assert not judged(root, "note")
    (root / ".venv").mkdir()
    (noted,) = judged(root, "note")
    assert ".venv" in noted.text and "start with .venv" in noted.remedy


def test_lists_of_the_repository_are_read_whole() -> None:
    right = next(finding.text for finding in judge_versions(Path(__file__).parents[2]) if finding.level == "ok")
    for name in ("torch", "diffusers", "numpy", "toml", "voluptuous"):
        assert f"{name} {metadata.version(name)}" in right
    assert installed_version("no-such-package") is None


@pytest.mark.parametrize(("version", "level"), [((3, 9), "error"), ((3, 10), "ok"), ((3, 13), "ok"), ((3, 14), "error")])
def test_python_is_one_that_the_suite_is_made_for(version: tuple[int, int], level: str) -> None:
    assert judge_python(version).level == level
