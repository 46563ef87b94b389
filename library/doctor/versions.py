"""Compare Python and the installed packages with the versions that the suite is tested with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from library.doctor.findings import Finding, fault, note, ok
from library.paths.look import is_file, is_folder
from library.paths.opening import read_text
from library.telling.broken_torch import GET_STARTED

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUIRED = "requirements.txt"
OPTIONAL = ("requirements-optional.txt", "requirements-cuda.txt")
LOCKED = "constraints.txt"
_OLDEST, _NEWEST = (3, 10), (3, 13)
_ALTERNATIVES = {  # packages that provide the same modules
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml"),
}
_LOCAL = re.compile(r"(==[^,;+\s]+)\+[A-Za-z0-9.]+")  # of torch==2.13.0+cu130

InstalledVersion = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Wanted:
    """A package of one of the lists; `specifiers` combine those of the list and of the lock."""

    name: str
    specifiers: str
    file: str

    @property
    def required(self) -> bool:
        """Whether every run needs it."""
        return self.file == REQUIRED


def installed_version(name: str) -> str | None:
    """The version of an installed package; None if it is missing, "" if its files are incomplete."""
    try:
        return metadata.version(name) or ""
    except metadata.PackageNotFoundError:
        return None
    except Exception:  # unreadable files, or no version
        return ""


def judge_python(version: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)) -> Finding:
    """Whether the suite supports this Python."""
    shown = ".".join(map(str, version))
    if _OLDEST <= version <= _NEWEST:
        return ok(f"Python {shown}")
    return fault(f"Python {shown}, but the suite needs 3.10 to 3.13", "create a virtual environment with Python 3.11 and install there")


def judge_versions(root: Path, installed: InstalledVersion = installed_version) -> Iterator[Finding]:
    """Yield a line for each package that is missing or has another version, and one for those that are right."""
    try:
        locked = _read(root / LOCKED)
        wanted = [_wanted(line, name, locked) for name in (REQUIRED, *OPTIONAL) for line in _read(root / name).values()]
    except ImportError:
        yield fault("the package packaging is missing, so versions are not compared", "pip install packaging, then run this again")
        return
    except OSError as reason:
        yield fault(f"{reason.filename} cannot be read ({reason.strerror})", "clone the repository again", str(reason.filename))
        return
    right, missing = [], False
    for package in wanted:
        match = _find(package, installed)
        if match is None:
            missing |= package.required
            yield _missing(package, root)
        elif not _fits(match[1], package.specifiers):
            yield _another(package, match[1], root)
        else:
            right.append(" ".join(match))
    if right:
        yield ok(f"versions are correct: {', '.join(right)}")
    if missing:
        yield from _other_environment(root)
    yield from _indirect(locked, {package.name for package in wanted}, installed)


def _read(file: Path) -> dict[str, Requirement]:
    """Return the requirements of a list whose markers apply here, by canonical name; empty if the list does not exist."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    if not is_file(file) and file.name != REQUIRED:
        return {}
    requirements = {}
    for line in read_text(file, "utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*|\s--hash=.*|\\\s*$", "", line).strip()
        try:
            requirement = Requirement(_LOCAL.sub(r"\1", text))
        except InvalidRequirement:  # empty, or an option of pip
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            requirements[str(canonicalize_name(requirement.name))] = requirement
    return requirements


def _wanted(requirement: Requirement, file: str, locked: dict[str, Requirement]) -> Wanted:
    from packaging.utils import canonicalize_name

    name = str(canonicalize_name(requirement.name))
    pins = [str(one.specifier) for one in (requirement, locked.get(name)) if one is not None and str(one.specifier)]
    return Wanted(name, ",".join(dict.fromkeys(pins)), file)


def _find(package: Wanted, installed: InstalledVersion) -> tuple[str, str] | None:
    """Return (name, version) of the package or of an alternative."""
    for name in (package.name, *_ALTERNATIVES.get(package.name, ())):
        version = installed(name)
        if version is not None:
            return name, version
    return None


def _fits(version: str, specifiers: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(specifiers).contains(Version(version), prereleases=True)  # ignores +cpu and similar suffixes
    except InvalidVersion:
        return False


def _command(package: Wanted, root: Path) -> str:
    if package.name == "torch":
        return f"{GET_STARTED}, version {package.specifiers.replace('==', '')}"
    return f"pip install -r {package.file}" + (f" -c {LOCKED}" if is_file(root / LOCKED) else "")


def _missing(package: Wanted, root: Path) -> Finding:
    if package.required:
        return fault(f"{package.name} is missing", _command(package, root))
    return note(f"{package.name} is not installed (optional)")


def _another(package: Wanted, version: str, root: Path) -> Finding:
    state = f"{package.name} {version} is installed" if version else f"the files of {package.name} are incomplete"
    return fault(f"{state}, but the suite needs {package.specifiers}", _command(package, root))


def _other_environment(root: Path) -> Iterator[Finding]:
    """If packages are missing, this may not be the Python they were installed into."""
    environment = root / ".venv"
    if is_folder(environment) and Path(sys.prefix).resolve() != environment.resolve():
        start = r".venv\Scripts\python" if sys.platform == "win32" else ".venv/bin/python"
        yield note("a virtual environment exists in .venv, but another Python runs this", f"start with {start}")


def _indirect(locked: dict[str, Requirement], direct: set[str], installed: InstalledVersion) -> Iterator[Finding]:
    """Indirect dependencies: another version usually works, so they share one line."""
    others = []
    for name, requirement in locked.items():
        version = installed(name) if name not in direct else None
        if version is not None and not _fits(version, str(requirement.specifier)):
            others.append(f"{name} {version or '(incomplete)'} ({requirement.specifier})")
    if others:
        remedy = f"if something fails, pip install -r {REQUIRED} -c {LOCKED}"
        yield note(f"some dependencies are installed in another version: {', '.join(others)}", remedy)
