"""The requirement files and constraints.txt as values: what is pinned, for which Python and system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = "constraints.txt"
FILES = ("requirements.txt", "requirements-test.txt", "requirements-optional.txt", "requirements-cuda.txt", "examples/requirements.txt")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = ({"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
           {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
           {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"})  # fmt: skip
MACHINES = tuple({**system, "python_version": python, "python_full_version": f"{python}.9"} for python in PYTHONS for system in SYSTEMS)


@dataclass(frozen=True)
class Line:
    """One requirement with what is written after it."""

    requirement: Requirement
    comment: str  # "" or "# …"

    @property
    def name(self) -> str:
        """The package, spelt as the index spells it."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str | None:
        """The version after `==`; None where the line is a range or a bare name."""
        pins = [spec.version for spec in self.requirement.specifier if spec.operator == "==" and "*" not in spec.version]
        return pins[0] if len(pins) == 1 == len(self.requirement.specifier) else None

    def applies_to(self, machine: dict[str, str]) -> bool:
        """Whether the line counts on `machine`, one of MACHINES."""
        return self.requirement.marker is None or self.requirement.marker.evaluate(machine)


def lines_of(text: str) -> list[Line]:
    """The requirements in a file's text; comments on lines of their own are left out."""
    found = []
    for line in text.splitlines():
        code, _, comment = line.partition("#")
        if code.strip():
            found.append(Line(Requirement(code.strip()), f"# {comment.strip()}" if comment.strip() else ""))
    return found


def read(file: str, root: Path = ROOT) -> list[Line]:
    """The requirements of one of FILES, or of CONSTRAINTS."""
    return lines_of((root / file).read_text(encoding="utf-8"))


def versions(lines: list[Line], machine: dict[str, str]) -> dict[str, str | None]:
    """Package → pinned version on `machine`."""
    return {line.name: line.version for line in lines if line.applies_to(machine)}


def traps(root: Path = ROOT) -> dict[str, str]:
    """Package → bound, e.g. `<5.24`, of the table of known traps in docs/architecture.md."""
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \| `([^`]+)` \|", page, re.MULTILINE)
    return dict(rows)
