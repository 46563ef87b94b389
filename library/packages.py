"""Which Python packages are installed, what is known about network packages, and how to install a missing one at the tested version."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path

from library.paths.look import is_file, is_folder
from library.paths.opening import read_text

CONSTRAINTS = "constraints.txt"
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class NetworkPackage:
    """What is known about a package of network modules (--network_module) before it is imported."""

    install: str  # the name to install it by
    is_ours: bool = False  # checks its own arguments and files, reads files of any name, merges at the requested strength
    writes_tensors: bool = False  # writes named tensors, to which others can be added
    knows_float8: bool = False  # patches layers with float8 weights


_NETWORK_PACKAGES = {
    "networks": NetworkPackage(
        "", is_ours=True, writes_tensors=True, knows_float8=True
    ),  # this suite; a new kind of network is a new file there
    "lycoris": NetworkPackage("lycoris-lora", writes_tensors=True),
}

# modules of this suite that differ in each update, and why
_NEVER_THE_SAME = {"networks.dylora": "draws another rank in each update"}

# modules of this suite that train more than a product of two matrices, and what
_MORE_THAN_A_PRODUCT = {"networks.dora": "sizes of weights (networks.dora)"}


def more_than_a_product(module: str) -> str | None:
    """What a network module trains besides a product of two matrices; None if nothing else or unknown."""
    return _MORE_THAN_A_PRODUCT.get(module)


def why_not_compiled(module: str) -> str | None:
    """Why a network module cannot be compiled once for all updates; None if it can."""
    return _NEVER_THE_SAME.get(module)


def network_package(module: str) -> NetworkPackage:
    """What is known about the package of a dotted module name; of an unknown package only its name."""
    root = module.partition(".")[0]
    return _NETWORK_PACKAGES.get(root, NetworkPackage(root))


def install_command(package: str) -> str:
    """`pip install -c constraints.txt PACKAGE` for a package with a locked version, otherwise `pip install PACKAGE`."""
    return f"pip install -c {CONSTRAINTS} {package}" if _plain(package) in _locked() else f"pip install {package}"


def missing_module(name: str) -> str | None:
    """Return the first part of a dotted module name that cannot be imported, found without importing any part; None if all can."""
    root, *below = name.split(".")
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return root
    if spec is None:
        return root
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if places and not any(is_folder(place) for place in places):
        return None  # a zip archive
    for depth, part in enumerate(below, 2):
        matching = [place / part for place in places if _is_module_in(place, part)]
        if not matching and ".".join([root, *below][:depth]) not in sys.modules:
            return ".".join([root, *below][:depth])
        places = matching
    return None


def _is_module_in(folder: Path, name: str) -> bool:
    return bool(name) and (is_folder(folder / name) or any(is_file(folder / f"{name}{suffix}") for suffix in all_suffixes()))


@cache
def _locked() -> frozenset[str]:
    """The names in constraints.txt; empty if the suite is installed without its clone."""
    try:
        text = read_text(_ROOT / CONSTRAINTS, "utf-8")
    except OSError:
        return frozenset()
    return frozenset(_plain(line.partition("==")[0]) for line in text.splitlines() if "==" in line and not line.startswith("#"))


def _plain(name: str) -> str:
    """The name as the package index compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
