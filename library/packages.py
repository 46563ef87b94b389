"""How a missing Python package is installed at the version that this suite is tested with."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

CONSTRAINTS = "constraints.txt"
_ROOT = Path(__file__).resolve().parents[1]


def install_command(package: str) -> str:
    """`pip install -c constraints.txt PACKAGE` for a package with a locked version, otherwise `pip install PACKAGE`."""
    return f"pip install -c {CONSTRAINTS} {package}" if _plain(package) in _locked() else f"pip install {package}"


@cache
def _locked() -> frozenset[str]:
    """The names in constraints.txt; none where the suite is installed without its clone."""
    try:
        text = (_ROOT / CONSTRAINTS).read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(_plain(line.partition("==")[0]) for line in text.splitlines() if "==" in line and not line.startswith("#"))


def _plain(name: str) -> str:
    """The name as the index compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
